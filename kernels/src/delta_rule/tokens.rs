//! Rows with padding, and rows of several documents.

use cotangent::{Constant, Dtype, Graph, Mask, Result, Tensor};

use super::{
    GatedDeltaByChannelInputs, GatedDeltaByChannelOutputs, GatedDeltaInputs, GatedDeltaOutputs, gated_delta,
    gated_delta_by_channel,
};

/// The tokens of a row that count, and the beginnings of its documents.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeltaTokens<'a> {
    /// The mask `[B, T]` of tokens that count: where it is false the state does not change, `y` is 0, and nothing has a
    /// gradient.
    pub mask: Option<&'a Mask>,
    /// `[B, T]`: true for the first token of each document packed into a row, which begins with a state of zero. Where the
    /// first of a row is false, its document goes on from the initial state.
    pub starts: Option<&'a Mask>,
}

impl DeltaTokens<'_> {
    /// Log gates and betas that do what the tokens say: one that does not count has both 0, one that begins a document
    /// forgets all.
    fn gates<M: Graph>(&self, log_decay: &Tensor<M>, beta: &Tensor<M>) -> Result<[Tensor<M>; 2]> {
        let (mut log_decay, mut beta) = (log_decay.clone(), beta.clone());
        if let Some(mask) = self.mask {
            log_decay = log_decay.select(&across(mask, log_decay.rank())?, 0.0)?;
            beta = beta.select(&across(mask, beta.rank())?, 0.0)?;
        }
        if let Some(starts) = self.starts {
            let forgets = Constant::full(&vec![1; log_decay.rank()], FORGETS_ALL, Dtype::F32)?.to_tensor::<M>();
            log_decay = forgets.select(&across(starts, log_decay.rank())?, &log_decay)?;
        }
        Ok([log_decay, beta])
    }

    /// `y`, 0 where a token does not count.
    fn outputs<M: Graph>(&self, y: Tensor<M>) -> Result<Tensor<M>> {
        match self.mask {
            Some(mask) => y.select(&across(mask, y.rank())?, 0.0),
            None => Ok(y),
        }
    }
}

/// `[B, T]` across all axes behind.
fn across(mask: &Mask, rank: usize) -> Result<Mask> {
    let mut shape = mask.shape().to_vec();
    shape.resize(rank, 1);
    mask.reshape(&shape)
}

/// A log gate whose decay is 0 in float32, whatever gates are added to it.
const FORGETS_ALL: f32 = -1e4;

/// [`gated_delta`](fn@gated_delta) of rows in which not every token counts, or that hold several documents.
///
/// # Errors
/// As [`gated_delta`](fn@gated_delta).
pub fn gated_delta_of_tokens<M: Graph>(
    inputs: GatedDeltaInputs<'_, M>,
    tokens: DeltaTokens<'_>,
) -> Result<GatedDeltaOutputs<M>> {
    let [log_decay, beta] = &tokens.gates(inputs.log_decay, inputs.beta)?;
    let outputs = gated_delta(GatedDeltaInputs { log_decay, beta, ..inputs })?;
    Ok(GatedDeltaOutputs { y: tokens.outputs(outputs.y)?, ..outputs })
}

/// [`gated_delta_by_channel`](fn@gated_delta_by_channel) of rows in which not every token counts, or that hold several
/// documents.
///
/// # Errors
/// As [`gated_delta_by_channel`](fn@gated_delta_by_channel).
pub fn gated_delta_by_channel_of_tokens<M: Graph>(
    inputs: GatedDeltaByChannelInputs<'_, M>,
    tokens: DeltaTokens<'_>,
) -> Result<GatedDeltaByChannelOutputs<M>> {
    let [log_decay, beta] = &tokens.gates(inputs.log_decay, inputs.beta)?;
    let outputs = gated_delta_by_channel(GatedDeltaByChannelInputs { log_decay, beta, ..inputs })?;
    Ok(GatedDeltaByChannelOutputs { y: tokens.outputs(outputs.y)?, ..outputs })
}
