//! Rows with padding, and rows of several documents.

use cotangent::{Constant, Dtype, Graph, Mask, Result, Tensor};

use super::{GatedDeltaOutputs, gated_delta};

/// Which tokens of a row count, and where documents begin in it.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeltaTokens<'a> {
    /// `[B, T]`: where it is false the state stays as it is, `y` is 0, and nothing has a gradient.
    pub mask: Option<&'a Mask>,
    /// `[B, T]`: true for the first token of each document packed into a row, which begins with a state of zero. Where the
    /// first of a row is false, its document goes on from the initial state.
    pub starts: Option<&'a Mask>,
}

/// A log gate whose decay is 0 in float32, however the gates around it are summed.
const FORGETS_ALL: f32 = -1e4;

/// [`gated_delta`](fn@gated_delta) of rows in which not every token counts, or that hold several documents.
///
/// A token that does not count has a log gate and a beta of 0; one that begins a document forgets all.
///
/// # Errors
/// As [`gated_delta`](fn@gated_delta).
#[expect(clippy::too_many_arguments, reason = "those of `gated_delta`, and the tokens")]
pub fn gated_delta_of_tokens<M: Graph>(
    queries: &Tensor<M>,
    keys: &Tensor<M>,
    values: &Tensor<M>,
    log_decay: &Tensor<M>,
    beta: &Tensor<M>,
    initial_state: &Tensor<M>,
    chunk: usize,
    tokens: DeltaTokens<'_>,
) -> Result<GatedDeltaOutputs<M>> {
    let (mut log_decay, mut beta) = (log_decay.clone(), beta.clone());
    let [batch, time] = [keys.dimension(0), keys.dimension(1)];
    if let Some(mask) = tokens.mask {
        let mask = mask.reshape(&[batch, time, 1])?;
        log_decay = log_decay.select(&mask, 0.0)?;
        beta = beta.select(&mask, 0.0)?;
    }
    if let Some(starts) = tokens.starts {
        let forgets = Constant::full(&[1, 1, 1], FORGETS_ALL, Dtype::F32)?.to_tensor::<M>();
        log_decay = forgets.select(&starts.reshape(&[batch, time, 1])?, &log_decay)?;
    }
    let mut outputs = gated_delta(queries, keys, values, &log_decay, &beta, initial_state, chunk)?;
    if let Some(mask) = tokens.mask {
        outputs.y = outputs.y.select(&mask.reshape(&[batch, time, 1, 1])?, 0.0)?;
    }
    Ok(outputs)
}
