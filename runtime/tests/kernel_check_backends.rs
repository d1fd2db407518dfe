//! Where a check runs a kernel's source: on any machine in the emulator.

use cotangent::kernel::Kernel;
use cotangent::kernel::check::{check, check_on};
use cotangent::{Backend, Graph, Result, Session, Tensor, backend, differentiable, stage};

#[differentiable(
    untested = "its gradients are each that of the other factor",
    backward = product_backward,
    fallback = product_by_operations,
    grid = (N, 1, 1),
    threads = (64, 1, 1),
    cases = [(N = 7)],
)]
fn product(a: In![f32; N], b: In![f32; N], y: Out![f32; N]) {
    metal! { uint i = thread_position_in_grid.x; y[i] = a[i] * b[i]; }
}

/// Each gradient is that of the other factor.
#[differentiable(backward_of = product, grid = (N, 1, 1), threads = (64, 1, 1))]
fn product_backward(a: In![f32; N], b: In![f32; N], d_y: In![f32; N], d_a: Out![f32; N], d_b: Out![f32; N]) {
    metal! { uint i = thread_position_in_grid.x; d_a[i] = d_y[i] * a[i]; d_b[i] = d_y[i] * b[i]; }
}

fn product_by_operations<M: Graph>(a: &Tensor<M>, b: &Tensor<M>) -> Result<Tensor<M>> {
    a.multiply(b)
}

#[stage(grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)])]
fn copied(x: In![f32; N], y: Out![f32; N]) {
    metal! { uint i = thread_position_in_grid.x; y[i] = x[i]; }
}

#[test]
fn a_wrong_source_fails_whatever_the_backend_of_the_process() {
    let mut session = Session::new().unwrap();
    let own = backend();
    for report in [check(&mut session, product::declaration()), check_on(Backend::Emulated, product::declaration())] {
        let report = report.unwrap();
        let failed = report.comparisons().iter().filter(|comparison| !comparison.passed());
        let failed: Vec<&str> = failed.map(|comparison| comparison.subject.as_str()).collect();
        assert!(failed.iter().any(|subject| subject.contains("gradient of `a`, kernel against fallback")), "{report}");
        assert!(!report.passed());
    }
    assert_eq!(backend(), own);
}

#[test]
fn a_backward_reports_what_its_forward_failed() {
    let report = check_on(Backend::Emulated, product_backward::declaration()).unwrap();
    let subjects: Vec<&str> = report.comparisons().iter().map(|comparison| comparison.subject.as_str()).collect();
    assert!(matches!(subjects[..], [subject] if subject.ends_with("of `product`, whose backward it is")), "{report}");
    assert!(!report.passed());
}

#[test]
fn a_check_that_compares_nothing_does_not_pass() {
    let report = check_on(Backend::Cpu, copied::declaration()).unwrap();
    assert!(report.comparisons().is_empty() && !report.passed(), "{report}");
    assert_eq!(report.notes(), ["its source was not run: the cpu backend runs none"]);
    assert!(check_on(Backend::Emulated, copied::declaration()).unwrap().passed());
}
