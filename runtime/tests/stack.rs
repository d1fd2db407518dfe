//! The block driver: the gradients of one graph, in the memory of two blocks.

mod common;

use common::{Block, Table, Tower, copy};
use cotangent::optimizer::{AdamW, AdamWOptions};
use cotangent::{
    Dtype, Gradients, Keep, Result, Session, Stack, Stored, Tensor, Train, Trainable, evaluate_stack, train_stack,
};

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
    let selections: [(&str, fn(&str) -> bool); 4] = [
        ("all", |_| true),
        ("only the tied table", |name| name == "table"),
        ("only the last block", |name| name.starts_with("layers.4.")),
        ("only the middle", |name| name == "layers.2.down"),
    ];
    for (what, select) in selections {
        let trainable = trainable(&tower, select);
        let (expected_loss, expected) = run(&tower, &trainable, Keep::All);
        for keep in [Keep::BlockInputs, Keep::LastBlocks(1), Keep::LastBlocks(3), Keep::LastBlocks(9)] {
            let (loss, found) = run(&tower, &trainable, keep);
            assert!(
                (loss - expected_loss).abs() <= 1e-6 * expected_loss.abs(),
                "{what}, {keep:?}: {loss} {expected_loss}"
            );
            let names: Vec<&str> = found.iter().map(|(name, _)| name).collect();
            assert_eq!(names, trainable.names().collect::<Vec<_>>(), "{what}, {keep:?}");
            for (name, gradient) in found.iter() {
                let (left, right) =
                    (gradient.to_vec::<f32>().unwrap(), expected.get(name).unwrap().to_vec::<f32>().unwrap());
                let largest = right.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                for (left, right) in left.iter().zip(&right) {
                    assert!((left - right).abs() <= 2e-6 * largest, "{what}, {keep:?}: {name}: {left} {right}");
                }
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
            // The tied table is a sum of four parts, and another order rounds differently.
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

/// A tower of float32 that computes in bfloat16: its blocks cast their weights, or get them cast.
struct Half {
    tower: Tower,
    dtype_of_use: Dtype,
}

impl Half {
    fn new(dtype_of_use: Dtype) -> Self {
        Half { tower: Tower::new(3, 6, 8, 16), dtype_of_use }
    }
}

impl Stack for Half {
    type Batch = ();
    type State = Tensor<Train>;
    type Embedding = Table<Stored>;
    type Block = Block<Stored>;
    type Head = Table<Stored>;

    const BLOCKS: &'static str = Tower::BLOCKS;

    fn embedding(&self) -> Table<Stored> {
        self.tower.embedding()
    }

    fn blocks(&self) -> &[Block<Stored>] {
        self.tower.blocks()
    }

    fn head(&self) -> Table<Stored> {
        self.tower.head()
    }

    fn dtype_of_use(&self, name: &str, stored: Dtype) -> Dtype {
        assert!(name.starts_with("layers.") && stored == Dtype::F32, "{name} {stored}");
        self.dtype_of_use
    }

    fn embed(embedding: &Table<Train>, (): &()) -> Result<Tensor<Train>> {
        Tower::embed(embedding, &())?.cast(Dtype::BF16)
    }

    fn forward(block: &Block<Train>, hidden: &Tensor<Train>, (): &()) -> Result<Tensor<Train>> {
        let cast = Block { up: block.up.cast(Dtype::BF16)?, down: block.down.cast(Dtype::BF16)? };
        Tower::forward(&cast, hidden, &())
    }

    fn loss(head: &Table<Train>, hidden: &Tensor<Train>, (): &()) -> Result<Tensor<Train>> {
        Tower::loss(head, &hidden.cast(Dtype::F32)?, &())
    }
}

#[test]
fn casting_a_leaf_once_gives_the_gradients_of_casting_it_at_each_use() {
    let gradients = |stack: &Half, trainable: &Trainable, keep, batches| {
        let mut gradients = Gradients::new();
        for _ in 0..batches {
            train_stack(&mut Session::new().unwrap(), stack, trainable, &(), keep, &mut gradients).unwrap();
        }
        gradients
    };
    let (once, each) = (Half::new(Dtype::BF16), Half::new(Dtype::F32));
    let trainable = trainable(&once.tower, |_| true);
    for (keep, batches) in [(Keep::BlockInputs, 1), (Keep::BlockInputs, 3), (Keep::All, 1), (Keep::All, 2)] {
        let found = gradients(&once, &trainable, keep, batches);
        let expected = gradients(&each, &trainable, keep, batches);
        assert_eq!(found.len(), 7);
        for (name, gradient) in found.iter() {
            // Gradients are accumulated in float32.
            let alone = batches == 1 && name != "table";
            assert_eq!(gradient.dtype(), if alone { Dtype::BF16 } else { Dtype::F32 }, "{name}");
            let expected = expected.get(name).unwrap();
            assert_eq!(expected.dtype(), Dtype::F32);
            let gradient = gradient.cast(Dtype::F32).unwrap();
            assert_eq!(gradient.to_bytes().unwrap(), expected.to_bytes().unwrap(), "{name}, {keep:?}, {batches}");
        }
    }
}

/// The optimizer leaves new parameters side by side in one array, where one operation casts them all.
#[test]
fn leaves_beside_each_other_are_cast_as_each_alone() {
    let mut beside = Half::new(Dtype::BF16);
    let trainable = trainable(&beside.tower, |_| true);
    let mut optimizer = AdamW::new(AdamWOptions::default());
    for step in 0..3 {
        for keep in [Keep::All, Keep::BlockInputs] {
            let mut alone = Half::new(Dtype::BF16);
            alone.tower.table = copy(&beside.tower.table);
            for (alone, beside) in alone.tower.layers.iter_mut().zip(&beside.tower.layers) {
                *alone = Block { up: copy(&beside.up), down: copy(&beside.down) };
            }
            let [found, expected] = [&beside, &alone].map(|stack| {
                let mut gradients = Gradients::new();
                train_stack(&mut Session::new().unwrap(), stack, &trainable, &(), keep, &mut gradients).unwrap();
                gradients
            });
            for ((name, found), (_, expected)) in found.iter().zip(expected.iter()) {
                assert_eq!(found.to_bytes().unwrap(), expected.to_bytes().unwrap(), "{name}, {keep:?}, step {step}");
            }
            optimizer.update(&mut beside.tower, &found, 0.1).unwrap();
        }
    }
}

#[test]
fn a_leaf_is_not_used_as_integers() {
    let half = Half::new(Dtype::I32);
    let trainable = trainable(&half.tower, |_| true);
    let mut gradients = Gradients::new();
    for keep in [Keep::BlockInputs, Keep::All] {
        let result = train_stack(&mut Session::new().unwrap(), &half, &trainable, &(), keep, &mut gradients);
        let error = result.unwrap_err().to_string();
        assert!(error.contains("parameter `layers.0.up`") && error.contains("int32"), "{error}");
    }
    assert!(gradients.is_empty());
}
