//! The training step of a stack of blocks, in bounded memory.
//!
//! MLX's tape over a whole model keeps every intermediate result, and its checkpoint does not bound memory either:
//! recomputation does not depend on the cotangent, so MLX may run it early for all blocks at once. Here the driver
//! walks the blocks itself: the forward pass keeps the blocks' inputs only, and each block's backward is evaluated
//! before the next but one is begun.

use mlx_rs::Array;

use crate::cut::Part;
use crate::error::{Error, Result};
use crate::ffi;
use crate::in_flight::InFlight;
use crate::mode::{Stored, Train};
use crate::parameters::{Parameters, Path};
use crate::session::Session;
use crate::tensor::{Origin, Tensor, TraceId};

use super::gradient::{Gradients, Trainable, scalar_loss, trainable_leaves, vjp_arrays, with_primals};

/// A model that [`train_stack`] can walk: an embedding, blocks of one type, and a head that ends in the loss.
///
/// The three functions get all they read as arguments. `Batch` is host-built data: indices, masks, constants.
pub trait Stack {
    /// What a step is computed from, besides the parameters.
    type Batch;
    /// Parameters of the first hidden state.
    type Embedding: Parameters<Mode = Stored>;
    /// Parameters of one block.
    type Block: Parameters<Mode = Stored>;
    /// Parameters of the loss. A tied weight appears here and in `Embedding` under the same name.
    type Head: Parameters<Mode = Stored>;

    /// The name before a block's index.
    const BLOCKS: &'static str;

    /// The embedding; its leaves have full names.
    fn embedding(&self) -> Self::Embedding;

    /// The blocks, first to last; their leaves' names begin with [`BLOCKS`](Self::BLOCKS) and their index.
    fn blocks(&self) -> &[Self::Block];

    /// The head; its leaves have full names.
    fn head(&self) -> Self::Head;

    /// The first hidden state.
    ///
    /// # Errors
    /// Those of the operations in it.
    fn embed(embedding: &<Self::Embedding as Parameters>::In<Train>, batch: &Self::Batch) -> Result<Tensor<Train>>;

    /// The hidden state after a block.
    ///
    /// # Errors
    /// Those of the operations in it.
    fn forward(
        block: &<Self::Block as Parameters>::In<Train>,
        hidden: &Tensor<Train>,
        batch: &Self::Batch,
    ) -> Result<Tensor<Train>>;

    /// The loss, a scalar of float32.
    ///
    /// # Errors
    /// Those of the operations in it.
    fn loss(
        head: &<Self::Head as Parameters>::In<Train>,
        hidden: &Tensor<Train>,
        batch: &Self::Batch,
    ) -> Result<Tensor<Train>>;
}

/// What the forward pass keeps for the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// Every intermediate result: fastest where memory allows.
    All,
    /// The inputs of the blocks; a block is recomputed when its turn comes.
    #[default]
    BlockInputs,
}

/// One part's backward: evaluates nothing.
struct Pulled {
    output: Array,
    /// Gradient of the part's input, if that was asked for.
    input: Option<Array>,
    parameters: Vec<(String, Array)>,
}

/// Runs a part forward and pulls the cotangent of its output back.
fn pull<P: Parameters<Mode = Stored>>(
    part: &P,
    prefix: &Path,
    trainable: &Trainable,
    input: Option<(&Array, bool)>,
    cotangent: &Array,
    function: &dyn Fn(&P::In<Train>, Option<&Tensor<Train>>) -> Result<Array>,
) -> Result<Pulled> {
    let trace = TraceId::fresh();
    let (names, mut primals) = trainable_leaves(part, prefix, trainable);
    let parameters = names.len();
    let input_needs_gradient = input.is_some_and(|(_, needs_gradient)| needs_gradient);
    if let Some((array, true)) = input {
        primals.push(array.clone());
    }
    let run = |primals: &[Array]| {
        let tree = with_primals(part, prefix, trainable, trace, &primals[..parameters])?;
        let hidden = input.map(|(array, needs_gradient)| {
            let array = primals.get(parameters).unwrap_or(array);
            Tensor::from_parts(array.clone(), Origin::of(trace, needs_gradient))
        });
        Ok(vec![function(&tree, hidden.as_ref())?])
    };
    let (outputs, mut gradients) = vjp_arrays("train_stack", run, &primals, std::slice::from_ref(cotangent))?;
    let input = if input_needs_gradient { gradients.pop() } else { None };
    Ok(Pulled { output: outputs[0].clone(), input, parameters: names.into_iter().zip(gradients).collect() })
}

