//! Rows that hold several documents, or padding.

use cotangent::{Constant, Dtype, Graph, Mask, Result, Tensor};

use super::{
    GatedDeltaByChannelInputs, GatedDeltaByChannelOutputs, GatedDeltaInputs, GatedDeltaOutputs, gated_delta,
    gated_delta_by_channel,
};
use crate::documents::Documents;

/// Log gates and betas that do what the documents say: padding has both 0, and what begins a document forgets all.
fn gates<M: Graph>(documents: &Documents, log_decay: &Tensor<M>, beta: &Tensor<M>) -> Result<[Tensor<M>; 2]> {
    documents.check("gated_delta", [beta.dimension(0), beta.dimension(1)])?;
    let (mut log_decay, mut beta) = (log_decay.clone(), beta.clone());
    if let Some(counts) = documents.counts() {
        log_decay = log_decay.select(&across(counts, log_decay.rank())?, 0.0)?;
        beta = beta.select(&across(counts, beta.rank())?, 0.0)?;
    }
    if let Some(starts) = documents.starts() {
        let forgets = Constant::full(&vec![1; log_decay.rank()], FORGETS_ALL, Dtype::F32)?.to_tensor::<M>();
        log_decay = forgets.select(&across(starts, log_decay.rank())?, &log_decay)?;
    }
    Ok([log_decay, beta])
}

/// `y`, 0 where there is padding.
fn without_padding<M: Graph>(documents: &Documents, y: Tensor<M>) -> Result<Tensor<M>> {
    match documents.counts() {
        Some(counts) => y.select(&across(counts, y.rank())?, 0.0),
        None => Ok(y),
    }
}

/// `[B, T]` across all axes behind.
fn across(mask: &Mask, rank: usize) -> Result<Mask> {
    let mut shape = mask.shape().to_vec();
    shape.resize(rank, 1);
    mask.reshape(&shape)
}

/// A log gate whose decay is 0 in float32, however the gates around it are summed.
const FORGETS_ALL: f32 = -1e4;

/// [`gated_delta`](fn@gated_delta) of rows that hold several documents, or padding.
///
/// # Errors
/// As [`gated_delta`](fn@gated_delta).
pub fn gated_delta_of_documents<M: Graph>(
    inputs: GatedDeltaInputs<'_, M>,
    documents: &Documents,
) -> Result<GatedDeltaOutputs<M>> {
    let [log_decay, beta] = &gates(documents, inputs.log_decay, inputs.beta)?;
    let outputs = gated_delta(GatedDeltaInputs { log_decay, beta, ..inputs })?;
    Ok(GatedDeltaOutputs { y: without_padding(documents, outputs.y)?, ..outputs })
}

/// [`gated_delta_by_channel`](fn@gated_delta_by_channel) of rows that hold several documents, or padding.
///
/// # Errors
/// As [`gated_delta_by_channel`](fn@gated_delta_by_channel).
pub fn gated_delta_by_channel_of_documents<M: Graph>(
    inputs: GatedDeltaByChannelInputs<'_, M>,
    documents: &Documents,
) -> Result<GatedDeltaByChannelOutputs<M>> {
    let [log_decay, beta] = &gates(documents, inputs.log_decay, inputs.beta)?;
    let outputs = gated_delta_by_channel(GatedDeltaByChannelInputs { log_decay, beta, ..inputs })?;
    Ok(GatedDeltaByChannelOutputs { y: without_padding(documents, outputs.y)?, ..outputs })
}
