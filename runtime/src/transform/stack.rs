//! The training step of a stack of blocks, in bounded memory.
//!
//! MLX's tape over a whole model keeps every intermediate result. Its checkpoint does not bound memory either:
//! recomputation does not depend on the cotangent, so MLX may run it early for all blocks at once. Here the driver
//! walks the blocks itself. The forward pass keeps only the blocks' inputs, and each block's backward is evaluated
//! before the next but one begins.

use mlx_rs::Array;

use crate::cut::Part;
use crate::dtype::Dtype;
use crate::error::Result;
use crate::ffi;
use crate::in_flight::InFlight;
use crate::kept::Kept;
use crate::mode::{Stored, Train};
use crate::parameters::{Parameters, Path};
use crate::repeat::Repetition;
use crate::running::{self, Running};
use crate::session::Session;
use crate::tensor::{Origin, Tensor, TraceId};

use super::carried::Carried;
use super::gradient::{Trainable, TrainableLeaves, loss_parts, vjp_arrays};
use super::gradients::Gradients;
use super::names;
use super::part::{HeadPart, Pulled, missing_input};
use super::stages::{StackStages, Stage};
use super::tail::Tail;

/// A model that [`train_stack`] can walk: an embedding, blocks of one type, and a head that ends in the loss. A model of
/// several stacks lists their [`stages`](Self::stages) itself.
///
/// The three functions take everything that they read as arguments. `Batch` is data from the host: indices, masks, constants.
pub trait Stack {
    /// The data that a step is computed from, apart from the parameters.
    type Batch;
    /// The state that flows between blocks: one tensor, or a small tree of tensors that derives [`Parameters`]. Every
    /// tensor holds floats; a block may return more or fewer of them than it got.
    type State: Parameters<Mode = Train, In<Train> = Self::State>;
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

    /// All that is computed before the head, first to last.
    fn stages(&self) -> StackStages<'_, Self>
    where
        Self: Sized,
    {
        let first = StackStages::first(EMBEDDING, self.embedding(), Self::embed);
        first.blocks(Self::BLOCKS, self.blocks(), Self::forward)
    }

    /// The dtype that [`forward`](Self::forward) casts the block's leaf of this full name to wherever it reads it, if the
    /// leaf trains; `stored` is the leaf's own.
    ///
    /// Master weights, float32 in a model of 16 bits, are then cast once a step, not in the forward pass and again in the
    /// backward pass. A leaf that `forward` reads once has the same gradient as before, in this dtype until it is added to
    /// another: sums over parts and steps are in the leaf's own dtype.
    fn dtype_of_use(&self, name: &str, stored: Dtype) -> Dtype {
        let _ = name;
        stored
    }

    /// The first hidden state.
    ///
    /// # Errors
    /// Those of the operations in it.
    fn embed(embedding: &<Self::Embedding as Parameters>::In<Train>, batch: &Self::Batch) -> Result<Self::State>;

    /// The hidden state after a block.
    ///
    /// # Errors
    /// Those of the operations in it.
    fn forward(
        block: &<Self::Block as Parameters>::In<Train>,
        hidden: &Self::State,
        batch: &Self::Batch,
    ) -> Result<Self::State>;

    /// The loss, a scalar of float32; where [`weights`](Self::weights) names several parts of it, a vector of them.
    ///
    /// # Errors
    /// Those of the operations in it.
    fn loss(
        head: &<Self::Head as Parameters>::In<Train>,
        hidden: &Self::State,
        batch: &Self::Batch,
    ) -> Result<Tensor<Train>>;

    /// Returns the weight of each part of the loss in the gradient: finite numbers that are not all zero, because such a batch trains
    /// nothing and is better left out. Drivers return the parts without their weights.
    fn weights(batch: &Self::Batch) -> Vec<f32> {
        let _ = batch;
        vec![1.0]
    }
}

