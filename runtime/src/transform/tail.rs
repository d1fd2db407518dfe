//! The end of a stack, of which everything is kept.

use mlx_rs::Array;

use crate::cut::Part;
use crate::error::Result;
use crate::tensor::{Origin, Tensor, TraceId};

use super::gradient::{TrainableLeaves, scalar_loss};
use super::gradients::Gradients;
use super::names;
use super::part::{Hidden, Pulled, StackPart, missing_input, pull};
use super::stack::{HEAD, OPERATION, Stack};

/// The last blocks and the head as one function: what it computes in between is kept for its gradient.
pub(super) struct Tail<'a, S: Stack> {
    pub(super) blocks: Vec<StackPart<'a, S::Block>>,
    pub(super) head: StackPart<'a, S::Head>,
    pub(super) batch: &'a S::Batch,
}

impl<S: Stack> Tail<'_, S> {
    pub(super) fn primals(&self) -> Vec<Array> {
        let blocks = self.blocks.iter().flat_map(|block| &block.leaves.primals);
        blocks.chain(&self.head.leaves.primals).cloned().collect()
    }

    /// The loss from the hidden state before the first block; `trains` says whether a parameter had a part in that, and
    /// `before` which train in the parts that it comes from.
    pub(super) fn loss(
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
        let own = || self.blocks.iter().map(|block| &block.leaves).chain([&self.head.leaves]);
        let trained = || before.iter().copied().chain(own()).flat_map(|leaves| &leaves.names);
        scalar_loss(OPERATION, loss, trace, &|| names::list(trained().map(String::as_str)))
    }

    /// The loss, and its gradients with respect to the hidden state before the first block and to the leaves.
    pub(super) fn pull(&self, (hidden, needs): (&Hidden, bool), before: &[&TrainableLeaves]) -> Result<Pulled> {
        let input = Some((&hidden.array, needs));
        pull(self.primals(), input, &Array::from_f32(1.0), &|primals, input| {
            let (array, needs) = input.ok_or_else(missing_input)?;
            self.loss(primals, (Hidden { array, trains: hidden.trains }, needs), before)
        })
    }

    /// Adds the gradients of the leaves, in the order of [`primals`](Self::primals), and returns the sums.
    pub(super) fn accumulate(self, mut found: Vec<Array>, gradients: &mut Gradients) -> Result<Vec<Array>> {
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
