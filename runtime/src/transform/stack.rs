//! The training step of a stack of blocks, in bounded memory.
//!
//! MLX's tape over a whole model keeps every intermediate result, and its checkpoint does not bound memory either:
//! recomputation does not depend on the cotangent, so MLX may run it early for all blocks at once. Here the driver
//! walks the blocks itself: the forward pass keeps the blocks' inputs only, and each block's backward is evaluated
//! before the next but one is begun.

use mlx_rs::Array;

use crate::cut::Part;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::ffi;
use crate::flat::Casts;
use crate::in_flight::InFlight;
use crate::kept::Kept;
use crate::mode::{Stored, Train};
use crate::parameters::{Parameters, Path};
use crate::session::Session;
use crate::tensor::{Origin, Tensor, TraceId};

use super::gradient::{Gradients, Trainable, TrainableLeaves, scalar_loss, vjp_arrays, with_primals};

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

/// A part of the stack: its tree, and its leaves that train.
struct StackPart<'a, P> {
    tree: &'a P,
    prefix: Path,
    trainable: &'a Trainable,
    leaves: TrainableLeaves,
}

/// One part's backward: evaluates nothing.
struct Pulled {
    output: Array,
    /// Gradient of the part's input, if that was asked for.
    input: Option<Array>,
    /// Gradients of the leaves.
    parameters: Vec<Array>,
}

impl<'a, P: Parameters<Mode = Stored>> StackPart<'a, P> {
    fn new(tree: &'a P, prefix: Path, trainable: &'a Trainable) -> Self {
        let leaves = TrainableLeaves::of(tree, &prefix, trainable);
        StackPart { tree, prefix, trainable, leaves }
    }

    fn with_primals(&self, trace: TraceId, differentiated: bool, primals: &[Array]) -> Result<P::In<Train>> {
        with_primals(self.tree, &self.prefix, self.trainable, (trace, differentiated), primals)
    }

    /// The part's output, with no gradient.
    fn run<T>(
        &self,
        input: Option<&Array>,
        function: impl FnOnce(&P::In<Train>, Option<&Tensor<Train>>) -> Result<T>,
    ) -> Result<T> {
        let trace = TraceId::fresh();
        let tree = self.with_primals(trace, false, &self.leaves.primals)?;
        let input = input.map(|array| Tensor::from_parts(array.clone(), Origin::of(trace, false)));
        function(&tree, input.as_ref())
    }

    /// Runs the part forward and pulls the cotangent of its output back.
    fn pull(
        &self,
        input: Option<(&Array, bool)>,
        cotangent: &Array,
        function: &dyn Fn(&P::In<Train>, Option<&Tensor<Train>>) -> Result<Array>,
    ) -> Result<Pulled> {
        pull(self.leaves.primals.clone(), input, cotangent, &|trace, primals, hidden| {
            function(&self.with_primals(trace, true, primals)?, hidden.as_ref())
        })
    }
}

/// Runs a function of `leaves` and of a hidden state forward, and pulls the cotangent of its output back. The state's
/// gradient is formed where the flag beside it says so.
fn pull(
    leaves: Vec<Array>,
    input: Option<(&Array, bool)>,
    cotangent: &Array,
    function: &dyn Fn(TraceId, &[Array], Option<Tensor<Train>>) -> Result<Array>,
) -> Result<Pulled> {
    let trace = TraceId::fresh();
    let parameters = leaves.len();
    let mut primals = leaves;
    let input_needs_gradient = input.is_some_and(|(_, needs_gradient)| needs_gradient);
    if let Some((array, true)) = input {
        primals.push(array.clone());
    }
    let run = |primals: &[Array]| {
        let hidden = input.map(|(array, needs_gradient)| {
            let array = primals.get(parameters).unwrap_or(array);
            Tensor::from_parts(array.clone(), Origin::of(trace, needs_gradient))
        });
        Ok(vec![function(trace, &primals[..parameters], hidden)?])
    };
    let (outputs, mut gradients) = vjp_arrays(OPERATION, run, &primals, std::slice::from_ref(cotangent))?;
    let input = if input_needs_gradient { gradients.pop() } else { None };
    Ok(Pulled { output: outputs[0].clone(), input, parameters: gradients })
}

/// The last blocks and the head as one function: what it computes in between is kept for its gradient.
struct Tail<'a, S: Stack> {
    blocks: Vec<StackPart<'a, S::Block>>,
    head: StackPart<'a, S::Head>,
    batch: &'a S::Batch,
}

