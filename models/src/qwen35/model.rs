//! The whole model.

use cotangent::{Dtype, Error, Graph, Indices, Infer, Mode, Parameters, Planned, Result, Stored, Tensor};

use cotangent_kernels::Labels;

use crate::config::TextConfig;
use crate::linear::Linear;
use crate::norm::RmsNorm;
use crate::rope::Rotary;
use crate::vision::{Features, Pictures, VisionTower};
use crate::weight::Weight;

use super::block::Block;
use super::cache::Cache;
use super::multi_token::MultiTokenHead;

/// Embedding, decoder layers, final norm, and a head unless it is tied to the embedding.
#[derive(Parameters)]
pub struct Model<M: Mode> {
    /// The tower that turns pictures into tokens; `None` where only text is read.
    pub visual: Option<Box<VisionTower<M>>>,
    /// `[vocabulary, hidden]`.
    pub embed_tokens: Table<M>,
    /// The decoder layers.
    pub layers: Vec<Block<M>>,
    /// The norm before the head.
    pub norm: RmsNorm<M>,
    /// `[vocabulary, hidden]`; `None` if tied.
    pub lm_head: Option<Linear<M>>,
    /// The head that predicts the token after the next; `None` where that is not asked for.
    pub mtp: Option<Box<MultiTokenHead<M>>>,
}

/// A table of rows.
#[derive(Parameters)]
pub struct Table<M: Mode> {
    /// `[rows, width]`.
    #[parameters(flatten)]
    pub weight: Weight<M>,
}

/// The arguments that one call of [`Model::decode`] reads beside the model and its cache.
#[derive(Debug)]
pub struct Step {
    /// The next tokens, `[B, T]`.
    pub tokens: Indices,
    /// The positions of the tokens.
    pub rotary: Rotary,
    /// The pictures among the tokens.
    pub pictures: Option<Pictures>,
}

impl Model<Planned> {
    /// Plans the model that `config` describes. Its matrices are held in `dtype`; norms, filters, `A_log` and `dt_bias`
    /// are held in float32.
    ///
    /// A parameter's name is its path in this tree: the Hugging Face name without the prefix that differs between exports,
    /// such as `layers.0.linear_attn.in_proj_qkv.weight`.
    pub fn planned(config: &TextConfig, dtype: Dtype) -> Self {
        let (vocabulary, hidden) = (config.vocab_size, config.hidden_size);
        Model {
            visual: config.vision.as_ref().map(|vision| Box::new(VisionTower::planned(vision, dtype))),
            embed_tokens: Table { weight: Weight::planned(vocabulary, hidden, dtype) },
            layers: config.layers.iter().map(|kind| Block::planned(config, *kind, dtype)).collect(),
            norm: RmsNorm::planned(hidden, config),
            lm_head: (!config.tie_word_embeddings).then(|| Linear::planned(vocabulary, hidden, dtype)),
            mtp: config.has_multi_token_head.then(|| Box::new(MultiTokenHead::planned(config, dtype))),
        }
    }
}

impl<M: Graph> Model<M> {
    /// The hidden states after the embedding, after each layer, and after the final norm.
    ///
    /// # Errors
    /// If a token is not in the vocabulary, the cache is that of another model, or there are pictures and no tower.
    pub fn hidden_states(
        &self,
        tokens: &Indices,
        rotary: &Rotary,
        pictures: Option<&Pictures>,
        mut cache: Option<&mut Cache<M>>,
    ) -> Result<Vec<Tensor<M>>> {
        let text = self.embed_tokens.weight.take_rows(tokens)?;
        let (embedded, mut features) = match (pictures, &self.visual) {
            (None, _) => (text, Vec::new().into_iter()),
            (Some(Pictures { input, slots }), Some(tower)) => {
                let Features { merged, deepstack } = tower.forward(input)?;
                (slots.put(&text, &merged)?, deepstack.into_iter())
            }
            (Some(_), None) => return Err(without_tower()),
        };
        let mut states = vec![embedded];
        for (index, layer) in self.layers.iter().enumerate() {
            let cache = cache.as_mut().and_then(|cache| cache.layers.get_mut(index));
            let mut state = layer.forward(&states[index], rotary, None, cache)?;
            if let (Some(of_layer), Some(pictures)) = (features.next(), pictures) {
                state = pictures.slots.add(&state, &of_layer)?;
            }
            states.push(state);
        }
        if let Some(cache) = cache {
            cache.length += tokens.shape().last().map_or(0, |tokens| *tokens as usize);
        }
        states.push(self.norm.forward(&states[self.layers.len()])?);
        Ok(states)
    }

    /// Scores of the next token, `[.., hidden]` to `[.., vocabulary]`, float32.
    ///
    /// # Errors
    /// If the hidden state is not as wide as the model.
    pub fn logits(&self, hidden: &Tensor<M>) -> Result<Tensor<M>> {
        let logits = match &self.lm_head {
            Some(head) => head.forward(hidden)?,
            None => self.embed_tokens.weight.product(hidden, None)?,
        };
        logits.cast(Dtype::F32)
    }
}

impl Model<Infer> {
    /// The loss of each row of final hidden states `[N, hidden]`, without an adapter on the head: `[N]`, float32.
    ///
    /// # Errors
    /// If the shapes do not fit, or a label is not in the vocabulary.
    pub fn token_losses(&self, rows: &Tensor<Infer>, labels: &Labels) -> Result<Tensor<Infer>> {
        self.lm_head.as_ref().map_or(&self.embed_tokens.weight, |head| &head.weight).token_losses(rows, labels)
    }

    /// The scores of the token after the last, `[B, vocabulary]`, and the cache after it; for
    /// [`Session::infer`](cotangent::Session::infer).
    ///
    /// # Errors
    /// As [`hidden_states`](Self::hidden_states).
    pub fn decode(&self, cache: &Cache<Infer>, step: &Step) -> Result<(Tensor<Infer>, Cache<Infer>)> {
        let mut cache = cache.share();
        let states = self.hidden_states(&step.tokens, &step.rotary, step.pictures.as_ref(), Some(&mut cache))?;
        let hidden = &states[states.len() - 1];
        let tokens = hidden.dimension(1);
        let last = hidden.slice(1, tokens - 1, tokens)?.squeeze(1)?;
        Ok((self.logits(&last)?, cache))
    }
}

impl Model<Stored> {
    /// Returns the number of elements of the parameters that `select` picks by name.
    pub fn count(&self, select: impl Fn(&str) -> bool) -> usize {
        let mut count = 0;
        self.visit(&mut cotangent::parameters::Path::root(), &mut |path, tensor| {
            if select(path.as_str()) {
                count += tensor.size();
            }
        });
        count
    }
}

pub(super) fn without_tower() -> Error {
    Error::Other("found pictures, and a model that was loaded without its vision tower".into())
}
