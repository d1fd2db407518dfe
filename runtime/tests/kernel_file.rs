//! A kernel whose text stands in a file of its own.

use cotangent::kernel::check::{check, check_on};
use cotangent::kernel::{Body, Kernel};
use cotangent::{Backend, Constant, Graph, Result, Session, Tensor, differentiable, stage};

#[differentiable(
    fallback = weighted_by_operations,
    grid = (B, 1, 1),
    threads = (32, 1, 1),
    cases = [(B = 3, D = 5), (B = 1, D = 1)],
)]
pub fn weighted(x: In![f32; B, D], y: Out![f32; B]) {
    metal_file!("texts/weighted.metal")
}

fn weighted_by_operations<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    let powers: Vec<f32> = (0..x.dimension(1)).map(|column| 0.5_f32.powi(column)).collect();
    x.multiply(&Constant::from_slice(&powers, &[1, x.dimension(1)])?)?.sum(&[1])
}

#[stage(untested = "it reads out of bounds", grid = (N, 1, 1), threads = (32, 1, 1), cases = [(N = 3)])]
fn out_of_bounds(x: In![f32; N], y: Out![f32; N]) {
    metal_file!("texts/out_of_bounds.metal")
}

#[test]
fn it_runs_and_has_the_gradient_of_its_fallback() {
    let report = check(&mut Session::new().unwrap(), weighted::declaration()).unwrap();
    assert!(report.passed(), "{report}");
    let ran = report.comparisons().iter().any(|comparison| comparison.subject.contains("kernel against fallback"));
    assert!(ran, "{report}");
}

#[test]
fn what_the_emulator_finds_names_the_file() {
    let error = check_on(Backend::Emulated, out_of_bounds::declaration()).unwrap_err().to_string();
    assert!(error.contains("out of bounds"), "{error}");
    assert!(error.contains("tests/texts/out_of_bounds.metal:4"), "{error}");
}

#[test]
fn the_text_is_the_file_as_it_is() {
    let Body::Launch(launch) = weighted::declaration().body else { panic!("a launch") };
    assert_eq!(launch.metal, include_str!("texts/weighted.metal"));
    assert_eq!((launch.file, launch.line), (Some("texts/weighted.metal"), 1));
    assert_eq!(launch.dimensions, ["D"]);
}
