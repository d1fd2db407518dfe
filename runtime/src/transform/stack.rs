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
use crate::repeat::{Repetition, check_form};
use crate::running::{self, Running};
use crate::session::Session;
use crate::tensor::{Origin, Tensor, TraceId};

use super::gradient::{Gradients, Trainable, TrainableLeaves, scalar, scalar_loss, vjp_arrays, with_primals};
use super::names;

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
    /// What [`Cut::part`](crate::Cut::part) and messages call it.
    name: String,
    tree: &'a P,
    prefix: Path,
    leaves: TrainableLeaves,
}

/// A hidden state between two parts.
#[derive(Clone)]
struct Hidden {
    array: Array,
    /// Whether a parameter that trains had a part in it.
    trains: bool,
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
    fn new(name: &str, tree: &'a P, prefix: Path, trainable: &Trainable) -> Self {
        let leaves = TrainableLeaves::of(tree, &prefix, trainable);
        StackPart { name: name.to_owned(), tree, prefix, leaves }
    }

    fn with_primals(&self, trace: TraceId, differentiated: bool, primals: &[Array]) -> Result<P::In<Train>> {
        let origin = Origin::of(trace, true);
        let origin = if differentiated { origin } else { origin.without_gradient() };
        with_primals(self.tree, &self.prefix, &self.leaves, origin, primals)
    }

    /// The hidden state after the part, as it leaves its graph.
    fn leave(&self, operation: &'static str, trace: TraceId, output: Tensor<Train>) -> Result<Hidden> {
        let trains = output.origin().trains;
        let array = output.leave(trace, operation, || format!("the hidden state after `{}`", self.name))?;
        Ok(Hidden { array, trains })
    }

    /// The part's output, with no gradient.
    fn run<T>(
        &self,
        input: Option<&Hidden>,
        function: impl FnOnce(TraceId, &P::In<Train>, Option<&Tensor<Train>>) -> Result<T>,
    ) -> Result<T> {
        let trace = TraceId::fresh();
        let tree = self.with_primals(trace, false, &self.leaves.primals)?;
        let input = input.map(|hidden| {
            let origin = Origin::of(trace, hidden.trains).without_gradient();
            Tensor::from_parts(hidden.array.clone(), origin)
        });
        function(trace, &tree, input.as_ref())
    }

    /// Runs the part forward and pulls the cotangent of its output back.
    fn pull(
        &self,
        input: Option<(&Array, bool)>,
        cotangent: &Array,
        function: &dyn Fn(&P::In<Train>, Option<&Tensor<Train>>) -> Result<Tensor<Train>>,
    ) -> Result<Pulled> {
        pull(self.leaves.primals.clone(), input, cotangent, &|primals, hidden| {
            let trace = TraceId::fresh();
            let hidden = hidden.map(|(array, needs)| Tensor::from_parts(array, Origin::of(trace, needs)));
            let output = function(&self.with_primals(trace, true, primals)?, hidden.as_ref())?;
            let output = self.leave(OPERATION, trace, output)?.array;
            check_form(OPERATION, &format!("`{}`", self.name), [cotangent, &output])?;
            Ok(output)
        })
    }

    /// What the part computed when it was run again, beside what it computed `first`.
    fn repetition(&self, first: &Array, again: &Array) -> Result<Repetition> {
        let mut dtypes: Vec<Dtype> = self.leaves.primals.iter().map(|array| Dtype::from_mlx(array.dtype())).collect();
        self.tree.visit(&mut Path::root(), &mut |_, tensor| dtypes.push(tensor.dtype()));
        Repetition::new(OPERATION, &format!("`{}`", self.name), dtypes, [first, again])
    }
}

