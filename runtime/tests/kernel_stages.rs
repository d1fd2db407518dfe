//! A Rust body launches the stages it lists, and no others.

use cotangent::{Backend, Infer, Result, Session, Stored, Tensor, backend, differentiable, stage};

#[stage(grid = (N, 1, 1), threads = (32, 1, 1), cases = [(N = 3)])]
fn doubled(x: In![f32; N], y: Out![f32; N]) {
    metal! { y[thread_position_in_grid.x] = 2.0f * x[thread_position_in_grid.x]; }
}

#[stage(grid = (N, 1, 1), threads = (32, 1, 1), cases = [(N = 3)])]
fn halved(x: In![f32; N], y: Out![f32; N]) {
    metal! { y[thread_position_in_grid.x] = 0.5f * x[thread_position_in_grid.x]; }
}

#[differentiable(inference_only = "tests its stages", stages = [doubled, halved], cases = [(N = 3)])]
pub fn back_and_forth(x: In![f32; N], y: Out![f32; N]) {
    Ok(Outputs { y: halved(stages, &doubled(stages, x)?)? })
}

#[differentiable(
    untested = "it launches what it does not list",
    inference_only = "tests its stages",
    stages = [doubled],
    cases = [(N = 3)],
)]
pub fn forgetful(x: In![f32; N], y: Out![f32; N]) {
    Ok(Outputs { y: halved(stages, &doubled(stages, x)?)? })
}

type One = Vec<Tensor<Infer>>;

fn call(run: fn(&One, &One, &()) -> Result<Tensor<Infer>>) -> Result<Tensor<Stored>> {
    let x = vec![Tensor::from_slice(&[1.0_f32, 2.0, 3.0], &[3])?];
    Session::new()?.infer(&x, &x, &(), run)
}

#[test]
fn what_is_listed_runs_and_what_is_not_is_refused() {
    if backend().unwrap() == Backend::Cpu {
        return;
    }
    assert_eq!(call(|x, _, ()| back_and_forth(&x[0])).unwrap().to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0]);
    let error = call(|x, _, ()| forgetful(&x[0])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "kernel `forgetful`: its body launches `halved`, which is not among its `stages = [..]`: list it there"
    );
}
