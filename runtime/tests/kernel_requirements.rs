//! What a kernel requires of the sizes it runs at: at others its fallback runs, or the call is an error.

use cotangent::kernel::Kernel;
use cotangent::kernel::check::check;
use cotangent::{Backend, Graph, Infer, Result, Session, Stored, Tensor, backend, differentiable, stage};

/// Fallbacks here add a thousand, so that a result says which of the two ran.
fn shifted_by_operations<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    x.add(1000.0)
}

#[differentiable(
    untested = "its fallback adds a thousand, to tell the two apart",
    fallback = shifted_by_operations,
    requires = [D % 4 == 0, B * D <= 24],
    cases = [(B = 3, D = 4), (B = 3, D = 5)],
)]
pub fn shifted(x: In![f32; B, D], y: Out![f32; B, D]) {
    Ok(Outputs { y: x.add(0.0)? })
}

#[differentiable(backward = alone_backward, requires = [D % 4 == 0, K < D], cases = [(B = 3, D = 4, K = 1)])]
pub fn alone<const K: usize>(x: In![f32; B, D], y: Out![f32; B, D]) {
    Ok(Outputs { y: x.add(K as f32)? })
}

#[differentiable(backward_of = alone)]
pub fn alone_backward(d_y: In![f32; B, D], d_x: Out![f32; B, D]) {
    Ok(Outputs { d_x: Some(d_y.clone()) })
}

#[stage(grid = (D, 1, 1), threads = (4, 1, 1), requires = [D % 4 == 0], cases = [(D = 12)])]
fn quartered(x: In![f32; D], y: Out![f32; D]) {
    metal! { y[thread_position_in_grid.x] = 0.25f * x[thread_position_in_grid.x]; }
}

/// Says nothing of the sizes that its stage requires.
#[differentiable(
    untested = "its stage refuses a length that it allows",
    inference_only = "tests its stage",
    stages = [quartered],
    cases = [(D = 12), (D = 7)],
)]
pub fn quarter(x: In![f32; D], y: Out![f32; D]) {
    Ok(Outputs { y: quartered(stages, x)? })
}

type One = Vec<Tensor<Infer>>;

fn call(shape: &[i32], run: fn(&One, &One, &()) -> Result<Tensor<Infer>>) -> Result<Tensor<Stored>> {
    let x = vec![Tensor::from_slice(&vec![0.0_f32; shape.iter().product::<i32>() as usize], shape)?];
    Session::new()?.infer(&x, &x, &(), run)
}

#[test]
fn the_kernel_runs_where_every_requirement_holds_and_the_fallback_elsewhere() {
    for (shape, expected) in [([3, 4], 0.0), ([3, 8], 0.0), ([3, 5], 1000.0), ([4, 8], 1000.0)] {
        let y = call(&shape, |x, _, ()| shifted(&x[0])).unwrap();
        assert!(y.to_vec::<f32>().unwrap().iter().all(|value| *value == expected), "{shape:?}");
    }
}

#[test]
fn without_a_fallback_a_broken_requirement_is_an_error_that_names_port_size_and_requirement() {
    call(&[3, 4], |x, _, ()| alone(&x[0], 3)).unwrap();
    for (shape, expected) in [
        ([2, 6], "kernel `alone`, port `x`: found `D` = 6, expected `D % 4 == 0`"),
        ([2, 4], "kernel `alone`, port `x`: found `K` = 4, `D` = 4, expected `K < D`"),
    ] {
        let error = call(&shape, |x, _, ()| alone(&x[0], 4)).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_stage_refuses_what_it_does_not_allow() {
    if backend().unwrap() == Backend::Cpu {
        return;
    }
    call(&[12], |x, _, ()| quarter(&x[0])).unwrap();
    let error = call(&[7], |x, _, ()| quarter(&x[0])).unwrap_err();
    assert_eq!(error.to_string(), "kernel `quartered`, port `x`: found `D` = 7, expected `D % 4 == 0`");
}

#[test]
fn a_case_that_breaks_a_requirement_checks_the_fallback_alone() {
    let report = check(&mut Session::new().unwrap(), shifted::declaration()).unwrap();
    let subjects = |case: &str| -> Vec<String> {
        let subjects = report.comparisons().iter().map(|comparison| comparison.subject.clone());
        subjects.filter(|subject| subject.contains(case)).collect()
    };
    assert_eq!(
        subjects("(B = 3, D = 4)"),
        [
            "output `y` of the kernel in training against inference (B = 3, D = 4)",
            "output `y` of the fallback in training against inference (B = 3, D = 4)",
            "kernel gradient of `x` against finite differences (B = 3, D = 4)",
            "kernel gradient of `x` by entry against finite differences (B = 3, D = 4)",
            "kernel gradient of `x` against double precision (B = 3, D = 4)",
            "fallback gradient of `x` against finite differences (B = 3, D = 4)",
            "fallback gradient of `x` by entry against finite differences (B = 3, D = 4)",
            "output `y`, kernel against fallback (B = 3, D = 4)",
            "gradient of `x`, kernel against fallback (B = 3, D = 4)"
        ]
    );
    assert_eq!(
        subjects("(B = 3, D = 5)"),
        [
            "fallback gradient of `x` against finite differences (B = 3, D = 5)",
            "fallback gradient of `x` by entry against finite differences (B = 3, D = 5)"
        ]
    );
}