impl<S: Stack> Tail<'_, S> {
    fn primals(&self) -> Vec<Array> {
        let blocks = self.blocks.iter().flat_map(|block| &block.leaves.primals);
        blocks.chain(&self.head.leaves.primals).cloned().collect()
    }

    fn loss(&self, trace: TraceId, primals: &[Array], mut hidden: Tensor<Train>) -> Result<Array> {
        let mut part = Part::enter(HEAD);
        let mut rest = primals;
        for block in &self.blocks {
            let (now, after) = rest.split_at(block.leaves.primals.len());
            rest = after;
            part.change(block.prefix.as_str());
            hidden = S::forward(&block.with_primals(trace, true, now)?, &hidden, self.batch)?;
        }
        part.change(HEAD);
        scalar_loss(OPERATION, S::loss(&self.head.with_primals(trace, true, rest)?, &hidden, self.batch)?)
    }

    /// The loss, and its gradients with respect to the hidden state before the first block and to the leaves.
    fn pull(&self, input: (&Array, bool)) -> Result<Pulled> {
        pull(self.primals(), Some(input), &Array::from_f32(1.0), &|trace, primals, hidden| {
            self.loss(trace, primals, hidden.ok_or_else(missing_input)?)
        })
    }

    /// Adds the gradients of the leaves, in the order of [`primals`](Self::primals), and returns the sums.
    fn accumulate(self, mut found: Vec<Array>, gradients: &mut Gradients) -> Result<Vec<Array>> {
        let mut sums = Vec::new();
        let blocks = self.blocks.into_iter().map(|block| block.leaves);
        for leaves in blocks.chain([self.head.leaves]) {
            let after = found.split_off(leaves.primals.len());
            sums.extend(leaves.accumulate(std::mem::replace(&mut found, after), gradients)?);
        }
        Ok(sums)
    }
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

const OPERATION: &str = "train_stack";

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
/// Both may still be under way on return, so that the next computation is put together meanwhile; whoever reads them waits.
/// The hidden states between blocks stay in memory under [`Keep::BlockInputs`], and the intermediate results of two blocks;
/// under [`Keep::LastBlocks`] all those of so many blocks besides, under [`Keep::Expensive`] so many bytes.
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
        Keep::BlockInputs => block_by_block(stack, trainable, batch, (0, 0), gradients),
        Keep::LastBlocks(count) => block_by_block(stack, trainable, batch, (count, 0), gradients),
        Keep::Expensive { bytes } => block_by_block(stack, trainable, batch, (0, bytes), gradients),
    }
}

/// The blocks of a stack, their trainable leaves in the dtype in which they are used.
fn parts_of_blocks<'a, S: Stack>(stack: &'a S, trainable: &'a Trainable) -> Result<Vec<StackPart<'a, S::Block>>> {
    let mut casts = Casts::default();
    let part = |(index, block)| {
        let mut part = StackPart::new(block, block_path::<S>(index), trainable);
        part.leaves = part.leaves.cast(&mut casts, |name, stored| stack.dtype_of_use(name, stored))?;
        Ok(part)
    };
    stack.blocks().iter().enumerate().map(part).collect()
}

/// Keeps everything of the last so many blocks, and so many bytes of what expensive kernels compute in the others.
fn block_by_block<S: Stack>(
    stack: &S,
    trainable: &Trainable,
    batch: &S::Batch,
    (last_blocks, mut room): (usize, usize),
    gradients: &mut Gradients,
) -> Result<Tensor<Stored>> {
    let (embedding, head) = (stack.embedding(), stack.head());
    let embedding = StackPart::new(&embedding, Path::root(), trainable);
    let head = StackPart::new(&head, Path::root(), trainable);
    let mut blocks = parts_of_blocks(stack, trainable)?;

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
    let mut inputs = vec![embedding.run(None, |embedding, _| Ok(S::embed(embedding, batch)?.into_array()))?];
    let tail = Tail::<S> { blocks: blocks.split_off(blocks.len().saturating_sub(last_blocks)), head, batch };
    let mut in_flight = InFlight::new(OPERATION);
    let mut kept = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        part.change(block.prefix.as_str());
        let run = || block.run(Some(&inputs[index]), |block, hidden| forward_block::<S>(block, hidden, batch));
        // Blocks before the first that trains are not computed again.
        let is_pulled = trains_before[index + 1];
        let (output, of_block) = if is_pulled { Kept::forward(&mut room, run)? } else { (run()?, Kept::default()) };
        in_flight.start(of_block.arrays().chain([&output]).cloned().collect())?;
        kept.push(of_block);
        inputs.push(output);
    }

    let hidden = inputs.pop().ok_or_else(missing_input)?;
    let Pulled { output: value, input, parameters } = tail.pull((&hidden, trains_before[blocks.len()]))?;
    drop(hidden);
    let mut arrays: Vec<Array> = input.iter().chain([&value]).cloned().collect();
    arrays.extend(tail.accumulate(parameters, gradients)?);
    in_flight.start(arrays)?;
    let mut cotangent = input;

    while let (Some(block), Some(input), Some(kept)) = (blocks.pop(), inputs.pop(), kept.pop()) {
        let Some(output_gradient) = cotangent.take() else { break };
        let input = Some((&input, trains_before[blocks.len()]));
        part.change(block.prefix.as_str());
        let forward = |block: &_, hidden: Option<&_>| forward_block::<S>(block, hidden, batch);
        let pulled = kept.backward(|| block.pull(input, &output_gradient, &forward))?;
        cotangent = start(&mut in_flight, gradients, block.leaves, pulled)?;
    }
    if let Some(output_gradient) = cotangent {
        part.change(EMBEDDING);
        let embed = |embedding: &<S::Embedding as Parameters>::In<Train>, _: Option<&Tensor<Train>>| {
            Ok(S::embed(embedding, batch)?.into_array())
        };
        let pulled = embedding.pull(None, &output_gradient, &embed)?;
        start(&mut in_flight, gradients, embedding.leaves, pulled)?;
    }
    Ok(Tensor::from_parts(value, Origin::HOST))
}

