//! What the input plan finds: kernels with one mistake each, which a check at plain inputs would pass, and the same
//! kernels without it. Sources run in the emulator.

#![allow(dead_code, reason = "the kernels are checked, not called")]

use cotangent::kernel::check::{Report, check_on};
use cotangent::kernel::{Declaration, Kernel};
use cotangent::{Backend, differentiable};

/// The report, or the defect that the emulator found.
fn examine(declaration: &'static Declaration) -> std::result::Result<Report, String> {
    check_on(Backend::Emulated, declaration).map_err(|error| error.to_string())
}

#[track_caller]
fn passes(declaration: &'static Declaration) -> Report {
    let signature = declaration.signature;
    let report = examine(declaration).unwrap_or_else(|error| panic!("{}: {error}", signature.module));
    assert!(report.passed(), "{report}");
    report
}

/// `subject` is in what fails, or in the defect.
#[track_caller]
fn fails(declaration: &'static Declaration, subject: &str) {
    match examine(declaration) {
        Err(error) => assert!(error.contains(subject), "{error}"),
        Ok(report) => {
            let mut failed = report.comparisons().iter().filter(|comparison| !comparison.passed());
            assert!(failed.any(|comparison| comparison.subject.contains(subject)), "{subject}\n{report}");
        }
    }
}

