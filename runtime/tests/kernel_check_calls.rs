//! What the input plan finds in how kernels are called: wanted gradients, layouts, optional inputs, indices, masks,
//! constants, residuals. Each kernel stands here right and with one mistake; sources run in the emulator.

#![allow(dead_code, reason = "the kernels are checked, not called")]

use cotangent::kernel::check::check_on;
use cotangent::kernel::{Declaration, Kernel};
use cotangent::{Backend, differentiable};

/// The failures, and what the emulator found, a line each.
fn failures(declaration: &'static Declaration) -> String {
    match check_on(Backend::Emulated, declaration) {
        Err(error) => error.to_string(),
        Ok(report) => {
            assert!(!report.comparisons().is_empty(), "{report}");
            let failed = report.comparisons().iter().filter(|comparison| !comparison.passed());
            failed.map(|comparison| format!("{}\n", comparison.subject)).collect()
        }
    }
}

/// `y = exp(x w)`; the gradient of `x` reads `common`, which is set for any gradient, or for that of `w` alone.
macro_rules! products {
    ($name:ident, $common:tt) => {
        mod $name {
            use super::*;

            #[differentiable(untested = "a test looks at it", backward = backward, grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)])]
    pub fn forward(x: In![f32; N], w: In![f32; N], y: Out![f32; N]) {
                metal! { uint i = thread_position_in_grid.x; y[i] = exp(x[i] * w[i]); }
            }

            #[differentiable(backward_of = forward, grid = (N, 1, 1), threads = (64, 1, 1))]
            pub fn backward(
        x: In![f32; N],
        w: In![f32; N],
        y: In![f32; N],
        d_y: In![f32; N],
        d_x: Out![f32; N],
        d_w: Out![f32; N],
            ) {
                metal! {
                    uint i = thread_position_in_grid.x;
                    float common = $common;
                    if (WANTS_d_w) { d_w[i] = d_y[i] * y[i] * x[i]; }
                    if (WANTS_d_x) { d_x[i] = common * w[i]; }
                }
            }
        }
    };
}
products!(wants_each, (d_y[i] * y[i]));
products!(wants_both, (WANTS_d_w ? d_y[i] * y[i] : 0));

/// `y = x w` of rows, strided; `$x`, `$w` and `$g` are places in `x`, `w` and `d_y`.
macro_rules! strided {
    ($name:ident, $x:tt, $w:tt, $g:tt) => {
        mod $name {
            use super::*;

            #[differentiable(
                        untested = "a test looks at it",
                        backward = backward, strided, grid = (D, B, 1), threads = (32, 1, 1), cases = [(B = 3, D = 5)],
                            )]
    pub fn forward(x: In![f32; B, D], w: In![f32; D], y: Out![f32; B, D]) {
                metal! {
                    uint j = thread_position_in_grid.x;
                    uint b = thread_position_in_grid.y;
                    y[b * D + j] = x[b * x_strides[0] + j * x_strides[1]] * w[j * w_strides[0]];
                }
            }

            #[differentiable(backward_of = forward, strided, grid = (D, 1, 1), threads = (32, 1, 1))]
            pub fn backward(
        x: In![f32; B, D],
        w: In![f32; D],
        d_y: In![f32; B, D],
        d_x: Out![f32; B, D],
        d_w: Out![f32; D],
            ) {
                metal! {
                    uint j = thread_position_in_grid.x;
                    float sum = 0;
                    for (int b = 0; b < B; ++b) {
                        float g = d_y[$g];
                        d_x[b * D + j] = g * w[$w];
                        sum += g * x[$x];
                    }
                    d_w[j] = sum;
                }
            }
        }
    };
}
strided!(
    strides_all,
    (b * x_strides[0] + j * x_strides[1]),
    (j * w_strides[0]),
    (b * d_y_strides[0] + j * d_y_strides[1])
);
strided!(strides_of_x_left_out, (b * D + j), (j * w_strides[0]), (b * d_y_strides[0] + j * d_y_strides[1]));
strided!(
    stride_of_w_taken_for_one,
    (b * x_strides[0] + j * x_strides[1]),
    (j),
    (b * d_y_strides[0] + j * d_y_strides[1])
);
strided!(rows_of_cotangent_assumed, (b * x_strides[0] + j * x_strides[1]), (j * w_strides[0]), (b * D + j));

