//! Tests that a block that is computed again does not choose again, because rounding could decide a near tie
//! differently.

use std::cell::Cell;

use cotangent::{
    Constant, Gradients, Indices, Infer, Keep, Mode, Parameters, Result, Session, Stack, Stored, Tensor, Train,
    Trainable, train_stack,
};

const LAYERS: usize = 2;

thread_local! {
    /// The number of blocks that were built.
    static BLOCKS: Cell<usize> = const { Cell::new(0) };
}

/// The way in which a block chooses between two columns.
#[derive(Debug, Clone, Copy)]
enum Choice {
    TopK,
    /// A choice that is made again.
    Comparison,
}

#[derive(Parameters)]
struct Leaf<M: Mode> {
    weight: Tensor<M>,
}

struct Layers {
    start: Tensor<Stored>,
    layers: Vec<Leaf<Stored>>,
}

impl Layers {
    fn new() -> Self {
        let tensor = |values: &[f32]| Tensor::from_slice(values, &[3, 1]).unwrap();
        let layers = (0..LAYERS).map(|_| Leaf { weight: tensor(&[0.6, 0.9, -0.7]) }).collect();
        Layers { start: tensor(&[0.8, -1.1, 0.5]), layers }
    }
}

/// A change of the last bits, which tips the choice one way in the first computation of the blocks, and the other way
/// later.
fn rounding() -> f32 {
    let before = BLOCKS.replace(BLOCKS.get() + 1);
    if before < LAYERS { 1e-7 } else { -1e-7 }
}

impl Stack for Layers {
    type Batch = Choice;
    type State = Tensor<Train>;
    type Embedding = Leaf<Stored>;
    type Block = Leaf<Stored>;
    type Head = Leaf<Stored>;

    const BLOCKS: &'static str = "layers";

    fn embedding(&self) -> Leaf<Stored> {
        Leaf { weight: self.start.clone() }
    }

    fn blocks(&self) -> &[Leaf<Stored>] {
        &self.layers
    }

    fn head(&self) -> Leaf<Stored> {
        self.embedding()
    }

    fn embed(embedding: &Leaf<Train>, _: &Choice) -> Result<Tensor<Train>> {
        embedding.weight.multiply(1.5)
    }

    /// The product of state and weight, times two or three: the choice falls on the larger of two numbers that rounding alone
    /// tells apart.
    fn forward(block: &Leaf<Train>, state: &Tensor<Train>, choice: &Choice) -> Result<Tensor<Train>> {
        let product = state.multiply(&block.weight)?;
        let tilted = product.add(rounding())?;
        let pair = Tensor::concatenate(&[&product, &tilted], 1)?;
        let outcomes = Constant::from_slice(&[2.0, 3.0], &[1, 2])?.to_tensor::<Train>().broadcast_to(&[3, 2])?;
        let outcome = match choice {
            Choice::TopK => outcomes.take_along_axis(&pair.top_k(1)?, 1)?,
            Choice::Comparison => {
                let second_is_larger = tilted.greater(&product)?;
                outcomes.slice(1, 1, 2)?.select(&second_is_larger, &outcomes.slice(1, 0, 1)?)?
            }
        };
        product.multiply(&outcome)
    }

    fn loss(_: &Leaf<Train>, state: &Tensor<Train>, _: &Choice) -> Result<Tensor<Train>> {
        state.square()?.sum_all()
    }
}

fn run(choice: Choice, keep: Keep) -> Result<(f32, Gradients)> {
    BLOCKS.set(0);
    let (layers, mut gradients) = (Layers::new(), Gradients::new());
    let trainable = Trainable::new(&layers.layers[0], |_| true)?;
    assert_eq!(trainable.names().count(), 1);
    let names = (0..LAYERS).map(|layer| format!("layers.{layer}.weight"));
    let trainable = Trainable::named(names.chain(["weight".to_owned()]));
    let loss = train_stack(&mut Session::new()?, &layers, &trainable, &choice, keep, &mut gradients)?;
    Ok((loss.item()?, gradients))
}

#[test]
fn a_near_tie_is_decided_once() {
    let (loss, expected) = run(Choice::TopK, Keep::All).unwrap();
    assert_eq!(BLOCKS.get(), LAYERS);
    for keep in [Keep::BlockInputs, Keep::LastBlocks(1), Keep::Expensive { bytes: 1000 }] {
        let (again, found) = run(Choice::TopK, keep).unwrap();
        assert!(BLOCKS.get() > LAYERS, "{keep:?}");
        assert_eq!(loss, again, "{keep:?}");
        for (name, gradient) in expected.iter() {
            let found: Vec<f32> = found.get(name).unwrap().to_vec().unwrap();
            assert_eq!(gradient.to_vec::<f32>().unwrap(), found, "{keep:?}: {name}");
        }
    }
    // The choice is made again in the second run, so the block computes something else.
    let Err(error) = run(Choice::Comparison, Keep::BlockInputs) else { panic!("the near tie was not turned round") };
    assert!(error.to_string().ends_with("[C22]"), "{error}");
}

#[test]
fn of_equal_numbers_the_first_is_chosen() {
    let choose = |x: &Tensor<Infer>, _: &Tensor<Infer>, count: &i32| {
        let chosen = x.top_k(*count)?;
        chosen.to_constant("the numbers themselves are compared").map(|numbers| numbers.to_tensor::<Infer>())
    };
    let mut session = Session::new().unwrap();
    let mut values = vec![0.25_f32; 300];
    values[..6].copy_from_slice(&[1.0, 2.0, 2.0, 1.0, 3.0, 1.0]);
    values[100] = 0.5;
    values[200] = 0.5;
    let x = Tensor::from_slice(&values, &[3, 100]).unwrap();
    let found = session.infer(&x, &x, &4, choose).unwrap();
    let rows: Vec<Vec<f32>> = found.to_vec::<f32>().unwrap().chunks(4).map(<[f32]>::to_vec).collect();
    assert_eq!(rows, [[4.0, 1.0, 2.0, 0.0], [0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0]]);
    for count in [0, 101] {
        assert!(session.infer(&x, &x, &count, choose).is_err(), "{count}");
    }
}

#[test]
fn an_order_sorts_and_its_own_order_turns_it_round() {
    let mut session = Session::new().unwrap();
    let numbers = Indices::from_slice(&[3, 1, 3, 0, 1, 1], &[2, 3]).unwrap();
    let order = numbers.sort_order().unwrap();
    let mut read = |indices: &Indices| -> Vec<i32> { indices.to_stored(&mut session).unwrap().to_vec().unwrap() };
    assert_eq!(read(&order), [3, 1, 4, 5, 0, 2]);
    assert_eq!(read(&numbers.take(&order).unwrap()), [0, 1, 1, 1, 3, 3]);
    assert_eq!(read(&order.sort_order().unwrap()), [4, 1, 5, 0, 2, 3]);
    assert_eq!(read(&order.divide(3).unwrap()), [1, 0, 1, 1, 0, 0]);
    assert!(order.divide(0).is_err());
}
