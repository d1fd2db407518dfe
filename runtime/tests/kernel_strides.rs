//! A kernel that takes its inputs as they lie gets them so in the emulator too, as on a GPU.

use cotangent::{Backend, Infer, Result, Session, Stored, Tensor, backend, differentiable};

#[differentiable(
    inference_only = "tests what lies in memory",
    grid = (ROWS * COLUMNS, 1, 1),
    threads = (32, 1, 1),
    strided,
    cases = [(ROWS = 3, COLUMNS = 2), (ROWS = 5, COLUMNS = 7)],
)]
pub fn with_strides<T: F32 + BF16>(x: In![T; ROWS, COLUMNS], y: Out![T; ROWS, COLUMNS]) {
    metal! {
        uint i = thread_position_in_grid.x;
        float value = float(x[i / COLUMNS * x_strides[0] + i % COLUMNS * x_strides[1]]);
        y[i] = T(value + 10 * x_strides[0] + 100 * x_strides[1]);
    }
}

type View = fn(&Tensor<Infer>) -> Result<Tensor<Infer>>;
type One = Vec<Tensor<Infer>>;

/// The elements of a view of `[[0, 1, 2], [3, 4, 5]]` with ten times the first and a hundred times the second stride.
fn call(view: View) -> Vec<f32> {
    let values: Vec<f32> = (0..6).map(|value| value as f32).collect();
    let x = vec![Tensor::<Stored>::from_slice(&values, &[2, 3]).unwrap()];
    let run: fn(&One, &One, &View) -> Result<Tensor<Infer>> = |x, _, view| with_strides(&view(&x[0])?);
    Session::new().unwrap().infer(&x, &x, &view, run).unwrap().to_vec().unwrap()
}

#[test]
fn views_are_not_flattened() {
    if backend().unwrap() == Backend::Cpu {
        return;
    }
    assert_eq!(call(|x| Ok(x.clone())), [130.0, 131.0, 132.0, 133.0, 134.0, 135.0]);
    assert_eq!(call(|x| x.transpose(&[1, 0])), [310.0, 313.0, 311.0, 314.0, 312.0, 315.0]);
    assert_eq!(call(|x| x.slice(1, 1, 3)), [131.0, 132.0, 134.0, 135.0]);
}
