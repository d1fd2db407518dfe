//! What runs again computes the same again, and what a part returns is its own.

use std::cell::Cell;

use cotangent::{
    Constant, Gradients, Keep, Mode, Parameters, Result, Session, Stack, Stored, Tensor, Train, Trainable, audit_stack,
    checkpoint, evaluate_stack, train_stack,
};

use cotangent::random::Key;

use crate::tower::{CALLS, Does, Row, Rows, Start};
use crate::{example, refused, run, values};

const AGAIN: [Keep; 3] = [Keep::BlockInputs, Keep::LastBlocks(1), Keep::Expensive { bytes: 1 << 20 }];

#[test]
fn a_block_that_computes_something_else_again_is_named() {
    let rows = Rows::new();
    for does in [Does::Draws, Does::Skips, Does::Counts, Does::Reshapes] {
        for keep in AGAIN {
            let words = ["`layers.", "computed something else when it was run again"];
            refused(rows.train(does, keep, |_| true), "train_stack", "C22", &words);
        }
        // A block that runs once is one function, whatever it draws.
        if does != Does::Reshapes {
            rows.train(does, Keep::All, |_| true).unwrap();
        }
    }
    let trainable = Trainable::new(&rows, |_| true).unwrap();
    let batch = (Does::Counts, Key::new(5).unwrap());
    let audit = audit_stack(&mut Session::new().unwrap(), &rows, &trainable, &batch);
    refused(audit, "train_stack", "C22", &["`layers.2`"]);
}