/// Adds a part's gradients and starts to compute them, with the gradient of its input, which it returns.
fn start(
    in_flight: &mut InFlight,
    gradients: &mut Gradients,
    leaves: TrainableLeaves,
    pulled: Pulled,
) -> Result<Option<Array>> {
    let mut arrays: Vec<Array> = pulled.input.iter().cloned().collect();
    arrays.extend(leaves.accumulate(pulled.parameters, gradients)?);
    in_flight.start(arrays)?;
    Ok(pulled.input)
}

fn whole_graph<S: Stack>(
    stack: &S,
    trainable: &Trainable,
    batch: &S::Batch,
    gradients: &mut Gradients,
) -> Result<Tensor<Stored>> {
    let (embedding, head) = (stack.embedding(), stack.head());
    let embedding = StackPart::new(&embedding, Path::root(), trainable);
    let head = StackPart::new(&head, Path::root(), trainable);
    let tail = Tail::<S> { blocks: parts_of_blocks(stack, trainable)?, head, batch };
    let mut primals = embedding.leaves.primals.clone();
    let before = primals.len();
    primals.extend(tail.primals());

    let trace = TraceId::fresh();
    let function = |primals: &[Array]| {
        let part = Part::enter(EMBEDDING);
        let (now, rest) = primals.split_at(before);
        let hidden = S::embed(&embedding.with_primals(trace, true, now)?, batch)?;
        drop(part);
        Ok(vec![tail.loss(trace, rest, hidden)?])
    };
    let (values, mut found) = vjp_arrays(OPERATION, function, &primals, &[Array::from_f32(1.0)])?;
    let after = found.split_off(before);
    embedding.leaves.accumulate(found, gradients)?;
    tail.accumulate(after, gradients)?;
    ffi::evaluate_async(OPERATION, values.iter().chain(gradients.arrays()))?;
    Ok(Tensor::from_parts(values[0].clone(), Origin::HOST))
}

/// The loss of one batch, evaluated, with no gradient, in the memory of two blocks.
///
/// # Errors
/// As [`train_stack`].
pub fn evaluate_stack<S: Stack>(session: &mut Session, stack: &S, batch: &S::Batch) -> Result<Tensor<Stored>> {
    let operation = "evaluate_stack";
    let _running = session.run();
    let (embedding, head, nothing) = (stack.embedding(), stack.head(), Trainable::default());
    let embedding = StackPart::new(&embedding, Path::root(), &nothing);
    let mut hidden = embedding.run(None, |embedding, _| Ok(S::embed(embedding, batch)?.into_array()))?;
    let mut in_flight = InFlight::new(operation);
    for block in stack.blocks() {
        let block = StackPart::new(block, Path::root(), &nothing);
        hidden = block.run(Some(&hidden), |block, hidden| forward_block::<S>(block, hidden, batch))?;
        in_flight.start(vec![hidden.clone()])?;
    }
    in_flight.finish()?;
    let head = StackPart::new(&head, Path::root(), &nothing);
    let loss = head.run(Some(&hidden), |head, hidden| {
        scalar_loss(operation, S::loss(head, hidden.ok_or_else(missing_input)?, batch)?)
    })?;
    ffi::evaluate(operation, [&loss])?;
    Ok(Tensor::from_parts(loss, Origin::HOST))
}