/// The results that the forward pass keeps for the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// Every intermediate result: fastest where memory allows.
    All,
    /// The inputs of the blocks; a block is recomputed when its turn comes.
    #[default]
    BlockInputs,
    /// Like [`BlockInputs`](Keep::BlockInputs), but also all intermediate results of the last N blocks, which are then
    /// not recomputed.
    LastBlocks(usize),
    /// Like [`BlockInputs`](Keep::BlockInputs), but also the results of kernels that are declared `expensive`, from the
    /// first block on, as long as they take no more than `bytes` in all.
    Expensive {
        /// The largest number of bytes that those outputs and residuals may take.
        bytes: usize,
    },
}

pub(super) const OPERATION: &str = "train_stack";

/// The names of [`Cut::part`](crate::Cut::part) for the parts that are not blocks.
const EMBEDDING: &str = "embedding";
pub(super) const HEAD: &str = "head";

/// Returns the loss of one batch, or its parts, and adds the gradients of the `trainable` parameters to `gradients`.
///
/// Loss and gradients may still be in computation on return; code that reads them waits. [`Keep::BlockInputs`] keeps
/// the hidden states between blocks in memory, and the intermediate results of two blocks. [`Keep::LastBlocks`] also
/// keeps all intermediate results of N blocks, and [`Keep::Expensive`] as many bytes of them as it says.
///
/// Gradients are added to those already in `gradients`, so that micro-batches accumulate: begin each step of the
/// optimizer with [`Gradients::new`].
///
/// A block that is computed again must compute the same values. So it reads its arguments only, and takes random
/// numbers from [keys](crate::random::Key) in the batch. The two results are compared in the first step of a session,
/// in the first with each shape, in every hundredth, and in every step of a build with debug assertions; such a step
/// waits for its end.
///
/// # Errors
/// What the stack's functions return; [`Error::Shape`](crate::Error::Shape) unless the loss is float32 and has as many
/// parts as weights; [`Error::Mlx`](crate::Error::Mlx); [`Error::Refused`](crate::Error::Refused) for a step that would train wrong:
/// a loss that no trainable parameter reaches, a result that another graph computed or that differs when it is computed again, a
/// selection of nothing or of names that no part has, two parameters of one name, one under two names, gradients of other
/// weights. After an error in the middle of a step `gradients` can only be dropped.
pub fn train_stack<S: Stack>(
    session: &mut Session,
    stack: &S,
    trainable: &Trainable,
    batch: &S::Batch,
    keep: Keep,
    gradients: &mut Gradients,
) -> Result<Tensor<Stored>> {
    let running = session.run(OPERATION)?;
    let result = train(&running, stack, trainable, batch, keep, gradients);
    running.finish(result)
}

/// Trains as [`train_stack`] does, with every comparison.
pub(super) fn train_stack_compared<S: Stack>(
    session: &mut Session,
    stack: &S,
    trainable: &Trainable,
    batch: &S::Batch,
    gradients: &mut Gradients,
) -> Result<Tensor<Stored>> {
    let running = session.run(OPERATION)?;
    running.compare_all();
    let result = train(&running, stack, trainable, batch, Keep::BlockInputs, gradients);
    running.finish(result)
}

/// The full names of a stack's parameters, part by part, each with the tensor that the part shows.
pub(super) fn leaves_of_parts<S: Stack>(stack: &S) -> Vec<names::Leaf> {
    let mut leaves = stack.stages().leaves();
    leaves.extend(names::leaves(&stack.head(), &Path::root()));
    leaves
}

fn train<S: Stack>(
    running: &Running<'_>,
    stack: &S,
    trainable: &Trainable,
    batch: &S::Batch,
    keep: Keep,
    gradients: &mut Gradients,
) -> Result<Tensor<Stored>> {
    let head = stack.head();
    let head = HeadPart::new(&head, trainable);
    let stages = stack.stages().select(stack, trainable)?;
    let leaves: Vec<&TrainableLeaves> = stages.iter().map(|stage| &stage.leaves).chain([&head.leaves]).collect();
    let all = || leaves_of_parts(stack).into_iter().map(|leaf| leaf.name).collect();
    names::check(OPERATION, &leaves, trainable, all)?;
    running.train(leaves.iter().copied());
    gradients.check(OPERATION, &leaves)?;
    let parts = Tail::<S> { stages, head, batch };
    gradients.adding(|gradients| match keep {
        Keep::All => whole_graph(parts, running, gradients),
        Keep::BlockInputs => block_by_block(parts, running, (0, 0), gradients),
        Keep::LastBlocks(count) => block_by_block(parts, running, (count, 0), gradients),
        Keep::Expensive { bytes } => block_by_block(parts, running, (0, bytes), gradients),
    })
}