/// A part's output, with no gradient.
fn run<P: Parameters<Mode = Stored>, T>(
    part: &P,
    input: Option<&Array>,
    function: impl FnOnce(&P::In<Train>, Option<&Tensor<Train>>) -> Result<T>,
) -> Result<T> {
    let trace = TraceId::fresh();
    let tree = with_primals(part, &Path::root(), &Trainable::default(), trace, &[])?;
    let input = input.map(|array| Tensor::from_parts(array.clone(), Origin::of(trace, false)));
    function(&tree, input.as_ref())
}

fn missing_input() -> Error {
    Error::Other("a block was called without its hidden state".into())
}

fn forward_block<S: Stack>(
    block: &<S::Block as Parameters>::In<Train>,
    hidden: Option<&Tensor<Train>>,
    batch: &S::Batch,
) -> Result<Array> {
    Ok(S::forward(block, hidden.ok_or_else(missing_input)?, batch)?.into_array())
}

fn loss_of<S: Stack>(
    operation: &'static str,
    head: &<S::Head as Parameters>::In<Train>,
    hidden: Option<&Tensor<Train>>,
    batch: &S::Batch,
) -> Result<Array> {
    scalar_loss(operation, S::loss(head, hidden.ok_or_else(missing_input)?, batch)?)
}

/// What [`Cut::part`](crate::Cut::part) calls the parts that are no blocks.
const EMBEDDING: &str = "embedding";
const HEAD: &str = "head";

fn block_path<S: Stack>(index: usize) -> Path {
    let mut path = Path::new(S::BLOCKS);
    path.push_index(index);
    path
}

/// The loss of one batch; adds the gradients of the `trainable` parameters to `gradients`.
///
/// Both are evaluated on return. The hidden states between blocks stay in memory under [`Keep::BlockInputs`], and at
/// most two blocks' intermediate results.
///
/// # Errors
/// What the stack's functions return; [`Error::Shape`] unless the loss is a scalar of float32; [`Error::Mlx`].
pub fn train_stack<S: Stack>(
    session: &mut Session,
    stack: &S,
    trainable: &Trainable,
    batch: &S::Batch,
    keep: Keep,
    gradients: &mut Gradients,
) -> Result<Tensor<Stored>> {
    let _running = session.run();
    match keep {
        Keep::All => whole_graph(stack, trainable, batch, gradients),
        Keep::BlockInputs => block_by_block(stack, trainable, batch, gradients),
    }
}

fn block_by_block<S: Stack>(
    stack: &S,
    trainable: &Trainable,
    batch: &S::Batch,
    gradients: &mut Gradients,
) -> Result<Tensor<Stored>> {
    let operation = "train_stack";
    let root = Path::root();
    let (embedding, head, blocks) = (stack.embedding(), stack.head(), stack.blocks());

    let trains_before: Vec<bool> = {
        let mut any = !trainable_leaves(&embedding, &root, trainable).0.is_empty();
        let mut before = vec![any];
        for (index, block) in blocks.iter().enumerate() {
            any |= !trainable_leaves(block, &block_path::<S>(index), trainable).0.is_empty();
            before.push(any);
        }
        before
    };

    let mut part = Part::enter(EMBEDDING);
    let mut inputs = vec![run(&embedding, None, |embedding, _| Ok(S::embed(embedding, batch)?.into_array()))?];
    let mut in_flight = InFlight::new(operation);
    for (index, block) in blocks.iter().enumerate() {
        part.change(block_path::<S>(index).as_str());
        let output = run(block, Some(&inputs[index]), |block, hidden| forward_block::<S>(block, hidden, batch))?;
        in_flight.start(vec![output.clone()])?;
        inputs.push(output);
    }

    let hidden = inputs.pop().ok_or_else(missing_input)?;
    let one = Array::from_f32(1.0);
    let input = Some((&hidden, trains_before[blocks.len()]));
    part.change(HEAD);
    let pulled =
        pull(&head, &root, trainable, input, &one, &|head, hidden| loss_of::<S>(operation, head, hidden, batch))?;
    drop(hidden);
    let value = pulled.output;
    let mut cotangent = pulled.input;
    start(&mut in_flight, gradients, pulled.parameters, cotangent.as_ref(), Some(&value))?;

    for (index, block) in blocks.iter().enumerate().rev() {
        let input = inputs.pop().ok_or_else(missing_input)?;
        let Some(output_gradient) = cotangent.take() else { break };
        let input = Some((&input, trains_before[index]));
        part.change(block_path::<S>(index).as_str());
        let pulled = pull(block, &block_path::<S>(index), trainable, input, &output_gradient, &|block, hidden| {
            forward_block::<S>(block, hidden, batch)
        })?;
        cotangent = pulled.input;
        start(&mut in_flight, gradients, pulled.parameters, cotangent.as_ref(), None)?;
    }
    if let Some(output_gradient) = cotangent {
        part.change(EMBEDDING);
        let embed = |embedding: &<S::Embedding as Parameters>::In<Train>, _: Option<&Tensor<Train>>| {
            Ok(S::embed(embedding, batch)?.into_array())
        };
        let pulled = pull(&embedding, &root, trainable, None, &output_gradient, &embed)?;
        start(&mut in_flight, gradients, pulled.parameters, None, None)?;
    }
    in_flight.finish()?;
    Ok(Tensor::from_parts(value, Origin::HOST))
}

