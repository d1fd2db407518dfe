//! A program of its own, with a kernel of its own, that learns: the public face is enough.

use cotangent::{Constant, Mode, Parameters, Result, Session, Stored, Tensor, Train, Trainable, differentiable};
use cotangent::{Graph, value_and_grad};

/// `y = x * w` for rows `x` `[B, D]` and one weight a column.
#[differentiable(backward = scale_columns_backward, fallback = by_operations, cases = [(B = 3, D = 2)])]
pub fn scale_columns(#[nodiff] x: In![f32; B, D], w: In![f32; D], y: Out![f32; B, D]) {
    by_operations(x, w).map(|y| Outputs { y })
}

#[differentiable(backward_of = scale_columns)]
pub fn scale_columns_backward(#[nodiff] x: In![f32; B, D], d_y: In![f32; B, D], d_w: Out![f32; D]) {
    Ok(Outputs { d_w: Some(d_y.multiply(x)?.sum(&[0])?) })
}

fn by_operations<M: Graph>(x: &Constant, w: &Tensor<M>) -> Result<Tensor<M>> {
    x.to_tensor().multiply(w)
}

#[derive(Parameters)]
struct Model<M: Mode> {
    w: Tensor<M>,
}

struct Batch {
    x: Constant,
    y: Constant,
}

fn loss(model: &Model<Train>, batch: &Batch) -> Result<Tensor<Train>> {
    scale_columns(&batch.x, &model.w)?.subtract(&batch.y)?.square()?.sum_all()
}

pub fn main() -> Result<()> {
    let mut session = Session::new()?;
    let batch = Batch {
        x: Constant::from_slice(&[1.0, 2.0, -1.0, 0.5], &[2, 2])?,
        y: Constant::from_slice(&[3.0, -4.0, -3.0, -1.0], &[2, 2])?,
    };
    let mut w = [0.0_f32, 0.0];
    for _ in 0..60 {
        let model: Model<Stored> = Model { w: Tensor::from_slice(&w, &[2])? };
        let trainable = Trainable::new(&model, |_| true)?;
        let (_, gradients) = value_and_grad(&mut session, &model, &trainable, &batch, loss)?;
        for (w, gradient) in w.iter_mut().zip(gradients.get("w").unwrap().to_vec::<f32>()?) {
            *w -= 0.1 * gradient;
        }
    }
    assert!((w[0] - 3.0).abs() < 1e-3 && (w[1] + 2.0).abs() < 1e-3, "{w:?}");
    Ok(())
}