/// Keeps everything of the last `last_blocks` stages, and up to `room` bytes of what expensive kernels compute in the others.
fn block_by_block<S: Stack>(
    parts: Tail<'_, S>,
    running: &Running<'_>,
    (last_blocks, mut room): (usize, usize),
    gradients: &mut Gradients,
) -> Result<Tensor<Stored>> {
    let Tail { mut stages, head, batch } = parts;
    // An element says whether anything trains in the stages up to that one.
    let trains: Vec<bool> = stages
        .iter()
        .scan(false, |any, stage| {
            *any |= !stage.leaves.is_empty();
            Some(*any)
        })
        .collect();
    let trains_before = |index: usize| index > 0 && trains[index - 1];

    let mut part = Part::enter(EMBEDDING);
    // The first stage is not a block.
    let begin = stages.len().saturating_sub(last_blocks).max(1);
    let tail = Tail { stages: stages.split_off(begin.min(stages.len())), head, batch };
    let mut in_flight = InFlight::new(OPERATION);
    let mut compares = None;
    let (mut state, mut inputs, mut kept) = (None, Vec::new(), Vec::new());
    for (index, stage) in stages.iter().enumerate() {
        part.change(&stage.name);
        let run = || stage.forward(OPERATION, state.as_ref(), batch);
        // Stages before the first that trains are not computed again.
        let (output, of_stage) = match trains[index] && index > 0 {
            true => Kept::forward(&mut room, run)?,
            false => (run()?, Kept::default()),
        };
        compares.get_or_insert_with(|| running::compares(|| key::<S>(&output, last_blocks, room)));
        if index > 0 {
            in_flight.start(of_stage.arrays().chain(&output.arrays).cloned().collect())?;
        }
        kept.push(of_stage);
        let input = state.replace(output);
        inputs.push(input.filter(|_| trains[index]));
    }

    let compares = compares.unwrap_or_default();
    let mut backward = Backward { in_flight, gradients, compares, repetitions: Vec::new() };
    let state = state.ok_or_else(missing_input)?;
    let before: Vec<&TrainableLeaves> = stages.iter().map(|stage| &stage.leaves).collect();
    let pulled = tail.pull((&state, trains_before(stages.len())), &before)?;
    // If repetitions are compared, this is what the stage before computed the first time.
    let mut first = compares.then(|| state.arrays.clone());
    drop((state, before));
    let Pulled { outputs: value, input, parameters } = pulled;
    let sums = tail.accumulate(parameters, backward.gradients)?;
    backward.start(value.iter().chain(input.iter().flatten()).cloned().chain(sums).collect())?;
    let mut cotangents = input;

    while let (Some(stage), Some(input), Some(kept)) = (stages.pop(), inputs.pop(), kept.pop()) {
        let Some(of_output) = cotangents.take() else { break };
        part.change(&stage.name);
        let needs = trains_before(stages.len());
        let pulled = kept.backward(|| stage.pull(input.as_ref().map(|input| (input, needs)), &of_output, batch))?;
        cotangents = backward.go_on(stage, first.as_deref(), pulled)?;
        first = input.filter(|_| compares).map(|input| input.arrays);
    }
    running.compare(&backward.repetitions)?;
    let value = value.into_iter().next().ok_or_else(missing_input)?;
    Ok(Tensor::from_parts(value, Origin::HOST))
}

/// Returns the key of the form in which a step runs, for the choice of the steps that are compared.
fn key<S: Stack>(first: &Carried<S::State>, last_blocks: usize, room: usize) -> String {
    let forms: Vec<_> = first.arrays.iter().map(|array| (array.shape(), array.dtype())).collect();
    format!("{OPERATION} {} {forms:?} {last_blocks} {room}", std::any::type_name::<S>())
}