#[test]
fn blocks_that_compute_the_same_again_train() {
    let rows = Rows::new();
    for does in [Does::Plain, Does::DropsByKey] {
        let expected = rows.train(does, Keep::All, |_| true).unwrap();
        for keep in AGAIN {
            let found = rows.train(does, keep, |_| true).unwrap();
            for (name, expected) in expected.iter() {
                let (found, expected) = (values(&found, name), expected.to_vec::<f32>().unwrap());
                for (found, expected) in found.iter().zip(&expected) {
                    assert!((found - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{does:?} {keep:?} {name}");
                }
            }
        }
    }
    // A key does drop something.
    let [plain, dropped] = [Does::Plain, Does::DropsByKey].map(|does| rows.train(does, Keep::All, |_| true).unwrap());
    assert_ne!(values(&plain, "end"), values(&dropped, "end"));
    // Blocks that are not computed again are not compared.
    rows.train(Does::Counts, Keep::BlockInputs, |name| name == "end").unwrap();
}

#[test]
fn a_checkpointed_function_that_computes_something_else_again_is_refused() {
    thread_local! {
        static CALLS: Cell<u32> = const { Cell::new(0) };
    }
    let drawn = run(&example(), &(), |p, ()| {
        let layer = |p: &crate::common::Pair<Train>, _: &[Tensor<Train>]| {
            let call = CALLS.replace(CALLS.get() + 1) as f32;
            Ok(vec![p.left.clone(), p.left.multiply(&Constant::from_slice(&[call, 1.0, 2.0], &[3])?)?])
        };
        checkpoint(p, &[], layer)?[1].multiply(&p.right)?.sum_all()
    });
    refused(drawn, "value_and_grad", "C22", &["result 1 of the checkpointed function"]);
    // A function that computes the same when it runs again is accepted.
    let (found, _) = run(&example(), &(), |p, ()| {
        let layer =
            |p: &crate::common::Pair<Train>, _: &[Tensor<Train>]| Ok(vec![p.left.square()?.multiply(&p.right)?]);
        checkpoint(p, &[], layer)?[0].sum_all()
    })
    .unwrap();
    assert_eq!(values(&found, "left"), [8.0, 20.0, 36.0]);
}

#[test]
fn a_part_returns_what_it_computed_whatever_is_kept() {
    let rows = Rows::new();
    for keep in [Keep::All, AGAIN[0], AGAIN[1], AGAIN[2]] {
        let result = rows.train(Does::ReturnsKept, keep, |_| true);
        refused(result, "train_stack", "C06", &["the hidden state after `layers.2`"]);
        refused(rows.train(Does::AddsKept, keep, |_| true), "add", "C06", &[]);
    }
    CALLS.set(0);
    let batch = (Does::ReturnsKept, Key::new(5).unwrap());
    refused(evaluate_stack(&mut Session::new().unwrap(), &rows, &batch), "evaluate_stack", "C06", &["`layers.2`"]);
}

#[test]
fn a_loss_that_no_part_reaches_is_refused() {
    let rows = Rows::new();
    for keep in [Keep::All, AGAIN[0], AGAIN[1], AGAIN[2]] {
        for does in [Does::Cuts, Does::Forgets] {
            let before = |name: &str| name.starts_with("layers.") || name == "start";
            refused(rows.train(does, keep, before), "train_stack", "C20", &["`start`, `layers.0.w`"]);
            // If one parameter of the head gets a gradient, the others get zeros.
            let gradients = rows.train(does, keep, |_| true).unwrap();
            assert!(values(&gradients, "start").iter().all(|value| *value == 0.0));
            assert!(values(&gradients, "end").iter().any(|value| *value != 0.0));
        }
        // There are frozen parts before, between and after the part that trains.
        for name in ["start", "layers.1.w", "end"] {
            let gradients = rows.train(Does::Plain, keep, |found| found == name).unwrap();
            assert_eq!(gradients.iter().map(|(name, _)| name).collect::<Vec<_>>(), [name]);
            assert!(values(&gradients, name).iter().any(|value| *value != 0.0));
        }
    }
}

/// Calls its blocks and its head as the tree does not.
struct Renamed(Rows);

#[derive(Parameters)]
struct Output<M: Mode> {
    output: Tensor<M>,
}

impl Stack for Renamed {
    type Batch = ();
    type State = Tensor<Train>;
    type Embedding = Start<Stored>;
    type Block = Row<Stored>;
    type Head = Output<Stored>;

    const BLOCKS: &'static str = "layer";

    fn embedding(&self) -> Start<Stored> {
        self.0.embedding()
    }

    fn blocks(&self) -> &[Row<Stored>] {
        &self.0.layers
    }

    fn head(&self) -> Output<Stored> {
        Output { output: self.0.end.clone() }
    }

    fn embed(embedding: &Start<Train>, (): &()) -> Result<Tensor<Train>> {
        embedding.start.multiply(2.0)
    }

    fn forward(block: &Row<Train>, hidden: &Tensor<Train>, (): &()) -> Result<Tensor<Train>> {
        hidden.multiply(&block.w)
    }

    fn loss(head: &Output<Train>, hidden: &Tensor<Train>, (): &()) -> Result<Tensor<Train>> {
        hidden.multiply(&head.output)?.sum_all()
    }
}

/// The head shows another tensor than the embedding under its name.
struct Untied(Rows);

impl Stack for Untied {
    type Batch = ();
    type State = Tensor<Train>;
    type Embedding = Start<Stored>;
    type Block = Row<Stored>;
    type Head = Start<Stored>;

    const BLOCKS: &'static str = "layers";

    fn embedding(&self) -> Start<Stored> {
        self.0.embedding()
    }

    fn blocks(&self) -> &[Row<Stored>] {
        &self.0.layers
    }

    fn head(&self) -> Start<Stored> {
        Start { start: crate::common::copy(&self.0.start) }
    }

    fn embed(embedding: &Start<Train>, (): &()) -> Result<Tensor<Train>> {
        embedding.start.multiply(2.0)
    }

    fn forward(block: &Row<Train>, hidden: &Tensor<Train>, (): &()) -> Result<Tensor<Train>> {
        hidden.multiply(&block.w)
    }

    fn loss(head: &Start<Train>, hidden: &Tensor<Train>, (): &()) -> Result<Tensor<Train>> {
        hidden.multiply(&head.start)?.sum_all()
    }
}

#[test]
fn parts_are_called_as_in_the_tree() {
    fn train<S: Stack<Batch = ()>>(stack: &S, rows: &Rows, select: fn(&str) -> bool) -> Result<Gradients> {
        let mut gradients = Gradients::new();
        let trainable = Trainable::new(rows, select)?;
        for keep in [Keep::All, Keep::BlockInputs] {
            gradients = Gradients::new();
            train_stack(&mut Session::new()?, stack, &trainable, &(), keep, &mut gradients)?;
        }
        Ok(gradients)
    }
    let renamed = Renamed(Rows::new());
    refused(
        train(&renamed, &renamed.0, |_| true),
        "train_stack",
        "C21",
        &["`end` is to train", "`start`, `layer.0.w`, `layer.1.w` and 2 more"],
    );
    refused(train(&renamed, &renamed.0, |name| name.contains("layers.1")), "train_stack", "C21", &["`layers.1.w`"]);
    train(&renamed, &renamed.0, |name| name == "start").unwrap();
    let untied = Untied(Rows::new());
    refused(
        train(&untied, &untied.0, |name| name != "end"),
        "train_stack",
        "C21",
        &["two different tensors are called `start`"],
    );
    // If they are frozen, they may differ.
    train(&untied, &untied.0, |name| name.starts_with("layers")).unwrap();
}
