//! Texts as other programs write them run as they are: each is checked in the emulator.

use cotangent::kernel::check::check_on;
use cotangent::kernel::kernels;
use cotangent::{Backend, Dtype, Indices, Session, differentiable};

/// One element at a time through a reference, a macro, a block of its own and an enum.
#[differentiable(inference_only = "a text", grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7), (N = 131)])]
#[allow(clippy::too_many_arguments)]
fn words_of_the_language(x: In![f32; N], y: Out![f32; N], z: Out![f32; N]) {
    metal! {
        #define SQUARE(v) ((v) * (v))
        #define STORE(i, v) z[i] = v
        enum Mode { PLAIN = 1 };
        enum class Step : int { Add, Multiply };
        int N = x_shape[0]; //!< the same as the dimension
        uint i = thread_position_in_grid.x;
        { float x = 1.0f; (void)x; }
        Step step = Step::Multiply; /*! a step */ ///< behind it
        device float& r = y[i];
        r = step == Step::Multiply ? x[i] - -x[N - 1 - int(i)] : float(PLAIN);
        STORE(i, SQUARE(x[i]));
    }
}

/// Pointers that are moved to their row, and written as vectors.
#[differentiable(inference_only = "a text", grid = (2, B, 1), threads = (2, 1, 1), cases = [(B = 3)])]
fn moved_pointers(X: In![f32; B, 8], Y: Out![f32; B, 8]) {
    metal! {
        uint b = thread_position_in_grid.y, j = thread_position_in_grid.x;
        X += b * 8;
        Y += b * 8;
        ((device float4*)Y)[j] = ((const device float4*)X)[j];
    }
}

/// Float atomics through a pointer of their type.
#[differentiable(inference_only = "a text", grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)], init = 0.0)]
fn summed_through_a_pointer(x: In![f32; N], total: Out![f32; 1]) {
    metal! {
        uint i = thread_position_in_grid.x;
        device atomic_float* sum = (device atomic_float*)total;
        atomic_fetch_add_explicit(sum, x[i], memory_order_relaxed);
    }
}

/// Integers of every width in, several out and no float.
#[differentiable(inference_only = "a text", grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)])]
fn widths<U: U64>(
    a: In![i8; N],
    b: In![u8; N],
    c: In![i16; N],
    d: In![u16; N],
    e: In![i64; N],
    f: In![U; N],
    sum: Out![i64; N],
    bytes: Out![u8; N],
) {
    metal! {
        uint i = thread_position_in_grid.x;
        sum[i] = long(a[i]) + b[i] + c[i] + d[i] + e[i] + long(f[i]);
        bytes[i] = b[i];
    }
}

#[test]
fn each_runs_clean() {
    let _session = Session::new().unwrap();
    for kernel in kernels() {
        let report = check_on(Backend::Emulated, kernel).unwrap_or_else(|error| panic!("{error}"));
        assert!(report.passed(), "{report}");
    }
}

#[test]
fn integers_have_the_width_that_is_asked_for() {
    for (dtype, largest) in [
        (Dtype::I8, 127),
        (Dtype::U8, 255),
        (Dtype::I16, 32_767),
        (Dtype::U16, 65_535),
        (Dtype::I32, 2_147_483_647),
        (Dtype::U32, 4_294_967_295),
        (Dtype::I64, i64::MAX),
        (Dtype::U64, i64::MAX),
    ] {
        assert_eq!(Indices::from_integers(&[0, largest], dtype, &[2]).unwrap().dtype(), dtype);
        if let Some(beyond) = largest.checked_add(1) {
            assert!(Indices::from_integers(&[beyond], dtype, &[1]).is_err(), "{dtype}");
        }
    }
    assert!(Indices::from_integers(&[1], Dtype::F32, &[1]).is_err());
    assert!(Indices::from_integers(&[1, 2], Dtype::I8, &[3]).is_err());
}
