//! The vision tower as the block driver sees it: stage by stage, up to the text with pictures in it.

use cotangent::{Result, Train};

use crate::vision::{Merger, PatchEmbedding, PositionTable, VisionBlock};

use super::model::Table;
use super::train::{Batch, State, pictures};

pub(super) fn embed_patches(embedding: &PatchEmbedding<Train>, batch: &Batch) -> Result<State<Train>> {
    Ok(State { hidden: embedding.forward(&pictures(batch)?.input)?, features: Vec::new() })
}

pub(super) fn add_positions(table: &PositionTable<Train>, state: &State<Train>, batch: &Batch) -> Result<State<Train>> {
    let positions = table.forward(&pictures(batch)?.input)?.cast(state.hidden.dtype())?;
    Ok(State { hidden: state.hidden.add(&positions)?, features: Vec::new() })
}

pub(super) fn block(block: &VisionBlock<Train>, state: &State<Train>, batch: &Batch) -> Result<State<Train>> {
    let hidden = block.forward(&state.hidden, &pictures(batch)?.input)?;
    Ok(State { hidden, features: state.features.clone() })
}

/// Takes features for a text layer, and leaves the patches as they are.
pub(super) fn take_features(merger: &Merger<Train>, state: &State<Train>, _: &Batch) -> Result<State<Train>> {
    let mut features = state.features.clone();
    features.push(merger.forward(&state.hidden)?);
    Ok(State { hidden: state.hidden.clone(), features })
}

pub(super) fn merge(merger: &Merger<Train>, state: &State<Train>, _: &Batch) -> Result<State<Train>> {
    Ok(State { hidden: merger.forward(&state.hidden)?, features: state.features.clone() })
}

/// Begins the text, with the merged patches in their places.
pub(super) fn put(table: &Table<Train>, state: &State<Train>, batch: &Batch) -> Result<State<Train>> {
    let text = table.weight.take_rows(&batch.tokens)?;
    Ok(State { hidden: pictures(batch)?.slots.put(&text, &state.hidden)?, features: state.features.clone() })
}
