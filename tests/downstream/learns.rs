//! A program outside the workspace: a kernel of its own with its gradient, checked, and a toy trained through it.

use cotangent::kernel::{check, kernels};
use cotangent::optimizer::{AdamW, AdamWOptions};
use cotangent::{
    Constant, Graph, Mode, Parameters, Result, Session, Stored, Tensor, Train, Trainable, differentiable,
    value_and_grad,
};

/// `y = a silu(b)`.
#[differentiable(
    backward = silu_gate_backward,
    fallback = silu_gate_by_operations,
    grid = (N, 1, 1),
    threads = (64, 1, 1),
    cases = [(N = 1), (N = 301)],
)]
pub fn silu_gate<T: Float>(a: In![T; N], b: In![T; N], y: Out![T; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        float x = float(b[i]);
        y[i] = T(float(a[i]) * x / (1.0f + exp(-x)));
    }
}

#[differentiable(backward_of = silu_gate, grid = (N, 1, 1), threads = (64, 1, 1))]
pub fn silu_gate_backward<T: Float>(a: In![T; N], b: In![T; N], d_y: In![T; N], d_a: Out![T; N], d_b: Out![T; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        float x = float(b[i]), s = 1.0f / (1.0f + exp(-x)), d = float(d_y[i]);
        d_a[i] = T(d * x * s);
        d_b[i] = T(d * float(a[i]) * s * (1.0f + x * (1.0f - s)));
    }
}

fn silu_gate_by_operations<M: Graph>(a: &Tensor<M>, b: &Tensor<M>) -> Result<Tensor<M>> {
    a.multiply(&b.silu()?)
}

#[derive(Parameters)]
struct Gate<M: Mode> {
    value: Tensor<M>,
    gate: Tensor<M>,
}

fn loss(model: &Gate<Train>, target: &Constant) -> Result<Tensor<Train>> {
    silu_gate(&model.value, &model.gate)?.subtract(target)?.square()?.sum_all()
}

fn main() -> Result<()> {
    let mut session = Session::new()?;
    for kernel in kernels() {
        let report = check::check(&mut session, kernel)?;
        print!("{report}");
        assert!(report.passed());
    }

    let wave = |count: usize, speed: f32| -> Vec<f32> { (0..count).map(|i| (i as f32 * speed).sin()).collect() };
    let count = 130;
    let shape = [count as i32];
    let target = Constant::from_slice(&wave(count, 0.1), &shape)?;
    let mut model: Gate<Stored> = Gate {
        value: Tensor::from_slice(&vec![0.5_f32; count], &shape)?,
        gate: Tensor::from_slice(&wave(count, 0.7), &shape)?,
    };
    let trainable = Trainable::new(&model, |_| true)?;
    let mut optimizer = AdamW::new(AdamWOptions { weight_decay: 0.0, ..AdamWOptions::default() });
    let mut losses = Vec::new();
    for _ in 0..60 {
        let (value, gradients) = value_and_grad(&mut session, &model, &trainable, &target, loss)?;
        losses.push(value.item::<f32>()?);
        optimizer.update(&mut model, &gradients, 0.05)?;
    }
    println!("{}: loss {} at first, {} at last", session.backend(), losses[0], losses[59]);
    assert!(losses[59] < 0.05 * losses[0], "{losses:?}");
    Ok(())
}
