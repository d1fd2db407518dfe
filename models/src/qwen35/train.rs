//! The model as the block driver sees it.

use cotangent::{Dtype, Error, Indices, Mode, Parameters, Result, Stack, StackStages, Stored, Tensor, Train};
use cotangent_kernels::Labels;

use crate::linear::Linear;
use crate::norm::RmsNorm;
use crate::rope::Rotary;
use crate::vision::Pictures;

use super::block::Block;
use super::lora::is_adapter;
use super::model::{Model, Table};
use super::tower;

/// What a training step is computed from. Rows are padded on the right: attention is causal and the delta rule runs
/// forward, so what stands after the last counted token changes nothing.
#[derive(Debug)]
pub struct Batch {
    /// `[B, T]`.
    pub tokens: Indices,
    /// The positions of the tokens.
    pub rotary: Rotary,
    /// The pictures among the tokens; a model with a vision tower trains with [`Pictures`], also where there are none.
    pub pictures: Option<Pictures>,
    /// The next token of each place, row after row, `B * T` in all; places that do not count are ignored.
    pub labels: Labels,
    /// What the sum of the losses is multiplied by: one over the counted tokens of the whole step, so that
    /// micro-batches weigh by their tokens.
    pub scale: f32,
}

/// What flows between blocks.
#[derive(Parameters)]
pub struct State<M: Mode> {
    /// In the vision tower `[N, width]`, one row a patch; after it `[B, T, hidden]`.
    pub hidden: Tensor<M>,
    /// What the tower hands to the first text layers, `[tokens, hidden]` each, as far as they have not had it.
    pub features: Vec<Tensor<M>>,
}

/// The parameters before the first layer.
#[derive(Parameters)]
pub struct Embedding<M: Mode> {
    /// `[vocabulary, hidden]`.
    pub embed_tokens: Table<M>,
}

/// The parameters after the last layer.
#[derive(Parameters)]
pub struct Head<M: Mode> {
    /// Before the head.
    pub norm: RmsNorm<M>,
    /// Where the scores come from.
    #[parameters(flatten)]
    pub projection: Projection<M>,
}

/// A head of its own, or the embedding once more: then its gradient has two parts, which the driver adds.
#[derive(Parameters)]
pub enum Projection<M: Mode> {
    /// The embedding.
    Tied(Embedding<M>),
    /// A linear layer.
    Untied(Untied<M>),
}

/// Names the head `lm_head`.
#[derive(Parameters)]
pub struct Untied<M: Mode> {
    /// `[vocabulary, hidden]`.
    pub lm_head: Linear<M>,
}

impl Stack for Model<Stored> {
    type Batch = Batch;
    type State = State<Train>;
    type Embedding = Embedding<Stored>;
    type Block = Block<Stored>;
    type Head = Head<Stored>;

    const BLOCKS: &'static str = "layers";

    fn embedding(&self) -> Embedding<Stored> {
        Embedding { embed_tokens: Table { weight: self.embed_tokens.weight.clone() } }
    }

    fn blocks(&self) -> &[Block<Stored>] {
        &self.layers
    }

    fn head(&self) -> Head<Stored> {
        let projection = match &self.lm_head {
            None => Projection::Tied(self.embedding()),
            Some(head) => Projection::Untied(Untied { lm_head: head.share() }),
        };
        Head { norm: self.norm.share(), projection }
    }

    /// Adapters are float32, and every layer casts its own to the dtype of what it multiplies: that of the embedding.
    fn dtype_of_use(&self, name: &str, stored: Dtype) -> Dtype {
        if is_adapter(name) { self.embed_tokens.weight.dtype() } else { stored }
    }

    fn stages(&self) -> StackStages<'_, Self> {
        let Some(tower) = &self.visual else {
            return StackStages::first("embedding", self.embedding(), Self::embed).blocks(
                Self::BLOCKS,
                &self.layers,
                Self::forward,
            );
        };
        let mut stages = StackStages::begin("visual.patch_embed", &tower.patch_embed, tower::embed_patches).part(
            "visual.pos_embed",
            &tower.pos_embed,
            tower::add_positions,
        );
        for (index, block) in tower.blocks.iter().enumerate() {
            stages = stages.part(&format!("visual.blocks.{index}"), block, tower::block);
            if let Ok(place) = tower.deepstack.binary_search(&index) {
                let path = format!("visual.deepstack_merger_list.{place}");
                stages = stages.part(&path, &tower.deepstack_merger_list[place], tower::take_features);
            }
        }
        stages = stages.part("visual.merger", &tower.merger, tower::merge);
        stages.part("embed_tokens", &self.embed_tokens, tower::put).blocks(Self::BLOCKS, &self.layers, Self::forward)
    }

    fn embed(embedding: &Embedding<Train>, batch: &Batch) -> Result<State<Train>> {
        Ok(State { hidden: embedding.embed_tokens.weight.take_rows(&batch.tokens)?, features: Vec::new() })
    }

    fn forward(block: &Block<Train>, state: &State<Train>, batch: &Batch) -> Result<State<Train>> {
        let mut hidden = block.forward(&state.hidden, &batch.rotary, None)?;
        let mut features = state.features.iter();
        if let Some(of_layer) = features.next() {
            hidden = pictures(batch)?.slots.add(&hidden, of_layer)?;
        }
        Ok(State { hidden, features: features.cloned().collect() })
    }

    fn loss(head: &Head<Train>, state: &State<Train>, batch: &Batch) -> Result<Tensor<Train>> {
        let hidden = &state.hidden;
        let (weight, adapter) = match &head.projection {
            Projection::Tied(embedding) => (&embedding.embed_tokens.weight, None),
            Projection::Untied(head) => (&head.lm_head.weight, head.lm_head.adapter.as_ref()),
        };
        let width = hidden.dimension(-1);
        let rows = head.norm.forward(hidden)?.reshape(&[-1, width])?;
        weight.cross_entropy(&rows, adapter, &batch.labels, batch.scale)
    }
}

/// The pictures of a batch for a model with a vision tower.
pub(super) fn pictures(batch: &Batch) -> Result<&Pictures> {
    batch.pictures.as_ref().ok_or_else(|| {
        Error::Other("a model with a vision tower trains on batches with `Pictures`, also where there are none".into())
    })
}
