//! A Rust body launches the stages it lists, and no others.

use cotangent::{Backend, Dtype, Infer, Result, Session, Stored, Tensor, backend, differentiable, stage};

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

#[stage(grid = (N, 1, 1), threads = (32, 1, 1), cases = [(N = 3)])]
fn thirds<Rounded: F32 + BF16>(x: In![f32; N], y: Out![Rounded; N]) {
    metal! { y[thread_position_in_grid.x] = Rounded(x[thread_position_in_grid.x] / 3.0f); }
}

#[differentiable(inference_only = "tests its stage", stages = [thirds], cases = [(N = 3)])]
pub fn difference_of_rounding(x: In![f32; N], y: Out![f32; N]) {
    let rounded = thirds(stages, x, Dtype::BF16)?.cast(Dtype::F32)?;
    Ok(Outputs { y: thirds(stages, x, Dtype::F32)?.subtract(&rounded)? })
}

#[differentiable(
    untested = "it asks its stage for a dtype that the stage does not have",
    inference_only = "tests its stage",
    stages = [thirds],
    cases = [(N = 3)],
)]
pub fn halved_thirds(x: In![f32; N], y: Out![f16; N]) {
    Ok(Outputs { y: thirds(stages, x, Dtype::F16)? })
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

#[test]
fn a_dtype_that_no_input_settles_is_what_the_caller_says() {
    if backend().unwrap() == Backend::Cpu {
        return;
    }
    let found = call(|x, _, ()| difference_of_rounding(&x[0])).unwrap().to_vec::<f32>().unwrap();
    // A bfloat16 has eight bits: a third is 171 / 512 there, and two thirds 171 / 256.
    assert_eq!(found, [1.0 / 3.0 - 171.0 / 512.0, 2.0 / 3.0 - 171.0 / 256.0, 0.0]);
    let error = call(|x, _, ()| halved_thirds(&x[0])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "kernel `thirds`: found float16 for the dtype `Rounded`, expected one of float32, bfloat16"
    );
}