/// A product of up to four factors, `$slip` is what the first gradient is multiplied with.
macro_rules! optional {
    ($name:ident, $slip:tt) => {
        mod $name {
            use super::*;

            #[differentiable(untested = "a test looks at it", backward = backward, grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 5)])]
            pub fn forward(
        x: In![f32; N],
        a: Option<In![f32; N]>,
        b: Option<In![f32; N]>,
        c: Option<In![f32; N]>,
        y: Out![f32; N],
            ) {
                metal! {
                    uint i = thread_position_in_grid.x;
                    float v = x[i];
                    if (HAS_a) { v *= a[i]; }
                    if (HAS_b) { v *= b[i]; }
                    if (HAS_c) { v *= c[i]; }
                    y[i] = v;
                }
            }

            #[differentiable(backward_of = forward, grid = (N, 1, 1), threads = (64, 1, 1))]
            pub fn backward(
        x: In![f32; N],
        a: Option<In![f32; N]>,
        b: Option<In![f32; N]>,
        c: Option<In![f32; N]>,
        d_y: In![f32; N],
        d_x: Out![f32; N],
        d_a: Option<Out![f32; N]>,
        d_b: Option<Out![f32; N]>,
        d_c: Option<Out![f32; N]>,
            ) {
                metal! {
                    uint i = thread_position_in_grid.x;
                    float p = 1;
                    float q = 1;
                    float r = 1;
                    if (HAS_a) { p = a[i]; }
                    if (HAS_b) { q = b[i]; }
                    if (HAS_c) { r = c[i]; }
                    float g = d_y[i];
                    d_x[i] = g * p * q * r * $slip;
                    d_a[i] = g * x[i] * q * r;
                    d_b[i] = g * x[i] * p * r;
                    d_c[i] = g * x[i] * p * q;
                }
            }
        }
    };
}
optional!(factors, 1);
optional!(factors_with_one_pair_missed, (HAS_a && !HAS_b && HAS_c ? 0 : 1));

/// Rows of a table; the gradient is `$operation` of what several indices bring to one row.
macro_rules! gather {
    ($name:ident, $sum:tt) => {
        mod $name {
            use super::*;

            #[differentiable(untested = "a test looks at it", backward = backward, grid = (D, B, 1), threads = (32, 1, 1), cases = [(B = 3, V = 61, D = 2)])]
            pub fn forward(#[values(0..V)] rows: In![i32; B], table: In![f32; V, D], y: Out![f32; B, D]) {
                metal! {
                    uint j = thread_position_in_grid.x;
                    uint b = thread_position_in_grid.y;
                    y[b * D + j] = table[rows[b] * D + j];
                }
            }

            #[differentiable(backward_of = forward, grid = (D, V, 1), threads = (32, 1, 1))]
            pub fn backward(
                rows: In![i32; B],
                table: In![f32; V, D],
                d_y: In![f32; B, D],
                d_table: Out![f32; V, D],
            ) {
                metal! {
                    (void)table;
                    uint j = thread_position_in_grid.x;
                    uint v = thread_position_in_grid.y;
                    float sum = 0;
                    for (int b = 0; b < B; ++b) {
                        if (uint(rows[b]) == v) { $sum; }
                    }
                    d_table[v * D + j] = sum;
                }
            }
        }
    };
}
gather!(gathered, (sum += d_y[b * D + j]));
gather!(gathered_last, (sum = d_y[b * D + j]));

