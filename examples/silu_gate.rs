//! A kernel with its gradient, and the test that its declaration brings.
//!
//! `cargo run -p cotangent-examples --example silu_gate` prints what it computes and its gradient, and
//! `cargo test -p cotangent-examples --example silu_gate` runs the test.

use cotangent::{
    Graph, Mode, Parameters, Result, Session, Stored, Tensor, Train, Trainable, differentiable, value_and_grad,
};

/// `y = a silu(b)`.
#[differentiable(
    backward = silu_gate_backward,
    fallback = silu_gate_by_operations,
    grid = (N, 1, 1),
    threads = (256, 1, 1),
    cases = [(N = 1), (N = 301)],
)]
pub fn silu_gate<T: Float>(a: In![T; N], b: In![T; N], y: Out![T; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        float x = float(b[i]);
        y[i] = T(float(a[i]) * x / (1.0f + exp(-x)));
    }
}

/// `d_a = d_y silu(b)` and `d_b = d_y a silu'(b)`.
#[differentiable(backward_of = silu_gate, grid = (N, 1, 1), threads = (256, 1, 1))]
pub fn silu_gate_backward<T: Float>(a: In![T; N], b: In![T; N], d_y: In![T; N], d_a: Out![T; N], d_b: Out![T; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        float x = float(b[i]), s = 1.0f / (1.0f + exp(-x)), d = float(d_y[i]);
        d_a[i] = T(d * x * s);
        d_b[i] = T(d * float(a[i]) * s * (1.0f + x * (1.0f - s)));
    }
}

/// The same function of differentiable operations: it runs on the CPU, and the kernel is compared with it.
fn silu_gate_by_operations<M: Graph>(a: &Tensor<M>, b: &Tensor<M>) -> Result<Tensor<M>> {
    a.multiply(&b.silu()?)
}

#[derive(Parameters)]
struct Inputs<M: Mode> {
    a: Tensor<M>,
    b: Tensor<M>,
}

/// The sum of all outputs, so that the gradient of each input is its own slope.
fn sum(inputs: &Inputs<Train>, _: &()) -> Result<Tensor<Train>> {
    silu_gate(&inputs.a, &inputs.b)?.sum_all()
}

fn main() -> Result<()> {
    let inputs: Inputs<Stored> = Inputs {
        a: Tensor::from_slice(&[1.0_f32, 2.0, 3.0], &[3])?,
        b: Tensor::from_slice(&[-1.0_f32, 0.0, 1.0], &[3])?,
    };
    let mut session = Session::new()?;
    let trainable = Trainable::new(&inputs, |_| true)?;
    let (total, gradients) = value_and_grad(&mut session, &inputs, &trainable, &(), sum)?;
    println!("the sum of a silu(b): {:.4}", total.item::<f32>()?);
    for name in ["a", "b"] {
        let gradient = gradients.get(name).map(Tensor::to_vec::<f32>).transpose()?;
        println!("its gradient with respect to {name}: {:.4?}", gradient.unwrap_or_default());
    }
    Ok(())
}

#[test]
fn it_runs() {
    main().unwrap();
}
