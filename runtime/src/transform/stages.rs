//! The stages of a stack before its head, each with its own type of parameters, which pass a state on.

use mlx_rs::Array;

use crate::dtype::Dtype;
use crate::error::Result;
use crate::flat::Casts;
use crate::mode::{Stored, Train};
use crate::parameters::{Parameters, Path};
use crate::tensor::{Origin, TraceId};

use super::carried::Carried;
use super::gradient::{Trainable, TrainableLeaves, with_primals};
use super::names;
use super::part::missing_input;
use super::stack::Stack;

/// The stages of a model, first to last: its stacks, one after the other.
///
/// Every stage is computed from its parameters, the state that the stage before it returns, and the batch. The first has
/// no state before it.
pub struct StackStages<'a, S: Stack> {
    stages: Vec<Unselected<'a, S>>,
}

/// A stage before it is known what trains.
struct Unselected<'a, S: Stack> {
    name: String,
    prefix: Path,
    casts: bool,
    body: Box<dyn Body<S> + 'a>,
}

/// A stage, and its leaves that train.
pub(super) struct Stage<'a, S: Stack> {
    /// The name of the stage in [`Cut::part`](crate::Cut::part) and in messages.
    pub(super) name: String,
    prefix: Path,
    pub(super) leaves: TrainableLeaves,
    body: Box<dyn Body<S> + 'a>,
}

/// Parameters of one type, and what computes with them.
trait Body<S: Stack> {
    fn trainable(&self, prefix: &Path, trainable: &Trainable) -> TrainableLeaves;
    fn leaves(&self, prefix: &Path) -> Vec<names::Leaf>;
    fn run(&self, part: &Call<'_>, state: Option<&S::State>, batch: &S::Batch) -> Result<S::State>;
}

/// The parameters that a stage computes with.
struct Call<'a> {
    prefix: &'a Path,
    leaves: &'a TrainableLeaves,
    origin: Origin,
    primals: &'a [Array],
}

enum Tree<'a, P> {
    Owned(P),
    Borrowed(&'a P),
}

impl<P> Tree<'_, P> {
    fn get(&self) -> &P {
        match self {
            Tree::Owned(tree) => tree,
            Tree::Borrowed(tree) => tree,
        }
    }
}

/// A stage's function: the first stage's, or that of a later one.
enum Function<S: Stack, P: Parameters<Mode = Stored>> {
    First(fn(&P::In<Train>, &S::Batch) -> Result<S::State>),
    Later(fn(&P::In<Train>, &S::State, &S::Batch) -> Result<S::State>),
}

struct Typed<'a, S: Stack, P: Parameters<Mode = Stored>> {
    tree: Tree<'a, P>,
    function: Function<S, P>,
}

impl<S: Stack, P: Parameters<Mode = Stored>> Body<S> for Typed<'_, S, P> {
    fn trainable(&self, prefix: &Path, trainable: &Trainable) -> TrainableLeaves {
        TrainableLeaves::new(self.tree.get(), prefix, trainable)
    }

    fn leaves(&self, prefix: &Path) -> Vec<names::Leaf> {
        names::leaves(self.tree.get(), prefix)
    }

    fn run(&self, call: &Call<'_>, state: Option<&S::State>, batch: &S::Batch) -> Result<S::State> {
        let tree = with_primals(self.tree.get(), call.prefix, call.leaves, call.origin, call.primals)?;
        match self.function {
            Function::First(function) => function(&tree, batch),
            Function::Later(function) => function(&tree, state.ok_or_else(missing_input)?, batch),
        }
    }
}

