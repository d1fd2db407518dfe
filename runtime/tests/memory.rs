//! The bound on memory: alone in its process, because the peak is the process's.

mod common;

use common::Tower;
use cotangent::{Gradients, Keep, Session, Trainable, memory, train_stack};

fn peak_of(blocks: usize) -> (usize, usize) {
    let (rows, width, inner) = (2048, 128, 512);
    let tower = Tower::new(blocks, rows, width, inner);
    let names = (0..blocks).flat_map(|i| [format!("layers.{i}.up"), format!("layers.{i}.down")]);
    let trainable = Trainable::named(names);
    let mut session = Session::new().unwrap();
    let before = memory::active().unwrap();
    memory::reset_peak().unwrap();
    let mut gradients = Gradients::new();
    train_stack(&mut session, &tower, &trainable, &(), Keep::BlockInputs, &mut gradients).unwrap();
    let peak = memory::peak().unwrap() - before;
    let block_input = (rows * width * 4) as usize;
    (peak, block_input + gradients.bytes() / blocks)
}

#[test]
fn twelve_more_blocks_cost_their_inputs_and_gradients_only() {
    // The first run also allocates what is allocated only once.
    peak_of(2);
    let (twelve, per_block) = peak_of(12);
    let (twenty_four, _) = peak_of(24);
    let bound = ((twelve + 12 * per_block) as f64 * 1.1) as usize;
    assert!(
        twenty_four <= bound,
        "peak at 24 blocks {twenty_four} bytes, at 12 blocks {twelve}, bound {bound} ({per_block} a block)"
    );
    println!("peak at 12 blocks {twelve}, at 24 blocks {twenty_four}, bound {bound}");
}
