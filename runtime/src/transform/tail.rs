//! The end of a stack, all of whose intermediate results are kept.

use mlx_rs::Array;

use crate::cut::Part;
use crate::error::{Error, Result};
use crate::tensor::TraceId;

use super::carried::Carried;
use super::gradient::{TrainableLeaves, trained_loss};
use super::gradients::Gradients;
use super::names;
use super::part::{HeadPart, Pulled, missing_input, pull};
use super::stack::{HEAD, OPERATION, Stack};
use super::stages::Stage;

/// The last stages and the head as one function: what it computes in between is kept for its gradient.
pub(super) struct Tail<'a, S: Stack> {
    pub(super) stages: Vec<Stage<'a, S>>,
    pub(super) head: HeadPart<'a, S::Head>,
    pub(super) batch: &'a S::Batch,
}

impl<S: Stack> Tail<'_, S> {
    pub(super) fn primals(&self) -> Vec<Array> {
        let stages = self.stages.iter().flat_map(|stage| &stage.leaves.primals);
        stages.chain(&self.head.leaves.primals).cloned().collect()
    }

    /// Returns the cotangent of the loss: the weights of its parts.
    ///
    /// # Errors
    /// [`Error::Other`] unless the weights are finite, and at least one of them is not zero.
    pub(super) fn cotangent(&self) -> Result<Array> {
        let weights = S::weights(self.batch);
        if weights.iter().any(|weight| !weight.is_finite()) || weights.iter().all(|weight| *weight == 0.0) {
            let expected = "expected finite numbers that are not all zero; leave out a batch without targets";
            return Err(Error::Other(format!("`{OPERATION}`: found the weights {weights:?} of the loss, {expected}")));
        }
        Ok(match weights.as_slice() {
            [weight] => Array::from_f32(*weight),
            weights => Array::from_slice(weights, &[weights.len() as i32]),
        })
    }

    /// The loss, or its parts, from the state before the first stage, if there is one; `before` says which parameters train in the stages
    /// that it comes from.
    pub(super) fn loss(
        &self,
        primals: &[Array],
        before_all: Option<&Carried<S::State>>,
        before: &[&TrainableLeaves],
    ) -> Result<Array> {
        let mut part = Part::enter(HEAD);
        let (mut rest, mut after) = (primals, None);
        for stage in &self.stages {
            let (now, others) = rest.split_at(stage.leaves.primals.len());
            rest = others;
            part.change(&stage.name);
            // The tail is a graph of its own, so that a stage does the same whatever is kept of it.
            let trace = TraceId::fresh();
            let input = after.as_ref().or(before_all).map(|state| state.enter(trace)).transpose()?;
            let output = stage.run(trace, true, now, input.as_ref(), self.batch)?;
            after = Some(Carried::leave(OPERATION, trace, &output, &stage.name)?);
        }
        part.change(HEAD);
        let trace = TraceId::fresh();
        let input = after.as_ref().or(before_all).ok_or_else(missing_input)?.enter(trace)?;
        let loss = S::loss(&self.head.tree(trace, true, rest)?, &input, self.batch)?;
        let own = || self.stages.iter().map(|stage| &stage.leaves).chain([&self.head.leaves]);
        let trained = || before.iter().copied().chain(own()).flat_map(|leaves| &leaves.names);
        let parts = S::weights(self.batch).len();
        trained_loss(OPERATION, loss, trace, parts, &|| names::list(trained().map(String::as_str)))
    }

    /// The loss, and its gradients with respect to the state before the first stage and to the leaves.
    pub(super) fn pull(
        &self,
        (state, needs): (&Carried<S::State>, bool),
        before: &[&TrainableLeaves],
    ) -> Result<Pulled> {
        pull(self.primals(), Some((state, needs)), &[self.cotangent()?], &|primals, input| {
            Ok(vec![self.loss(primals, input, before)?])
        })
    }

    /// Adds the gradients of the leaves, in the order of [`primals`](Self::primals), and returns the sums.
    pub(super) fn accumulate(self, mut found: Vec<Array>, gradients: &mut Gradients) -> Result<Vec<Array>> {
        let mut sums = Vec::new();
        let stages = self.stages.into_iter().map(|stage| stage.leaves);
        for leaves in stages.chain([self.head.leaves]) {
            let after = found.split_off(leaves.primals.len());
            sums.extend(leaves.accumulate(std::mem::replace(&mut found, after), gradients)?);
        }
        Ok(sums)
    }
}