impl<'a, S: Stack + 'a> StackStages<'a, S> {
    /// Begins with a stage whose leaves have full names; errors and audits call it `name`.
    pub fn first<P: Parameters<Mode = Stored> + 'a>(
        name: &str,
        tree: P,
        embed: fn(&P::In<Train>, &S::Batch) -> Result<S::State>,
    ) -> Self {
        let body = Box::new(Typed { tree: Tree::Owned(tree), function: Function::First(embed) });
        let first = Unselected { name: name.to_owned(), prefix: Path::root(), casts: false, body };
        StackStages { stages: vec![first] }
    }

    /// Begins with a part of the model, whose leaves' names begin with `path`.
    pub fn begin<P: Parameters<Mode = Stored>>(
        path: &str,
        tree: &'a P,
        embed: fn(&P::In<Train>, &S::Batch) -> Result<S::State>,
    ) -> Self {
        let body = Box::new(Typed { tree: Tree::Borrowed(tree), function: Function::First(embed) });
        StackStages { stages: vec![Unselected { name: path.to_owned(), prefix: Path::new(path), casts: true, body }] }
    }

    /// Adds a part of the model, whose leaves' names begin with `path`.
    #[must_use]
    pub fn part<P: Parameters<Mode = Stored>>(
        mut self,
        path: &str,
        tree: &'a P,
        forward: fn(&P::In<Train>, &S::State, &S::Batch) -> Result<S::State>,
    ) -> Self {
        let body = Box::new(Typed { tree: Tree::Borrowed(tree), function: Function::Later(forward) });
        self.stages.push(Unselected { name: path.to_owned(), prefix: Path::new(path), casts: true, body });
        self
    }

    /// Adds blocks of one type, whose leaves' names begin with `path` and a block's index.
    #[must_use]
    pub fn blocks<P: Parameters<Mode = Stored>>(
        self,
        path: &str,
        blocks: &'a [P],
        forward: fn(&P::In<Train>, &S::State, &S::Batch) -> Result<S::State>,
    ) -> Self {
        let numbered = blocks.iter().enumerate();
        numbered.fold(self, |stages, (index, block)| stages.part(&format!("{path}.{index}"), block, forward))
    }

    /// All leaves, under their full names.
    pub(super) fn leaves(&self) -> Vec<names::Leaf> {
        self.stages.iter().flat_map(|stage| stage.body.leaves(&stage.prefix)).collect()
    }

    /// The stages with their leaves that train, in the dtype in which `stack` uses them.
    pub(super) fn select(self, stack: &S, trainable: &Trainable) -> Result<Vec<Stage<'a, S>>> {
        let mut casts = Casts::default();
        let select = |Unselected { name, prefix, casts: is_cast, body }| {
            let mut leaves = body.trainable(&prefix, trainable);
            if is_cast {
                leaves = leaves.cast(&mut casts, |name, stored| stack.dtype_of_use(name, stored))?;
            }
            Ok(Stage { name, prefix, leaves, body })
        };
        self.stages.into_iter().map(select).collect()
    }
}

impl<S: Stack> Stage<'_, S> {
    /// Runs the stage in the graph `trace`; `differentiated` says whether gradients of its leaves are asked for.
    pub(super) fn run(
        &self,
        trace: TraceId,
        differentiated: bool,
        primals: &[Array],
        state: Option<&S::State>,
        batch: &S::Batch,
    ) -> Result<S::State> {
        let origin = Origin::new(trace, true);
        let origin = if differentiated { origin } else { origin.without_gradient() };
        self.body.run(&Call { prefix: &self.prefix, leaves: &self.leaves, origin, primals }, state, batch)
    }

    /// The stage's output, with no gradient.
    pub(super) fn forward(
        &self,
        operation: &'static str,
        input: Option<&Carried<S::State>>,
        batch: &S::Batch,
    ) -> Result<Carried<S::State>> {
        let trace = TraceId::fresh();
        let state = input.map(|carried| carried.enter(trace)).transpose()?;
        let output = self.run(trace, false, &self.leaves.primals, state.as_ref(), batch)?;
        Carried::leave(operation, trace, &output, &self.name)
    }

    /// Returns the dtypes of all leaves, and of the primals of those that train.
    pub(super) fn dtypes(&self) -> Vec<Dtype> {
        let trained = self.leaves.primals.iter().map(|array| Dtype::from_mlx(array.dtype()));
        trained.chain(self.body.leaves(&self.prefix).into_iter().map(|leaf| leaf.dtype)).collect()
    }
}