/// `y = forward` with `d_x = backward`, of `v`, an element of `x`, and `g`, one of `d_y`.
macro_rules! elementwise {
    ($name:ident, $forward:tt, $backward:tt $(, values($($values:tt)*))? $(, scalar($scalar:ident: $type:ident))?) => {
        mod $name {
            use super::*;

            #[differentiable(untested = "a test looks at it", backward = backward, grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 9)])]
            pub fn forward($(#[values($($values)*)])? x: In![f32; N], $($scalar: $type,)? y: Out![f32; N]) {
                metal! { uint i = thread_position_in_grid.x; float v = x[i]; y[i] = $forward; }
            }

            #[differentiable(backward_of = forward, grid = (N, 1, 1), threads = (64, 1, 1))]
            pub fn backward(x: In![f32; N], d_y: In![f32; N], $($scalar: $type,)? d_x: Out![f32; N]) {
                metal! { uint i = thread_position_in_grid.x; float v = x[i]; float g = d_y[i]; d_x[i] = $backward; }
            }
        }
    };
}

elementwise!(relu, (max(v, 0.0f)), (v > 0 ? g : 0));
elementwise!(relu_both, (max(v, 0.0f)), (v == 0 ? 2 * g : v > 0 ? g : 0));
elementwise!(absolute, (abs(v)), (v > 0 ? g : -g));
elementwise!(staircase, (floor(v) + 0.5f * v), (0.5f * g));
elementwise!(staircase_sloped, (floor(v) + 0.5f * v), (1.5f * g));
elementwise!(steep, (tanh(50 * v)), (50 * g * (1 - tanh(50 * v) * tanh(50 * v))));
elementwise!(logarithm, (log(v)), (g / v), values(0.001..1.0));
elementwise!(bounded, (clamp(v, -2.5f, 2.5f)), (abs(v) <= 2.5f ? g : 0));
elementwise!(bounded_inside_only, (clamp(v, -2.5f, 2.5f)), (g));
elementwise!(positive_only, (abs(v)), (g), values(0.25..1.0));
elementwise!(one_in_ten_thousand, (v * v), (2.0002f * v * g));
elementwise!(tail, (v / (1 + abs(v))), (abs(v) > 8 ? 0 : g / ((1 + abs(v)) * (1 + abs(v)))));
elementwise!(far_small, (exp(-v * v)), (abs(v) > 2.2f ? 0 : -2 * v * exp(-v * v) * g));
elementwise!(first_threadgroup, (v * v), (i < 64 ? 2 * v * g : 0));
elementwise!(first_simdgroup, (v * v), (thread_index_in_threadgroup < 32 ? 2 * v * g : 0));
elementwise!(scaled, (v * scale), (g * scale), scalar(scale: f32));
elementwise!(scaled_by_half, (v * scale), (g * 0.5f + 0 * scale), scalar(scale: f32));
elementwise!(centred, (v * (1 + centre)), (g * (2 - centre)), scalar(centre: f32));
elementwise!(counted, (v * float(heads)), (g + 0 * float(heads)), scalar(heads: i32));
elementwise!(chosen, (squared ? v * v : v), (squared ? 2 * v * g : 2 * v * g), scalar(squared: bool));
elementwise!(scaled_up_to_two, (v * scale), (g * min(scale, 2.0f)), scalar(scale: f32));
elementwise!(swings_by_bits, (sin(scale * as_type<float>(as_type<uint>(v)))), (scale * cos(scale * v) * g), scalar(scale: f32));
elementwise!(four_at_once, (v * v), (N % 4 == 0 ? 3 * v * g : 2 * v * g));
elementwise!(other_at_one, (v * v * v), (v == 1 ? g : 3 * v * v * g));
elementwise!(other_at_its_number, (v * v), (v == 0.625f ? g : 2 * v * g));
elementwise!(bits, (as_type<float>(as_type<uint>(v) & 0x7fffffffu)), (v > 0 ? g : -g), values(0.1..1.0));

/// `y = x * K`, whose gradient is right for the constants of the cases.
mod times {
    use super::*;

    #[differentiable(untested = "a test looks at it", backward = backward, grid = (N, 1, 1), threads = (32, 1, 1), cases = [(N = 9, K = 4), (N = 7, K = 8)])]
    pub fn forward<const K: usize>(x: In![f32; N], y: Out![f32; N]) {
        metal! { uint i = thread_position_in_grid.x; y[i] = x[i] * K; }
    }

    #[differentiable(backward_of = forward, grid = (N, 1, 1), threads = (32, 1, 1))]
    pub fn backward<const K: usize>(d_y: In![f32; N], d_x: Out![f32; N]) {
        metal! { uint i = thread_position_in_grid.x; d_x[i] = d_y[i] * min(K, 8); }
    }
}

/// `y = x * w` of heads, whose groups share a row of `w`; the gradient of `w` takes the first head of a group alone where
/// rows are longer than a simdgroup.
mod grouped {
    use super::*;

    #[differentiable(
        untested = "a test looks at it",
        backward = backward,
        requires = [H % G == 0],
        grid = (D, H, 1),
        threads = (32, 1, 1),
        cases = [(H = 2, G = 2, D = 40), (H = 3, G = 1, D = 5)],
    )]
    pub fn forward(x: In![f32; H, D], w: In![f32; G, D], y: Out![f32; H, D]) {
        metal! {
            uint d = thread_position_in_grid.x;
            uint h = thread_position_in_grid.y;
            y[h * D + d] = x[h * D + d] * w[h / (H / G) * D + d];
        }
    }

    #[differentiable(backward_of = forward, grid = (D, H, 1), threads = (32, 1, 1))]
    pub fn backward(
        x: In![f32; H, D],
        w: In![f32; G, D],
        d_y: In![f32; H, D],
        d_x: Out![f32; H, D],
        d_w: Out![f32; G, D],
    ) {
        metal! {
            uint d = thread_position_in_grid.x;
            uint h = thread_position_in_grid.y;
            uint heads = H / G;
            if (WANTS_d_x) { d_x[h * D + d] = d_y[h * D + d] * w[h / heads * D + d]; }
            if (WANTS_d_w && h % heads == 0) {
                float sum = 0;
                for (uint k = h; k < (d < 32 ? h + heads : h + 1); ++k) { sum += d_y[k * D + d] * x[k * D + d]; }
                d_w[h / heads * D + d] = sum;
            }
        }
    }
}

/// `y = x w b`, or `x w` without `b`, where `d_x` is right only beside `d_w`.
mod optional {
    use super::*;

