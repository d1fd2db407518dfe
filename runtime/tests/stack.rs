//! The block driver: the gradients of one graph, in the memory of two blocks.

mod common;

use common::Tower;
use cotangent::{Gradients, Keep, Session, Stack, Trainable, evaluate_stack, train_stack};

fn trainable(tower: &Tower, select: impl Fn(&str) -> bool + Copy) -> Trainable {
    let blocks = (0..tower.layers.len()).flat_map(|i| [format!("layers.{i}.up"), format!("layers.{i}.down")]);
    Trainable::named(std::iter::once("table".to_owned()).chain(blocks).filter(|name| select(name)))
}

fn run(tower: &Tower, trainable: &Trainable, keep: Keep) -> (f32, Gradients) {
    let mut session = Session::new().unwrap();
    let mut gradients = Gradients::new();
    let loss = train_stack(&mut session, tower, trainable, &(), keep, &mut gradients).unwrap();
    (loss.item().unwrap(), gradients)
}

#[test]
fn block_by_block_equals_the_whole_graph() {
    let tower = Tower::new(5, 6, 8, 16);
    let selections: [(&str, fn(&str) -> bool); 5] = [
        ("all", |_| true),
        ("only the tied table", |name| name == "table"),
        ("only the last block", |name| name.starts_with("layers.4.")),
        ("only the middle", |name| name == "layers.2.down"),
        ("nothing", |_| false),
    ];
    for (what, select) in selections {
        let trainable = trainable(&tower, select);
        let (loss, found) = run(&tower, &trainable, Keep::BlockInputs);
        let (expected_loss, expected) = run(&tower, &trainable, Keep::All);
        assert!((loss - expected_loss).abs() <= 1e-6 * expected_loss.abs(), "{what}: {loss} {expected_loss}");
        let names: Vec<&str> = found.iter().map(|(name, _)| name).collect();
        assert_eq!(names, trainable.names().collect::<Vec<_>>(), "{what}");
        for (name, gradient) in found.iter() {
            let (left, right) =
                (gradient.to_vec::<f32>().unwrap(), expected.get(name).unwrap().to_vec::<f32>().unwrap());
            let largest = right.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            for (left, right) in left.iter().zip(&right) {
                assert!((left - right).abs() <= 2e-6 * largest, "{what}: {name}: {left} {right}");
            }
        }
    }
}

#[test]
fn gradients_accumulate_over_batches() {
    let tower = Tower::new(2, 6, 8, 16);
    let trainable = trainable(&tower, |_| true);
    let (_, once) = run(&tower, &trainable, Keep::BlockInputs);
    let mut session = Session::new().unwrap();
    let mut twice = Gradients::new();
    for _ in 0..2 {
        train_stack(&mut session, &tower, &trainable, &(), Keep::BlockInputs, &mut twice).unwrap();
    }
    for (name, gradient) in twice.iter() {
        let once: Vec<f32> = once.get(name).unwrap().to_vec().unwrap();
        let largest = once.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        for (twice, once) in gradient.to_vec::<f32>().unwrap().into_iter().zip(once) {
            // The tied table is a sum of four parts, whose order rounds differently.
            assert!((twice - 2.0 * once).abs() <= 1e-6 * largest, "{name}: {twice} {once}");
        }
    }
}

#[test]
fn the_same_step_gives_the_same_bits() {
    let tower = Tower::new(4, 64, 32, 64);
    let trainable = trainable(&tower, |_| true);
    let (loss, first) = run(&tower, &trainable, Keep::BlockInputs);
    for _ in 0..3 {
        let (again, second) = run(&tower, &trainable, Keep::BlockInputs);
        assert_eq!(loss.to_bits(), again.to_bits());
        for (name, gradient) in first.iter() {
            assert_eq!(gradient.to_bytes().unwrap(), second.get(name).unwrap().to_bytes().unwrap(), "{name}");
        }
    }
}

#[test]
fn evaluation_gives_the_loss_of_training() {
    let tower = Tower::new(3, 6, 8, 16);
    let (loss, _) = run(&tower, &trainable(&tower, |_| true), Keep::All);
    let evaluated: f32 = evaluate_stack(&mut Session::new().unwrap(), &tower, &()).unwrap().item().unwrap();
    assert!((loss - evaluated).abs() <= 1e-6 * loss);
    assert_eq!(tower.blocks().len(), 3);
}
