//! The training step of a stack of blocks, in bounded memory.
//!
//! MLX's tape over a whole model keeps every intermediate result, and its checkpoint does not bound memory either:
//! recomputation does not depend on the cotangent, so MLX may run it early for all blocks at once. Here the driver
//! walks the blocks itself: the forward pass keeps the blocks' inputs only, and each block's backward is evaluated
//! before the next but one is begun.

use mlx_rs::Array;

use crate::cut::Part;
use crate::dtype::Dtype;
use crate::error::Result;
use crate::ffi;
use crate::flat::Casts;
use crate::in_flight::InFlight;
use crate::kept::Kept;
use crate::mode::{Stored, Train};
use crate::parameters::{Parameters, Path};
use crate::repeat::Repetition;
use crate::running::{self, Running};
use crate::session::Session;
use crate::tensor::{Origin, Tensor, TraceId};

use super::gradient::{Trainable, TrainableLeaves, scalar, vjp_arrays};
use super::gradients::Gradients;
use super::names;
use super::part::{Pulled, StackPart, missing_input};
use super::tail::Tail;

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
    /// As [`BlockInputs`](Keep::BlockInputs), but every intermediate result of the last so many blocks: as much less to
    /// compute again as memory allows.
    LastBlocks(usize),
    /// As [`BlockInputs`](Keep::BlockInputs), but what kernels computed that are declared `expensive` besides, from the
    /// first block on, as long as all of it takes no more than so many bytes.
    Expensive {
        /// Bytes of those outputs and residuals.
        bytes: usize,
    },
}

fn forward_block<S: Stack>(
    block: &<S::Block as Parameters>::In<Train>,
    hidden: Option<&Tensor<Train>>,
    batch: &S::Batch,
) -> Result<Tensor<Train>> {
    S::forward(block, hidden.ok_or_else(missing_input)?, batch)
}

pub(super) const OPERATION: &str = "train_stack";

/// What [`Cut::part`](crate::Cut::part) calls the parts that are no blocks.
const EMBEDDING: &str = "embedding";
pub(super) const HEAD: &str = "head";

fn block_path<S: Stack>(index: usize) -> Path {
    let mut path = Path::new(S::BLOCKS);
    path.push_index(index);
    path
}

/// The loss of one batch; adds the gradients of the `trainable` parameters to `gradients`.
///
/// Both may still be under way on return, so that the next computation is put together meanwhile; whoever reads them waits.
/// The hidden states between blocks stay in memory under [`Keep::BlockInputs`], and the intermediate results of two blocks;
/// under [`Keep::LastBlocks`] all those of so many blocks besides, under [`Keep::Expensive`] so many bytes.
///
/// Gradients are added to those that are there, so that micro-batches accumulate: begin each step of the optimizer with
/// [`Gradients::new`].
///
/// A block that is computed again must compute the same: what it reads are its arguments, random numbers come from
/// [keys](crate::random::Key) in the batch. The two results are compared in the first step of a session, in the first with
/// each shape, in every hundredth, and in every step of a build with debug assertions; such a step waits for its end.
///
/// # Errors
/// What the stack's functions return; [`Error::Shape`](crate::Error::Shape) unless the loss is a scalar of float32;
/// [`Error::Mlx`](crate::Error::Mlx); [`Error::Refused`](crate::Error::Refused) for what would train wrong: a loss that no
/// trainable parameter reaches, a result that another graph computed or that is another when it is computed again, a
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

/// As [`train_stack`], with every comparison.
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
    let mut leaves = names::leaves(&stack.embedding(), &Path::root());
    for (index, block) in stack.blocks().iter().enumerate() {
        leaves.extend(names::leaves(block, &block_path::<S>(index)));
    }
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
    let (embedding, head) = (stack.embedding(), stack.head());
    let embedding = StackPart::new(EMBEDDING, &embedding, Path::root(), trainable);
    let head = StackPart::new(HEAD, &head, Path::root(), trainable);
    let blocks = parts_of_blocks(stack, trainable)?;
    let leaves: Vec<&TrainableLeaves> =
        [&embedding.leaves].into_iter().chain(blocks.iter().map(|block| &block.leaves)).chain([&head.leaves]).collect();
    let all = || leaves_of_parts(stack).into_iter().map(|leaf| leaf.name).collect();
    names::check(OPERATION, &leaves, trainable, all)?;
    running.train(leaves.iter().copied());
    gradients.check(OPERATION, &leaves)?;
    let parts = Parts::<S> { embedding, blocks, head, batch };
    gradients.adding(|gradients| match keep {
        Keep::All => parts.whole_graph(running, gradients),
        Keep::BlockInputs => parts.block_by_block(running, (0, 0), gradients),
        Keep::LastBlocks(count) => parts.block_by_block(running, (count, 0), gradients),
        Keep::Expensive { bytes } => parts.block_by_block(running, (0, bytes), gradients),
    })
}

