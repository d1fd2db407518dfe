//! What a recomputed layer and a function with its own backward read, they are given.

use cotangent::{Mode, Parameters, Result, Session, Stored, Tensor, Train, Trainable};
use cotangent::{VjpCase, checkpoint, custom_vjp, value_and_grad};

#[derive(Parameters)]
struct Scale<M: Mode> {
    weight: Tensor<M>,
}

custom_vjp! {
    static PRODUCT: () = "product" {
        inputs: [x, y],
        outputs: [product],
        forward: |[x, y], ()| Ok(vec![x.multiply(y)?]),
        backward: |[x, y], [d_product], _, ()| Ok(vec![d_product.multiply(y)?, d_product.multiply(x)?]),
        cases: [VjpCase::new(&[&[2], &[2]], ())],
    }
}

fn layer(scale: &Scale<Train>, inputs: &[Tensor<Train>]) -> Result<Vec<Tensor<Train>>> {
    custom_vjp(&PRODUCT, &[&inputs[0], &scale.weight], &())
}

fn loss(scale: &Scale<Train>, _: &()) -> Result<Tensor<Train>> {
    let doubled = scale.weight.multiply(2.0)?;
    checkpoint(scale, &[&doubled], layer)?[0].sum_all()
}

pub fn main() -> Result<()> {
    let scale: Scale<Stored> = Scale { weight: Tensor::from_slice(&[3.0_f32, -1.0], &[2])? };
    let trainable = Trainable::new(&scale, |_| true)?;
    let (_, gradients) = value_and_grad(&mut Session::new()?, &scale, &trainable, &(), loss)?;
    // d/dw 2 w^2
    assert_eq!(gradients.get("weight").unwrap().to_vec::<f32>()?, [12.0, -4.0]);
    Ok(())
}