/// The mean of what a mask keeps of each row; a row that keeps nothing gives zero, and its gradient is `$nothing`.
macro_rules! masked {
    ($name:ident, $nothing:tt) => {
        mod $name {
            use super::*;

            #[differentiable(untested = "a test looks at it", backward = backward, grid = (B, 1, 1), threads = (32, 1, 1), cases = [(B = 2, D = 7)])]
    pub fn forward(x: In![f32; B, D], keep: In![bool; B, D], y: Out![f32; B]) {
                metal! {
                    uint b = thread_position_in_grid.x;
                    float sum = 0;
                    int count = 0;
                    for (int j = 0; j < D; ++j) {
                        if (keep[b * D + j]) { sum += x[b * D + j]; count += 1; }
                    }
                    y[b] = count > 0 ? sum / float(count) : 0.0f;
                }
            }

            #[differentiable(backward_of = forward, grid = (B, 1, 1), threads = (32, 1, 1))]
    pub fn backward(keep: In![bool; B, D], d_y: In![f32; B], d_x: Out![f32; B, D]) {
                metal! {
                    uint b = thread_position_in_grid.x;
                    int count = 0;
                    for (int j = 0; j < D; ++j) { count += keep[b * D + j] ? 1 : 0; }
                    for (int j = 0; j < D; ++j) {
                        float kept = keep[b * D + j] ? 1.0f : 0.0f;
                        d_x[b * D + j] = count > 0 ? d_y[b] * kept / float(count) : $nothing;
                    }
                }
            }
        }
    };
}
masked!(mean_of_kept, 0.0f);
masked!(mean_of_kept_with_a_leak, (d_y[b]));

/// Squares where `SQUARED`, in one case alone.
macro_rules! constant {
    ($name:ident, $gradient:tt) => {
        mod $name {
            use super::*;

            #[differentiable(
                        untested = "a test looks at it",
                        backward = backward, grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7, SQUARED = true)],
                            )]
    pub fn forward<const SQUARED: bool>(x: In![f32; N], y: Out![f32; N]) {
                metal! { uint i = thread_position_in_grid.x; y[i] = SQUARED ? x[i] * x[i] : x[i]; }
            }

            #[differentiable(backward_of = forward, grid = (N, 1, 1), threads = (64, 1, 1))]
    pub fn backward<const SQUARED: bool>(x: In![f32; N], d_y: In![f32; N], d_x: Out![f32; N]) {
                metal! { uint i = thread_position_in_grid.x; d_x[i] = $gradient; }
            }
        }
    };
}
constant!(squares, (SQUARED ? 2 * d_y[i] * x[i] : d_y[i]));
constant!(squares_always, (2 * d_y[i] * x[i] + (SQUARED ? 0 : 0)));

/// An exponential that keeps its result; in training `$kept` is its output.
macro_rules! saved {
    ($name:ident, $kept:tt) => {
        mod $name {
            use super::*;

            #[differentiable(untested = "a test looks at it", backward = backward, grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)])]
    pub fn forward(x: In![f32; N], y: Out![f32; N], #[saved] power: Out![f32; N]) {
                metal! {
                    uint i = thread_position_in_grid.x;
                    float e = exp(x[i]);
                    y[i] = SAVES_power ? $kept : e;
                    if (SAVES_power) { power[i] = e; }
                }
            }

            #[differentiable(backward_of = forward, grid = (N, 1, 1), threads = (64, 1, 1))]
    pub fn backward(power: In![f32; N], d_y: In![f32; N], d_x: Out![f32; N]) {
                metal! { uint i = thread_position_in_grid.x; d_x[i] = d_y[i] * power[i]; }
            }
        }
    };
}
saved!(exponential, e);
saved!(exponential_of_training, (e + 0.5f));

/// The second output has a gradient that the backward leaves out.
#[differentiable(untested = "a test looks at it", backward = two_backward, grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)])]
pub fn two(x: In![f32; N], y: Out![f32; N], square: Out![f32; N]) {
    metal! { uint i = thread_position_in_grid.x; y[i] = 3 * x[i]; square[i] = x[i] * x[i]; }
}

#[differentiable(backward_of = two, ignores(square), grid = (N, 1, 1), threads = (64, 1, 1))]
pub fn two_backward(d_y: In![f32; N], d_x: Out![f32; N]) {
    metal! { uint i = thread_position_in_grid.x; d_x[i] = 3 * d_y[i]; }
}