fn block_part<'a, S: Stack>(index: usize, block: &'a S::Block, trainable: &Trainable) -> StackPart<'a, S::Block> {
    let path = block_path::<S>(index);
    StackPart::new(&path.to_string(), block, path, trainable)
}

/// The blocks of a stack, their trainable leaves in the dtype in which they are used.
fn parts_of_blocks<'a, S: Stack>(stack: &'a S, trainable: &Trainable) -> Result<Vec<StackPart<'a, S::Block>>> {
    let mut casts = Casts::default();
    let part = |(index, block)| {
        let mut part = block_part::<S>(index, block, trainable);
        part.leaves = part.leaves.cast(&mut casts, |name, stored| stack.dtype_of_use(name, stored))?;
        Ok(part)
    };
    stack.blocks().iter().enumerate().map(part).collect()
}

/// All parts of a stack in one step.
struct Parts<'a, S: Stack> {
    embedding: StackPart<'a, S::Embedding>,
    blocks: Vec<StackPart<'a, S::Block>>,
    head: StackPart<'a, S::Head>,
    batch: &'a S::Batch,
}

impl<S: Stack> Parts<'_, S> {
    /// Keeps everything of the last `last_blocks` blocks, and up to `room` bytes of what expensive kernels compute in the others.
    fn block_by_block(
        self,
        running: &Running<'_>,
        (last_blocks, mut room): (usize, usize),
        gradients: &mut Gradients,
    ) -> Result<Tensor<Stored>> {
        let Parts { embedding, mut blocks, head, batch } = self;
        let trains_before: Vec<bool> = {
            let mut any = !embedding.leaves.is_empty();
            let mut before = vec![any];
            for block in &blocks {
                any |= !block.leaves.is_empty();
                before.push(any);
            }
            before
        };

        let mut part = Part::enter(EMBEDDING);
        let mut inputs =
            vec![embedding.run(None, |trace, tree, _| embedding.leave(OPERATION, trace, S::embed(tree, batch)?))?];
        let compares = running::compares(|| {
            let (stack, hidden) = (std::any::type_name::<S>(), &inputs[0].array);
            format!("{OPERATION} {stack} {:?} {:?} {last_blocks} {room}", hidden.shape(), hidden.dtype())
        });
        let tail = Tail::<S> { blocks: blocks.split_off(blocks.len().saturating_sub(last_blocks)), head, batch };
        let mut in_flight = InFlight::new(OPERATION);
        let mut kept = Vec::new();
        for (index, block) in blocks.iter().enumerate() {
            part.change(block.prefix.as_str());
            let run = || {
                block.run(Some(&inputs[index]), |trace, tree, hidden| {
                    block.leave(OPERATION, trace, forward_block::<S>(tree, hidden, batch)?)
                })
            };
            // Blocks before the first that trains are not computed again.
            let is_pulled = trains_before[index + 1];
            let (output, of_block) = if is_pulled { Kept::forward(&mut room, run)? } else { (run()?, Kept::default()) };
            in_flight.start(of_block.arrays().chain([&output.array]).cloned().collect())?;
            kept.push(of_block);
            inputs.push(output);
        }

        let mut backward = Backward { in_flight, gradients, compares, repetitions: Vec::new() };
        let hidden = inputs.pop().ok_or_else(missing_input)?;
        let before: Vec<&TrainableLeaves> =
            [&embedding.leaves].into_iter().chain(blocks.iter().map(|block| &block.leaves)).collect();
        let Pulled { output: value, input, parameters } = tail.pull((&hidden, trains_before[blocks.len()]), &before)?;
        // What the block before computed the first time, if it is compared.
        let mut first = compares.then(|| hidden.array.clone());
        drop((hidden, before));
        let sums = tail.accumulate(parameters, backward.gradients)?;
        backward.start([&value].into_iter().chain(&input).cloned().chain(sums).collect())?;
        let mut cotangent = input;

        while let (Some(block), Some(input), Some(kept)) = (blocks.pop(), inputs.pop(), kept.pop()) {
            let Some(output_gradient) = cotangent.take() else { break };
            part.change(block.prefix.as_str());
            let forward = |block: &_, hidden: Option<&_>| forward_block::<S>(block, hidden, batch);
            let needs = trains_before[blocks.len()];
            let pulled = kept.backward(|| block.pull(Some((&input.array, needs)), &output_gradient, &forward))?;
            cotangent = backward.go_on(block, first.as_ref(), pulled)?;
            first = compares.then_some(input.array);
        }
        if let Some(output_gradient) = cotangent {
            part.change(EMBEDDING);
            let embed = |embedding: &<S::Embedding as Parameters>::In<Train>, _: Option<&Tensor<Train>>| {
                S::embed(embedding, batch)
            };
            let pulled = embedding.pull(None, &output_gradient, &embed)?;
            backward.go_on(embedding, first.as_ref(), pulled)?;
        }
        running.compare(&backward.repetitions)?;
        Ok(Tensor::from_parts(value, Origin::HOST))
    }

    fn whole_graph(self, running: &Running<'_>, gradients: &mut Gradients) -> Result<Tensor<Stored>> {
        let Parts { embedding, blocks, head, batch } = self;
        let tail = Tail::<S> { blocks, head, batch };
        let mut primals = embedding.leaves.primals.clone();
        let before = primals.len();
        primals.extend(tail.primals());

        let function = |primals: &[Array]| {
            let part = Part::enter(EMBEDDING);
            let (now, rest) = primals.split_at(before);
            let trace = TraceId::fresh();
            let output = S::embed(&embedding.with_primals(trace, true, now)?, batch)?;
            let needs = output.needs_gradient();
            let hidden = embedding.leave(OPERATION, trace, output)?;
            drop(part);
            Ok(vec![tail.loss(rest, (hidden, needs), &[&embedding.leaves])?])
        };
        let (values, mut found) = vjp_arrays(OPERATION, function, &primals, &[Array::from_f32(1.0)])?;
        let after = found.split_off(before);
        embedding.leaves.accumulate(found, gradients)?;
        tail.accumulate(after, gradients)?;
        let repetitions = running::take_repetitions();
        let compared = repetitions.iter().map(Repetition::array);
        ffi::evaluate_async(OPERATION, values.iter().chain(gradients.arrays()).chain(compared))?;
        running.compare(&repetitions)?;
        Ok(Tensor::from_parts(values[0].clone(), Origin::HOST))
    }
}

