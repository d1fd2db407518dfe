//! Tests of blocks that are computed again in the backward pass, except for the results of their expensive kernels.

use std::cell::Cell;

use cotangent::random::Key;
use cotangent::{
    Gradients, Keep, Mode, Parameters, Result, Session, Stack, Stored, Tensor, Train, Trainable, checkpoint,
    differentiable, train_stack,
};

const ROWS: i32 = 3;
const WIDTH: i32 = 4;

/// Output and residual of one call, in float32.
const BYTES_OF_A_CALL: usize = 2 * 4 * (ROWS * WIDTH) as usize;

thread_local! {
    /// The number of runs of the kernel's body.
    static RUNS: Cell<usize> = const { Cell::new(0) };
    /// The number of blocks that were built.
    static BLOCKS: Cell<usize> = const { Cell::new(0) };
}

/// `y = tanh(x w)`.
#[differentiable(backward = bounded_backward, expensive, cases = [(N = 3, I = 4, O = 4)])]
pub fn bounded(x: In![f32; N, I], w: In![f32; I, O], y: Out![f32; N, O], #[saved] again: Out![f32; N, O]) {
    RUNS.set(RUNS.get() + 1);
    let y = x.matmul(w)?.tanh()?;
    Ok(Outputs { again: y.multiply(1.0)?, y })
}

#[differentiable(backward_of = bounded)]
pub fn bounded_backward(
    x: In![f32; N, I],
    w: In![f32; I, O],
    again: In![f32; N, O],
    d_y: In![f32; N, O],
    d_x: Out![f32; N, I],
    d_w: Out![f32; I, O],
) {
    let d = d_y.subtract(&d_y.multiply(&again.square()?)?)?;
    Ok(Outputs { d_x: Some(d.matmul(&w.swap_axes(0, 1)?)?), d_w: Some(x.swap_axes(0, 1)?.matmul(&d)?) })
}

/// Runs at an even width; at others its fallback calls [`bounded`].
#[differentiable(fallback = bounded_at_any_width, expensive, requires = [O % 2 == 0], cases = [(N = 3, I = 4, O = 4)])]
pub fn bounded_pairs(x: In![f32; N, I], w: In![f32; I, O], y: Out![f32; N, O]) {
    Ok(Outputs { y: x.matmul(w)?.tanh()? })
}

fn bounded_at_any_width<M: cotangent::Graph>(x: &Tensor<M>, w: &Tensor<M>) -> Result<Tensor<M>> {
    bounded(x, w)
}

/// The operation of a block on its weight.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    /// Calls the kernel.
    Plain,
    /// Calls one whose fallback calls the kernel.
    Fallback,
    /// Calls it twice, the second time inside a checkpoint.
    Checkpointed,
    /// Calls it in the forward pass only.
    Fickle,
}

#[derive(Parameters)]
struct Layer<M: Mode> {
    weight: Tensor<M>,
}

#[derive(Parameters)]
struct Start<M: Mode> {
    start: Tensor<M>,
}

struct Layers {
    start: Tensor<Stored>,
    layers: Vec<Layer<Stored>>,
}

impl Layers {
    fn new(count: usize, width: i32) -> Self {
        let mut key = Key::new(3).unwrap();
        let mut draw = |shape: &[i32]| {
            let (now, next) = key.split().unwrap();
            key = next;
            now.uniform(-0.7, 0.7, shape).unwrap()
        };
        let start = draw(&[ROWS, width]);
        Layers { start, layers: (0..count).map(|_| Layer { weight: draw(&[width, width]) }).collect() }
    }
}

impl Stack for Layers {
    type Batch = Form;
    type State = Tensor<Train>;
    type Embedding = Start<Stored>;
    type Block = Layer<Stored>;
    type Head = Start<Stored>;

    const BLOCKS: &'static str = "layers";

    fn embedding(&self) -> Start<Stored> {
        Start { start: self.start.clone() }
    }

    fn blocks(&self) -> &[Layer<Stored>] {
        &self.layers
    }

    fn head(&self) -> Start<Stored> {
        self.embedding()
    }

    fn embed(embedding: &Start<Train>, _: &Form) -> Result<Tensor<Train>> {
        embedding.start.multiply(1.5)
    }

