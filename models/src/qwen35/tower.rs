//! The stages of the vision tower for the block driver, up to the text with pictures in it.

use cotangent::{Result, StackStages, Stored, Train};

use crate::vision::{Merger, PatchEmbedding, PositionTable, VisionBlock, VisionTower};

use super::model::{Model, Table};
use super::train::{Batch, State, pictures};

impl Model<Stored> {
    /// Returns the stages from patches up to the text with pictures in it.
    pub(super) fn tower_stages<'a>(&'a self, tower: &'a VisionTower<Stored>) -> StackStages<'a, Self> {
        let mut stages = StackStages::begin("visual.patch_embed", &tower.patch_embed, embed_patches).part(
            "visual.pos_embed",
            &tower.pos_embed,
            add_positions,
        );
        for (index, of_tower) in tower.blocks.iter().enumerate() {
            stages = stages.part(&format!("visual.blocks.{index}"), of_tower, block);
            if let Ok(place) = tower.deepstack.binary_search(&index) {
                let path = format!("visual.deepstack_merger_list.{place}");
                stages = stages.part(&path, &tower.deepstack_merger_list[place], take_features);
            }
        }
        stages.part("visual.merger", &tower.merger, merge).part("embed_tokens", &self.embed_tokens, put)
    }
}

fn embed_patches(embedding: &PatchEmbedding<Train>, batch: &Batch) -> Result<State<Train>> {
    Ok(State {
        hidden: embedding.forward(&pictures(batch)?.input)?,
        features: Vec::new(),
        ahead: Vec::new(),
        routing: None,
    })
}

fn add_positions(table: &PositionTable<Train>, state: &State<Train>, batch: &Batch) -> Result<State<Train>> {
    let positions = table.forward(&pictures(batch)?.input)?.cast(state.hidden.dtype())?;
    Ok(State { hidden: state.hidden.add(&positions)?, features: Vec::new(), ahead: Vec::new(), routing: None })
}

fn block(block: &VisionBlock<Train>, state: &State<Train>, batch: &Batch) -> Result<State<Train>> {
    let hidden = block.forward(&state.hidden, &pictures(batch)?.input)?;
    Ok(State { hidden, features: state.features.clone(), ahead: Vec::new(), routing: None })
}

/// Takes features for a text layer, and does not change the patches.
fn take_features(merger: &Merger<Train>, state: &State<Train>, _: &Batch) -> Result<State<Train>> {
    let mut features = state.features.clone();
    features.push(merger.forward(&state.hidden)?);
    Ok(State { hidden: state.hidden.clone(), features, ahead: Vec::new(), routing: None })
}

fn merge(merger: &Merger<Train>, state: &State<Train>, _: &Batch) -> Result<State<Train>> {
    Ok(State {
        hidden: merger.forward(&state.hidden)?,
        features: state.features.clone(),
        ahead: Vec::new(),
        routing: None,
    })
}

/// Begins the text, with the merged patches in their places.
fn put(table: &Table<Train>, state: &State<Train>, batch: &Batch) -> Result<State<Train>> {
    let text = table.weight.take_rows(&batch.tokens)?;
    Ok(State::embedded(pictures(batch)?.slots.put(&text, &state.hidden)?, state.features.clone(), batch))
}