/// Runs a function of `leaves` and of a hidden state forward, and pulls the cotangent of its output back. The state's
/// gradient is formed where the flag beside it says so.
fn pull(
    leaves: Vec<Array>,
    input: Option<(&Array, bool)>,
    cotangent: &Array,
    function: &dyn Fn(&[Array], Option<(Array, bool)>) -> Result<Array>,
) -> Result<Pulled> {
    let parameters = leaves.len();
    let mut primals = leaves;
    let input_needs_gradient = input.is_some_and(|(_, needs_gradient)| needs_gradient);
    if let Some((array, true)) = input {
        primals.push(array.clone());
    }
    let run = |primals: &[Array]| {
        let hidden = input.map(|(array, needs)| (primals.get(parameters).unwrap_or(array).clone(), needs));
        Ok(vec![function(&primals[..parameters], hidden)?])
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

    /// The loss from the hidden state before the first block; `trains` says whether a parameter had a part in that, and
    /// `before` which train in the parts that it comes from.
    fn loss(
        &self,
        primals: &[Array],
        (mut hidden, mut needs): (Hidden, bool),
        before: &[&TrainableLeaves],
    ) -> Result<Array> {
        let mut part = Part::enter(HEAD);
        let mut rest = primals;
        for block in &self.blocks {
            let (now, after) = rest.split_at(block.leaves.primals.len());
            rest = after;
            part.change(block.prefix.as_str());
            // A graph of its own, so that a block does the same whatever is kept of it.
            let trace = TraceId::fresh();
            let input = Tensor::from_parts(hidden.array, of_state(trace, needs, hidden.trains));
            let output = S::forward(&block.with_primals(trace, true, now)?, &input, self.batch)?;
            needs = output.needs_gradient();
            hidden = block.leave(OPERATION, trace, output)?;
        }
        part.change(HEAD);
        let trace = TraceId::fresh();
        let input = Tensor::from_parts(hidden.array, of_state(trace, needs, hidden.trains));
        let loss = S::loss(&self.head.with_primals(trace, true, rest)?, &input, self.batch)?;
        let own = self.blocks.iter().map(|block| &block.leaves).chain([&self.head.leaves]);
        let trained = before.iter().copied().chain(own);
        scalar_loss(OPERATION, loss, trace, &mut trained.flat_map(|leaves| &leaves.names))
    }

    /// The loss, and its gradients with respect to the hidden state before the first block and to the leaves.
    fn pull(&self, (hidden, needs): (&Hidden, bool), before: &[&TrainableLeaves]) -> Result<Pulled> {
        let input = Some((&hidden.array, needs));
        pull(self.primals(), input, &Array::from_f32(1.0), &|primals, input| {
            let (array, needs) = input.ok_or_else(missing_input)?;
            self.loss(primals, (Hidden { array, trains: hidden.trains }, needs), before)
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

/// Where a hidden state comes from, in the graph of the part after it.
fn of_state(trace: TraceId, needs_gradient: bool, trains: bool) -> Origin {
    Origin { trace: Some(trace), needs_gradient, trains }
}

fn missing_input() -> Error {
    Error::Other("a block was called without its hidden state".into())
}

fn forward_block<S: Stack>(
    block: &<S::Block as Parameters>::In<Train>,
    hidden: Option<&Tensor<Train>>,
    batch: &S::Batch,
) -> Result<Tensor<Train>> {
    S::forward(block, hidden.ok_or_else(missing_input)?, batch)
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
/// Gradients are added to those that are there, so that micro-batches accumulate: begin each step of the optimizer with
/// [`Gradients::new`].
///
/// A block that is computed again must compute the same: what it reads are its arguments, random numbers come from
/// [keys](crate::random::Key) in the batch. The two results are compared in the first step of a session, in the first with
/// each shape, in every hundredth, and in every step of a build with debug assertions; such a step waits for its end.
///
/// # Errors
/// What the stack's functions return; [`Error::Shape`] unless the loss is a scalar of float32; [`Error::Mlx`];
/// [`Error::Refused`] for what would train wrong: a loss that no trainable parameter reaches, a result that another graph
/// computed or that is another when it is computed again, a selection of nothing or of names that no part has, two
/// parameters of one name, one under two names, gradients of other weights. After an error in the middle of a step
/// `gradients` can only be dropped.
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
    /// Keeps everything of the last so many blocks, and so many bytes of what expensive kernels compute in the others.
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
        let mut inputs = vec![embedding.run(None, |trace, tree, _| {
            embedding.leave(OPERATION, trace, S::embed(tree, batch)?)
        })?];
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
            let (output, of_block) =
                if is_pulled { Kept::forward(&mut room, run)? } else { (run()?, Kept::default()) };
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
/// What the stack's functions return; [`Error::Shape`] unless the loss is a scalar of float32; [`Error::Mlx`];
/// [`Error::Refused`] if another graph computed a result.
pub fn evaluate_stack<S: Stack>(session: &mut Session, stack: &S, batch: &S::Batch) -> Result<Tensor<Stored>> {
    let operation = "evaluate_stack";
    let running = session.run(operation)?;
    let result = evaluate(operation, stack, batch);
    running.finish(result)
}

fn evaluate<S: Stack>(operation: &'static str, stack: &S, batch: &S::Batch) -> Result<Tensor<Stored>> {
    let (embedding, head, nothing) = (stack.embedding(), stack.head(), Trainable::default());
    let embedding = StackPart::new(EMBEDDING, &embedding, Path::root(), &nothing);
    let mut hidden =
        embedding.run(None, |trace, tree, _| embedding.leave(operation, trace, S::embed(tree, batch)?))?;
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
