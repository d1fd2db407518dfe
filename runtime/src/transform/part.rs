//! A part of a stack: the embedding, a block, or the head.

use mlx_rs::Array;

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::mode::{Stored, Train};
use crate::parameters::{Parameters, Path};
use crate::repeat::{Repetition, check_form};
use crate::tensor::{Origin, Tensor, TraceId};

use super::gradient::{Trainable, TrainableLeaves, vjp_arrays, with_primals};
use super::stack::OPERATION;

/// A part of the stack: its tree, and its leaves that train.
pub(super) struct StackPart<'a, P> {
    /// What [`Cut::part`](crate::Cut::part) and messages call it.
    pub(super) name: String,
    tree: &'a P,
    pub(super) prefix: Path,
    pub(super) leaves: TrainableLeaves,
}

/// A hidden state between two parts.
#[derive(Clone)]
pub(super) struct Hidden {
    pub(super) array: Array,
    /// Whether a parameter that trains had a part in it.
    pub(super) trains: bool,
}

/// One part's backward: evaluates nothing.
pub(super) struct Pulled {
    pub(super) output: Array,
    /// Gradient of the part's input, if that was asked for.
    pub(super) input: Option<Array>,
    /// Gradients of the leaves.
    pub(super) parameters: Vec<Array>,
}

impl<'a, P: Parameters<Mode = Stored>> StackPart<'a, P> {
    pub(super) fn new(name: &str, tree: &'a P, prefix: Path, trainable: &Trainable) -> Self {
        let leaves = TrainableLeaves::of(tree, &prefix, trainable);
        StackPart { name: name.to_owned(), tree, prefix, leaves }
    }

    pub(super) fn with_primals(&self, trace: TraceId, differentiated: bool, primals: &[Array]) -> Result<P::In<Train>> {
        let origin = Origin::of(trace, true);
        let origin = if differentiated { origin } else { origin.without_gradient() };
        with_primals(self.tree, &self.prefix, &self.leaves, origin, primals)
    }

    /// The hidden state after the part, as it leaves its graph.
    pub(super) fn leave(&self, operation: &'static str, trace: TraceId, output: Tensor<Train>) -> Result<Hidden> {
        let trains = output.origin().trains;
        let array = output.leave(trace, operation, || format!("the hidden state after `{}`", self.name))?;
        Ok(Hidden { array, trains })
    }

    /// The part's output, with no gradient.
    pub(super) fn run<T>(
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
    pub(super) fn pull(
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
    pub(super) fn repetition(&self, first: &Array, again: &Array) -> Result<Repetition> {
        let mut dtypes: Vec<Dtype> = self.leaves.primals.iter().map(|array| Dtype::from_mlx(array.dtype())).collect();
        self.tree.visit(&mut Path::root(), &mut |_, tensor| dtypes.push(tensor.dtype()));
        Repetition::new(OPERATION, &format!("`{}`", self.name), dtypes, [first, again])
    }
}

/// Runs a function of `leaves` and of a hidden state forward, and pulls the cotangent of its output back. The state's
/// gradient is formed where the flag beside it says so.
pub(super) fn pull(
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

pub(super) fn missing_input() -> Error {
    Error::Other("a block was called without its hidden state".into())
}