    fn forward(block: &Layer<Train>, hidden: &Tensor<Train>, form: &Form) -> Result<Tensor<Train>> {
        let before = BLOCKS.replace(BLOCKS.get() + 1);
        match form {
            Form::Plain => hidden.add(&bounded(hidden, &block.weight)?),
            Form::Fallback => hidden.add(&bounded_pairs(hidden, &block.weight)?),
            Form::Checkpointed => {
                let inner = checkpoint(block, &[&bounded(hidden, &block.weight)?], |block: &Layer<Train>, inputs| {
                    Ok(vec![bounded(&inputs[0].multiply(0.5)?, &block.weight)?])
                })?;
                hidden.add(&inner[0])
            }
            Form::Fickle if before == 0 => hidden.add(&bounded(hidden, &block.weight)?),
            Form::Fickle => hidden.add(&hidden.matmul(&block.weight)?.tanh()?),
        }
    }

    fn loss(head: &Start<Train>, hidden: &Tensor<Train>, _: &Form) -> Result<Tensor<Train>> {
        hidden.multiply(&head.start)?.sum(&[0, 1])
    }
}

/// The bits of the loss and of the gradients, and how often the kernel's body ran.
fn step(layers: &Layers, form: Form, trains: &[&str], keep: Keep) -> Result<(Vec<Vec<u8>>, usize)> {
    RUNS.set(0);
    BLOCKS.set(0);
    let trainable = Trainable::named(trains.iter().map(|name| (*name).to_owned()));
    let mut gradients = Gradients::new();
    let loss = train_stack(&mut Session::new()?, layers, &trainable, &form, keep, &mut gradients)?;
    let arrays = [&loss].into_iter().chain(gradients.iter().map(|(_, gradient)| gradient));
    Ok((arrays.map(Tensor::to_bytes).collect::<Result<_>>()?, RUNS.get()))
}

const ALL: [&str; 4] = ["start", "layers.0.weight", "layers.1.weight", "layers.2.weight"];

#[test]
fn what_is_kept_is_not_computed_again_and_gives_the_same_bits() {
    let (even, odd) = (Layers::new(3, WIDTH), Layers::new(3, 5));
    let calls = |count: usize| Keep::Expensive { bytes: count * BYTES_OF_A_CALL };
    let (form, lots) = (Form::Plain, Keep::Expensive { bytes: usize::MAX });
    for (layers, form, trains, keep, runs) in [
        (&even, form, &ALL[..], Keep::BlockInputs, 6),
        (&even, form, &ALL, lots, 3),
        (&even, form, &ALL, calls(3), 3),
        (&even, form, &ALL, calls(2), 4),
        (&even, form, &ALL, Keep::Expensive { bytes: 3 * BYTES_OF_A_CALL - 1 }, 4),
        (&even, form, &ALL, calls(0), 6),
        // Only the last block is computed again; those before it keep nothing.
        (&even, form, &ALL[3..], lots, 3),
        (&even, form, &ALL[3..], calls(1), 3),
        // Where a kernel's fallback runs, the calls inside it are kept.
        (&odd, Form::Fallback, &ALL, Keep::BlockInputs, 6),
        (&odd, Form::Fallback, &ALL, lots, 3),
        // A checkpoint computes its own calls again, as documented.
        (&even, Form::Checkpointed, &ALL, Keep::BlockInputs, 15),
        (&even, Form::Checkpointed, &ALL, lots, 9),
    ] {
        let what = format!("{form:?}, training {trains:?}, {keep:?}");
        let (expected, _) = step(layers, form, trains, Keep::BlockInputs).unwrap();
        let (found, found_runs) = step(layers, form, trains, keep).unwrap();
        assert_eq!(found, expected, "{what}");
        assert_eq!(found_runs, runs, "{what}");
    }
}

#[test]
fn a_block_that_computes_something_else_the_second_time_is_an_error() {
    let error = step(&Layers::new(1, WIDTH), Form::Fickle, &ALL[..2], Keep::Expensive { bytes: 1 << 20 }).unwrap_err();
    let expected = "a block called `bounded` in its forward pass, and not when it was computed again; what a block computes \
                    must follow from its arguments alone";
    assert_eq!(error.to_string(), expected);
    // Nothing is left behind for the next step.
    let (_, runs) = step(&Layers::new(1, WIDTH), Form::Plain, &ALL[..2], Keep::BlockInputs).unwrap();
    assert_eq!(runs, 2);
}