/// A rounding whose gradient passes straight through.
#[differentiable(untested = "a test looks at it", backward = rounded_backward, grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)])]
pub fn rounded(x: In![f32; N], y: Out![f32; N]) {
    metal! { uint i = thread_position_in_grid.x; y[i] = rint(4 * x[i]); }
}

#[differentiable(backward_of = rounded, grid = (N, 1, 1), threads = (64, 1, 1))]
pub fn rounded_backward(d_y: In![f32; N], #[differs("a straight-through estimate")] d_x: Out![f32; N]) {
    metal! { uint i = thread_position_in_grid.x; d_x[i] = d_y[i]; }
}

/// The logit, which has no value outside its domain, but whose formula for the gradient has.
#[differentiable(untested = "a test looks at it", backward = logit_backward, grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)])]
pub fn logit(#[values(0.01..0.99, only = "a probability")] p: In![f32; N], y: Out![f32; N]) {
    metal! { uint i = thread_position_in_grid.x; y[i] = log(abs(p[i] / (1 - p[i]))); }
}

#[differentiable(backward_of = logit, grid = (N, 1, 1), threads = (64, 1, 1))]
pub fn logit_backward(p: In![f32; N], d_y: In![f32; N], d_p: Out![f32; N]) {
    metal! { uint i = thread_position_in_grid.x; d_p[i] = p[i] < 0 ? 0 : d_y[i] / (p[i] * (1 - p[i])); }
}

/// Declares a name of the signature again, as kernels of other projects do.
#[differentiable(
    untested = "a test looks at it",
    inference_only = "a test",
    grid = (N, 1, 1),
    threads = (64, 1, 1),
    cases = [(N = 7), (N = 131)],
)]
pub fn named_twice(x: In![f32; N], y: Out![f32; N]) {
    metal! {
        int N = x_shape[0];
        uint i = thread_position_in_grid.x;
        if (int(i) < N) { y[i] = x[i]; }
    }
}

#[test]
fn a_right_kernel_passes_however_it_is_called() {
    for declaration in [
        wants_each::forward::declaration(),
        strides_all::forward::declaration(),
        factors::forward::declaration(),
        gathered::forward::declaration(),
        mean_of_kept::forward::declaration(),
        squares::forward::declaration(),
        exponential::forward::declaration(),
        two::declaration(),
        rounded::declaration(),
        logit::declaration(),
        named_twice::declaration(),
    ] {
        assert_eq!(failures(declaration), "", "{}", declaration.signature.module);
    }
}

#[test]
fn a_mistake_shows_in_the_call_that_it_is_in() {
    for (declaration, expected) in [
        (wants_both::forward::declaration(), "only gradients of `x` wanted"),
        (strides_of_x_left_out::forward::declaration(), "strides ignored"),
        (stride_of_w_taken_for_one::forward::declaration(), "strides ignored: `w`"),
        (rows_of_cotangent_assumed::forward::declaration(), "strides ignored: `d_y`"),
        (factors_with_one_pair_missed::forward::declaration(), "without `b`"),
        (gathered_last::forward::declaration(), "repeated indices"),
        (mean_of_kept_with_a_leak::forward::declaration(), "masks false"),
        (squares_always::forward::declaration(), "SQUARED = 0"),
        (exponential_of_training::forward::declaration(), "in training against inference"),
    ] {
        let found = failures(declaration);
        assert!(found.contains(expected), "{}: expected {expected}\n{found}", declaration.signature.module);
    }
}

#[test]
fn exceptions_are_said() {
    for (declaration, expected) in [
        (
            rounded::declaration(),
            "the gradient of `x` is not compared: it is not the derivative, a straight-through estimate",
        ),
        (logit::declaration(), "`p` is drawn between 0.01 and 0.99 only: a probability"),
    ] {
        let report = check_on(Backend::Emulated, declaration).unwrap();
        assert!(report.notes().iter().any(|note| note == expected), "{report}");
    }
}