fn whole_graph<S: Stack>(
    parts: Tail<'_, S>,
    running: &Running<'_>,
    gradients: &mut Gradients,
) -> Result<Tensor<Stored>> {
    let primals = parts.primals();
    let function = |primals: &[Array]| Ok(vec![parts.loss(primals, None, &[])?]);
    let (values, found) = vjp_arrays(OPERATION, function, &primals, &[parts.cotangent()?])?;
    parts.accumulate(found, gradients)?;
    let repetitions = running::take_repetitions();
    let compared = repetitions.iter().map(Repetition::array);
    ffi::evaluate_async(OPERATION, values.iter().chain(gradients.arrays()).chain(compared))?;
    running.compare(&repetitions)?;
    Ok(Tensor::from_parts(values[0].clone(), Origin::HOST))
}

/// The backward pass, block by block.
struct Backward<'a> {
    in_flight: InFlight,
    gradients: &'a mut Gradients,
    compares: bool,
    repetitions: Vec<Repetition>,
}

impl Backward<'_> {
    /// Starts to compute arrays, and with them the results to compare, which would otherwise keep what they are computed from.
    fn start(&mut self, mut arrays: Vec<Array>) -> Result<()> {
        let repetitions = running::take_repetitions();
        arrays.extend(repetitions.iter().map(|repetition| repetition.array().clone()));
        self.repetitions.extend(repetitions);
        self.in_flight.start(arrays)
    }

    /// Adds a stage's gradients and starts to compute them, with those of the state before it, which it returns. `first` is
    /// what the stage computed in the forward pass.
    fn go_on<S: Stack>(
        &mut self,
        stage: Stage<'_, S>,
        first: Option<&[Array]>,
        pulled: Pulled,
    ) -> Result<Option<Vec<Array>>> {
        if let (true, Some(first)) = (self.compares, first) {
            stage.repetitions(first, &pulled.outputs)?.into_iter().for_each(running::repeated);
        }
        let mut arrays: Vec<Array> = pulled.input.iter().flatten().cloned().collect();
        arrays.extend(stage.leaves.accumulate(pulled.parameters, self.gradients)?);
        self.start(arrays)?;
        Ok(pulled.input)
    }
}

/// Returns the loss of one batch, or its parts, evaluated without a gradient, in the memory of two blocks.
///
/// # Errors
/// What the stack's functions return; [`Error::Shape`](crate::Error::Shape) unless the loss is float32 and has as many
/// parts as weights; [`Error::Mlx`](crate::Error::Mlx); [`Error::Refused`](crate::Error::Refused) if another graph computed a result.
pub fn evaluate_stack<S: Stack>(session: &mut Session, stack: &S, batch: &S::Batch) -> Result<Tensor<Stored>> {
    let operation = "evaluate_stack";
    let running = session.run(operation)?;
    let result = evaluate(operation, stack, batch);
    running.finish(result)
}

fn evaluate<S: Stack>(operation: &'static str, stack: &S, batch: &S::Batch) -> Result<Tensor<Stored>> {
    let (head, nothing) = (stack.head(), Trainable::default());
    let mut state = None;
    let mut in_flight = InFlight::new(operation);
    for (index, stage) in stack.stages().select(stack, &nothing)?.iter().enumerate() {
        let output = stage.forward(operation, state.as_ref(), batch)?;
        if index > 0 {
            in_flight.start(output.arrays.clone())?;
        }
        state = Some(output);
    }
    in_flight.finish()?;
    let trace = TraceId::fresh();
    let state = state.as_ref().ok_or_else(missing_input)?.enter(trace)?;
    let head = HeadPart::new(&head, &nothing).tree(trace, false, &[])?;
    let loss = loss_parts(operation, S::loss(&head, &state, batch)?, trace, S::weights(batch).len())?;
    ffi::evaluate(operation, [&loss])?;
    Ok(Tensor::from_parts(loss, Origin::HOST))
}
