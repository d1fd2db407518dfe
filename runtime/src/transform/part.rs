//! The backward of one stage of a stack, and the part that ends in the loss.

use mlx_rs::Array;

use crate::error::{Error, Result};
use crate::mode::{Stored, Train};
use crate::parameters::{Parameters, Path};
use crate::repeat::{Repetition, check_form};
use crate::tensor::{Origin, TraceId};

use super::carried::Carried;
use super::gradient::{Trainable, TrainableLeaves, vjp_arrays, with_primals};
use super::stack::{OPERATION, Stack};
use super::stages::Stage;

/// The head of a stack: its tree, and the leaves of it that train.
pub(super) struct HeadPart<'a, P> {
    tree: &'a P,
    pub(super) leaves: TrainableLeaves,
}

/// The results of one part's backward, none of them evaluated.
pub(super) struct Pulled {
    /// The arrays that the part computed.
    pub(super) outputs: Vec<Array>,
    /// The gradients of the state before the part, if they were asked for.
    pub(super) input: Option<Vec<Array>>,
    /// The gradients of the part's leaves.
    pub(super) parameters: Vec<Array>,
}

impl<'a, P: Parameters<Mode = Stored>> HeadPart<'a, P> {
    pub(super) fn new(tree: &'a P, trainable: &Trainable) -> Self {
        HeadPart { tree, leaves: TrainableLeaves::new(tree, &Path::root(), trainable) }
    }

    /// Returns the tree in the graph `trace`; `differentiated` says whether gradients of its leaves are asked for.
    pub(super) fn tree(&self, trace: TraceId, differentiated: bool, primals: &[Array]) -> Result<P::In<Train>> {
        let origin = Origin::new(trace, true);
        let origin = if differentiated { origin } else { origin.without_gradient() };
        with_primals(self.tree, &Path::root(), &self.leaves, origin, primals)
    }
}

impl<S: Stack> Stage<'_, S> {
    /// Runs the stage forward and pulls the cotangents of its output back. The gradients of the state before it are formed
    /// where the flag beside it says so.
    pub(super) fn pull(
        &self,
        input: Option<(&Carried<S::State>, bool)>,
        cotangents: &[Array],
        batch: &S::Batch,
    ) -> Result<Pulled> {
        pull(self.leaves.primals.clone(), input, cotangents, &|primals, state| {
            let trace = TraceId::fresh();
            let state = state.map(|carried| carried.enter(trace)).transpose()?;
            let output = self.run(trace, true, primals, state.as_ref(), batch)?;
            let arrays = Carried::leave(OPERATION, trace, &output, &self.name)?.arrays;
            for pair in pairs(self, cotangents, &arrays)? {
                check_form(OPERATION, &format!("`{}`", self.name), pair)?;
            }
            Ok(arrays)
        })
    }

    /// Compares the results of the stage's second run with those of the `first`.
    pub(super) fn repetitions(&self, first: &[Array], again: &[Array]) -> Result<Vec<Repetition>> {
        let dtypes = self.dtypes();
        let compare = |pair| Repetition::new(OPERATION, &format!("`{}`", self.name), dtypes.iter().copied(), pair);
        pairs(self, first, again)?.into_iter().map(compare).collect()
    }
}

/// The tensors of two states that must have one form.
fn pairs<'b, S: Stack>(stage: &Stage<'_, S>, first: &'b [Array], again: &'b [Array]) -> Result<Vec<[&'b Array; 2]>> {
    if first.len() == again.len() {
        return Ok(first.iter().zip(again).map(|(first, again)| [first, again]).collect());
    }
    let message =
        format!("`{}` returned {} tensors, and {} when it was run again", stage.name, first.len(), again.len());
    Err(Error::Refused { operation: OPERATION, message, code: "C22" })
}

/// Runs a function of `leaves` and of a state forward, and pulls the cotangents of its outputs back. The state's gradients
/// are formed where the flag beside it says so.
pub(super) fn pull<T: Parameters<Mode = Train, In<Train> = T>>(
    leaves: Vec<Array>,
    input: Option<(&Carried<T>, bool)>,
    cotangents: &[Array],
    function: &dyn Fn(&[Array], Option<&Carried<T>>) -> Result<Vec<Array>>,
) -> Result<Pulled> {
    let parameters = leaves.len();
    let mut primals = leaves;
    let needs_input = input.is_some_and(|(_, needs_gradient)| needs_gradient);
    if let Some((carried, true)) = input {
        primals.extend(carried.arrays.iter().cloned());
    }
    let run = |primals: &[Array]| {
        let (leaves, state) = primals.split_at(parameters);
        let state = input.map(|(carried, needs)| {
            let arrays = if needs { state.to_vec() } else { carried.arrays.clone() };
            carried.asked(arrays, needs)
        });
        function(leaves, state.as_ref())
    };
    let (outputs, mut gradients) = vjp_arrays(OPERATION, run, &primals, cotangents)?;
    let of_input = gradients.split_off(parameters);
    Ok(Pulled { outputs, input: needs_input.then_some(of_input), parameters: gradients })
}

pub(super) fn missing_input() -> Error {
    Error::Other("a block was called without its hidden state".into())
}
