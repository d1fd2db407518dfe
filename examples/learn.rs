//! Trains a gated layer of one weight and one gate an input, with the kernel of this crate in the middle.
//!
//! `cargo run -p cotangent-examples --example learn` prints the loss.

use cotangent::optimizer::{AdamW, AdamWOptions};
use cotangent::{Constant, Mode, Parameters, Result, Session, Stored, Tensor, Train, Trainable, value_and_grad};
use cotangent_examples::softsign_gate;

const INPUTS: usize = 130;
const STEPS: usize = 60;

/// The parameters that train, `[INPUTS]` each.
#[derive(Parameters)]
struct Layer<M: Mode> {
    weight: Tensor<M>,
    gate: Tensor<M>,
}

/// The mean square error of the gated weights.
fn loss(layer: &Layer<Train>, target: &Constant) -> Result<Tensor<Train>> {
    let output = softsign_gate(&layer.weight, &layer.gate)?;
    output.subtract(target)?.square()?.sum_all()?.multiply(1.0 / INPUTS as f32)
}

fn main() -> Result<()> {
    let wave = |speed: f32| -> Vec<f32> { (0..INPUTS).map(|i| (i as f32 * speed).sin()).collect() };
    let shape = [INPUTS as i32];
    let target = Constant::from_slice(&wave(0.1), &shape)?;
    let mut layer: Layer<Stored> = Layer {
        weight: Tensor::from_slice(&vec![0.5_f32; INPUTS], &shape)?,
        gate: Tensor::from_slice(&wave(0.7), &shape)?,
    };

    let mut session = Session::new()?;
    let trainable = Trainable::new(&layer, |_| true)?;
    let mut optimizer = AdamW::new(AdamWOptions { weight_decay: 0.0, ..AdamWOptions::default() });
    for step in 0..=STEPS {
        let (value, gradients) = value_and_grad(&mut session, &layer, &trainable, &target, loss)?;
        if step % 20 == 0 {
            println!("step {step:>2}: loss {:.5}", value.item::<f32>()?);
        }
        optimizer.update(&mut layer, &gradients, 0.05)?;
    }
    Ok(())
}

#[test]
fn it_learns() {
    main().unwrap();
}
