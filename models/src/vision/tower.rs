//! The whole tower.

use cotangent::{Dtype, Graph, Mode, Parameters, Planned, Result, Tensor};

use crate::config::VisionConfig;

use super::block::VisionBlock;
use super::input::VisionInput;
use super::merger::Merger;
use super::patch_embed::{PatchEmbedding, PositionTable};

/// The vision tower, which turns patches into tokens of the text model.
#[derive(Parameters)]
pub struct VisionTower<M: Mode> {
    /// The embedding of the pixels.
    pub patch_embed: PatchEmbedding<M>,
    /// The embedding of the places.
    pub pos_embed: PositionTable<M>,
    /// The blocks.
    pub blocks: Vec<VisionBlock<M>>,
    /// The merger after the last block.
    pub merger: Merger<M>,
    /// The mergers after the blocks that `deepstack` lists.
    pub deepstack_merger_list: Vec<Merger<M>>,
    /// The blocks after which features for the first text layers are taken.
    #[config]
    pub deepstack: Vec<usize>,
}

/// The features that the tower gives to the text model.
#[derive(Parameters)]
pub struct Features<M: Mode> {
    /// The features that replace the pictures' tokens: `[tokens, text width]`.
    pub merged: Tensor<M>,
    /// The features that are added there after each of the first text layers, of the same shape.
    pub deepstack: Vec<Tensor<M>>,
}

impl VisionTower<Planned> {
    /// The tower that `config` describes, its matrices held in `dtype`, its norms in float32.
    pub fn planned(config: &VisionConfig, dtype: Dtype) -> Self {
        VisionTower {
            patch_embed: PatchEmbedding::planned(config, dtype),
            pos_embed: PositionTable::planned(config),
            blocks: (0..config.depth).map(|_| VisionBlock::planned(config, dtype)).collect(),
            merger: Merger::planned(config, false, dtype),
            deepstack_merger_list: config.deepstack.iter().map(|_| Merger::planned(config, true, dtype)).collect(),
            deepstack: config.deepstack.clone(),
        }
    }
}

impl<M: Graph> VisionTower<M> {
    /// The features of the pictures in `input`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward(&self, input: &VisionInput) -> Result<Features<M>> {
        let embedded = self.patch_embed.forward(input)?;
        let mut hidden = embedded.add(&self.pos_embed.forward(input)?.cast(embedded.dtype())?)?;
        let mut deepstack = Vec::new();
        for (index, block) in self.blocks.iter().enumerate() {
            hidden = block.forward(&hidden, input)?;
            if let Ok(place) = self.deepstack.binary_search(&index) {
                deepstack.push(self.deepstack_merger_list[place].forward(&hidden)?);
            }
        }
        Ok(Features { merged: self.merger.forward(&hidden)?, deepstack })
    }
}