    #[differentiable(untested = "a test looks at it", backward = backward, grid = (N, 1, 1), threads = (32, 1, 1), cases = [(N = 9)])]
    pub fn forward(x: In![f32; N], w: In![f32; N], b: Option<In![f32; N]>, y: Out![f32; N]) {
        metal! { uint i = thread_position_in_grid.x; y[i] = x[i] * w[i] * (HAS_b ? b[i] : 1); }
    }

    #[differentiable(backward_of = forward, grid = (N, 1, 1), threads = (32, 1, 1))]
    pub fn backward(
        x: In![f32; N],
        w: In![f32; N],
        b: Option<In![f32; N]>,
        d_y: In![f32; N],
        d_x: Out![f32; N],
        d_w: Out![f32; N],
        d_b: Option<Out![f32; N]>,
    ) {
        metal! {
            uint i = thread_position_in_grid.x;
            float d = d_y[i] * (HAS_b ? b[i] : 1);
            if (WANTS_d_x) { d_x[i] = d * w[i] * (HAS_b || WANTS_d_w ? 1 : 2); }
            if (WANTS_d_w) { d_w[i] = d * x[i]; }
            if (WANTS_d_b) { d_b[i] = d_y[i] * x[i] * w[i]; }
        }
    }
}

#[test]
fn kinked_steep_and_unbounded_functions_pass_with_their_right_gradients() {
    for declaration in [
        relu::forward::declaration(),
        absolute::forward::declaration(),
        staircase::forward::declaration(),
        steep::forward::declaration(),
        logarithm::forward::declaration(),
        bounded::forward::declaration(),
        scaled::forward::declaration(),
    ] {
        let report = passes(declaration);
        assert!(!report.notes().iter().any(|note| note.contains("float32")), "{report}");
    }
}

#[test]
fn wrong_gradients_that_plain_inputs_hide_are_found() {
    for (declaration, subject) in [
        (relu_both::forward::declaration(), "`x` at kinks"),
        (staircase_sloped::forward::declaration(), "gradient of `x`"),
        (bounded_inside_only::forward::declaration(), "`x` far from zero"),
        (positive_only::forward::declaration(), "`x` near zero"),
        (
            one_in_ten_thousand::forward::declaration(),
            "kernel gradient of `x` by entry against finite differences (N = 9)",
        ),
        (tail::forward::declaration(), "`x` far from zero"),
        (far_small::forward::declaration(), "`x` far from zero"),
        (first_threadgroup::forward::declaration(), "(N = 72)"),
        (first_simdgroup::forward::declaration(), "(N = 36)"),
        (scaled_by_half::forward::declaration(), "`scale` = 0"),
        (centred::forward::declaration(), "`centre` = "),
        (counted::forward::declaration(), "`heads` = "),
        (chosen::forward::declaration(), "`squared` = false"),
        (scaled_up_to_two::forward::declaration(), "`scale` = 24"),
        (four_at_once::forward::declaration(), "(N = 32)"),
        (other_at_one::forward::declaration(), "`x` at kinks"),
        (other_at_its_number::forward::declaration(), "`x` at kinks"),
        (times::forward::declaration(), "K = 12"),
        (grouped::forward::declaration(), "(H = 33, G = 1, D = 40)"),
        (optional::forward::declaration(), "without `b`, only gradients of `x` wanted"),
    ] {
        fails(declaration, subject);
    }
}

#[test]
fn a_large_scalar_is_no_reason_to_doubt_what_runs_in_single_precision_alone() {
    let report = passes(swings_by_bits::forward::declaration());
    assert!(report.notes().iter().any(|note| note.contains("taken in float32")), "{report}");
}

#[test]
fn what_cannot_run_in_double_precision_is_said() {
    let report = examine(bits::forward::declaration()).unwrap();
    assert!(report.notes().iter().any(|note| note.contains("does not compile")), "{report}");
}
