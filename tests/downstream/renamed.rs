//! Knows Cotangent only as another crate re-exports it.

use facade::gradients::{
    self, Constant, Graph, Mode, Parameters, Result, Session, Stored, Tensor, Train, Trainable, differentiable,
};

/// `y = x^2`.
#[differentiable(
    crate = facade::gradients,
    backward = square_backward,
    fallback = square_by_operations,
    grid = (N, 1, 1),
    threads = (64, 1, 1),
    cases = [(N = 1), (N = 131)],
)]
pub fn square(x: In![f32; N], y: Out![f32; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        y[i] = x[i] * x[i];
    }
}

#[differentiable(crate = facade::gradients, backward_of = square, grid = (N, 1, 1), threads = (64, 1, 1))]
pub fn square_backward(x: In![f32; N], d_y: In![f32; N], d_x: Out![f32; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        d_x[i] = 2.0f * x[i] * d_y[i];
    }
}

fn square_by_operations<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    x.square()
}

#[derive(Parameters)]
#[parameters(crate = facade::gradients)]
struct Model<M: Mode> {
    x: Tensor<M>,
}

fn loss(model: &Model<Train>, target: &Constant) -> Result<Tensor<Train>> {
    square(&model.x)?.subtract(target)?.abs()?.sum_all()
}

fn main() -> Result<()> {
    let mut session = Session::new()?;
    let model: Model<Stored> = Model { x: Tensor::from_slice(&[1.0_f32, -2.0, 3.0], &[3])? };
    let target = Constant::from_slice(&[4.0, 1.0, 9.5], &[3])?;
    let trainable = Trainable::new(&model, |_| true)?;
    let (_, found) = gradients::value_and_grad(&mut session, &model, &trainable, &target, loss)?;
    assert_eq!(found.get("x").unwrap().to_vec::<f32>()?, [-2.0, -4.0, -6.0]);
    println!("{}: gradients through a re-export", session.backend());
    Ok(())
}