/// The backward pass, block by block.
struct Backward<'a> {
    in_flight: InFlight,
    gradients: &'a mut Gradients,
    compares: bool,
    repetitions: Vec<Repetition>,
}

impl Backward<'_> {
    /// Starts to compute arrays, and with them what is to be compared: it would keep what it is computed from.
    fn start(&mut self, mut arrays: Vec<Array>) -> Result<()> {
        let repetitions = running::take_repetitions();
        arrays.extend(repetitions.iter().map(|repetition| repetition.array().clone()));
        self.repetitions.extend(repetitions);
        self.in_flight.start(arrays)
    }

    /// Adds a part's gradients and starts to compute them, with the gradient of its input, which it returns. `first` is
    /// what the part computed in the forward pass.
    fn go_on<P: Parameters<Mode = Stored>>(
        &mut self,
        part: StackPart<'_, P>,
        first: Option<&Array>,
        pulled: Pulled,
    ) -> Result<Option<Array>> {
        if let (true, Some(first)) = (self.compares, first) {
            running::repeated(part.repetition(first, &pulled.output)?);
        }
        let mut arrays: Vec<Array> = pulled.input.iter().cloned().collect();
        arrays.extend(part.leaves.accumulate(pulled.parameters, self.gradients)?);
        self.start(arrays)?;
        Ok(pulled.input)
    }
}

/// The loss of one batch, evaluated, with no gradient, in the memory of two blocks.
///
/// # Errors
/// What the stack's functions return; [`Error::Shape`](crate::Error::Shape) unless the loss is a scalar of float32;
/// [`Error::Mlx`](crate::Error::Mlx); [`Error::Refused`](crate::Error::Refused) if another graph computed a result.
pub fn evaluate_stack<S: Stack>(session: &mut Session, stack: &S, batch: &S::Batch) -> Result<Tensor<Stored>> {
    let operation = "evaluate_stack";
    let running = session.run(operation)?;
    let result = evaluate(operation, stack, batch);
    running.finish(result)
}

fn evaluate<S: Stack>(operation: &'static str, stack: &S, batch: &S::Batch) -> Result<Tensor<Stored>> {
    let (embedding, head, nothing) = (stack.embedding(), stack.head(), Trainable::default());
    let embedding = StackPart::new(EMBEDDING, &embedding, Path::root(), &nothing);
    let mut hidden = embedding.run(None, |trace, tree, _| embedding.leave(operation, trace, S::embed(tree, batch)?))?;
    let mut in_flight = InFlight::new(operation);
    for (index, block) in stack.blocks().iter().enumerate() {
        let block = block_part::<S>(index, block, &nothing);
        hidden = block.run(Some(&hidden), |trace, tree, hidden| {
            block.leave(operation, trace, forward_block::<S>(tree, hidden, batch)?)
        })?;
        in_flight.start(vec![hidden.array.clone()])?;
    }
    in_flight.finish()?;
    let head = StackPart::new(HEAD, &head, Path::root(), &nothing);
    let loss = head.run(Some(&hidden), |trace, head, hidden| {
        scalar(operation, S::loss(head, hidden.ok_or_else(missing_input)?, batch)?, trace)
    })?;
    ffi::evaluate(operation, [&loss])?;
    Ok(Tensor::from_parts(loss, Origin::HOST))
}