/// Adds a part's gradients and starts to compute them.
fn start(
    in_flight: &mut InFlight,
    gradients: &mut Gradients,
    parameters: Vec<(String, Array)>,
    cotangent: Option<&Array>,
    value: Option<&Array>,
) -> Result<()> {
    let mut arrays: Vec<Array> = cotangent.into_iter().chain(value).cloned().collect();
    for (name, gradient) in parameters {
        gradients.accumulate(name.clone(), gradient)?;
        arrays.extend(gradients.get(&name).map(|sum| sum.array().clone()));
    }
    in_flight.start(arrays)
}

fn whole_graph<S: Stack>(
    stack: &S,
    trainable: &Trainable,
    batch: &S::Batch,
    gradients: &mut Gradients,
) -> Result<Tensor<Stored>> {
    let operation = "train_stack";
    let root = Path::root();
    let (embedding, head, blocks) = (stack.embedding(), stack.head(), stack.blocks());
    let (mut names, mut primals) = trainable_leaves(&embedding, &root, trainable);
    let mut ends = vec![primals.len()];
    for (index, block) in blocks.iter().enumerate() {
        let (block_names, block_primals) = trainable_leaves(block, &block_path::<S>(index), trainable);
        names.extend(block_names);
        primals.extend(block_primals);
        ends.push(primals.len());
    }
    let (head_names, head_primals) = trainable_leaves(&head, &root, trainable);
    names.extend(head_names);
    primals.extend(head_primals);

    let trace = TraceId::fresh();
    let function = |primals: &[Array]| {
        let mut part = Part::enter(EMBEDDING);
        let tree = with_primals(&embedding, &root, trainable, trace, &primals[..ends[0]])?;
        let mut hidden = S::embed(&tree, batch)?;
        for (index, block) in blocks.iter().enumerate() {
            let primals = &primals[ends[index]..ends[index + 1]];
            part.change(block_path::<S>(index).as_str());
            let tree = with_primals(block, &block_path::<S>(index), trainable, trace, primals)?;
            hidden = S::forward(&tree, &hidden, batch)?;
        }
        part.change(HEAD);
        let tree = with_primals(&head, &root, trainable, trace, &primals[ends[blocks.len()]..])?;
        Ok(vec![scalar_loss(operation, S::loss(&tree, &hidden, batch)?)?])
    };
    let (values, found) = vjp_arrays(operation, function, &primals, &[Array::from_f32(1.0)])?;
    for (name, gradient) in names.into_iter().zip(found) {
        gradients.accumulate(name, gradient)?;
    }
    ffi::evaluate(operation, values.iter().chain(gradients.arrays()))?;
    Ok(Tensor::from_parts(values[0].clone(), Origin::HOST))
}

/// The loss of one batch, evaluated, with no gradient, in the memory of two blocks.
///
/// # Errors
/// As [`train_stack`].
pub fn evaluate_stack<S: Stack>(session: &mut Session, stack: &S, batch: &S::Batch) -> Result<Tensor<Stored>> {
    let operation = "evaluate_stack";
    let _running = session.run();
    let mut hidden = run(&stack.embedding(), None, |embedding, _| Ok(S::embed(embedding, batch)?.into_array()))?;
    let mut in_flight = InFlight::new(operation);
    for block in stack.blocks() {
        hidden = run(block, Some(&hidden), |block, hidden| forward_block::<S>(block, hidden, batch))?;
        in_flight.start(vec![hidden.clone()])?;
    }
    in_flight.finish()?;
    let loss = run(&stack.head(), Some(&hidden), |head, hidden| loss_of::<S>(operation, head, hidden, batch))?;
    ffi::evaluate(operation, [&loss])?;
    Ok(Tensor::from_parts(loss, Origin::HOST))
}
