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
elementwise!(bits, (as_type<float>(as_type<uint>(v) & 0x7fffffffu)), (v > 0 ? g : -g), values(0.1..1.0));

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
    ] {
        fails(declaration, subject);
    }
}

#[test]
fn what_cannot_run_in_double_precision_is_said() {
    let report = examine(bits::forward::declaration()).unwrap();
    assert!(report.notes().iter().any(|note| note.contains("does not compile")), "{report}");
}
