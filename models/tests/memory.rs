//! The bound on memory of a training step, on the real model; alone in its process, because the peak is the process's.

mod common;

use common::{HIDDEN, batch, config, model};
use cotangent::random::Key;
use cotangent::{Dtype, Gradients, Keep, Session, memory, train_stack};
use cotangent_models::qwen35::LoraOptions;

const TOKENS: usize = 512;

/// Peak of one step in bytes, and a block's input with its adapters' gradients.
fn peak_of(layers: usize) -> (usize, usize) {
    let config = config(layers);
    let mut model = model(&config, Dtype::F32);
    model.add_adapters(&LoraOptions::default(), &Key::new(0).unwrap()).unwrap();
    let trainable = model.adapters_trainable().unwrap();
    let batch = batch(&config, TOKENS);
    let mut session = Session::new().unwrap();
    let before = memory::active().unwrap();
    memory::reset_peak().unwrap();
    let mut gradients = Gradients::new();
    train_stack(&mut session, &model, &trainable, &batch, Keep::BlockInputs, &mut gradients).unwrap();
    (memory::peak().unwrap() - before, HIDDEN * TOKENS * 4 + gradients.bytes() / layers)
}

#[test]
fn twelve_more_layers_cost_their_inputs_and_gradients_only() {
    // The first run pays for what is allocated once.
    peak_of(4);
    let (twelve, per_layer) = peak_of(12);
    let (twenty_four, _) = peak_of(24);
    let bound = ((twelve + 12 * per_layer) as f64 * 1.1) as usize;
    println!("peak at 12 layers {twelve} bytes, at 24 layers {twenty_four}, bound {bound}");
    assert!(twenty_four <= bound, "peak at 24 layers {twenty_four} bytes, at 12 {twelve}, bound {bound}");
}
