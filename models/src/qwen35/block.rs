//! A decoder layer.

use cotangent::{Dtype, Graph, Indices, Mode, Parameters, Planned, Result, Tensor};
use cotangent_kernels::Documents;

use crate::config::{LayerKind, TextConfig};
use crate::norm::RmsNorm;
use crate::rope::Rotary;

use super::attention::Attention;
use super::cache::LayerCache;
use super::experts::Routing;
use super::feed_forward::FeedForward;
use super::gated_delta_net::GatedDeltaNet;

/// `h = x + mixer(norm(x))`, then `h + mlp(norm(h))`.
#[derive(Parameters)]
pub struct Block<M: Mode> {
    /// The norm before the mixer.
    pub input_layernorm: RmsNorm<M>,
    /// The layer that mixes tokens.
    #[parameters(flatten)]
    pub mixer: Mixer<M>,
    /// The norm before the feed-forward layer.
    pub post_attention_layernorm: RmsNorm<M>,
    /// The feed-forward layer.
    pub mlp: FeedForward<M>,
}

/// The two kinds of layer that mix tokens; each brings the level that names its parameters in the file.
#[derive(Parameters)]
pub enum Mixer<M: Mode> {
    /// Every fourth layer, as published.
    Full(Box<FullAttention<M>>),
    /// The others.
    Linear(Box<LinearAttention<M>>),
}

/// Names the parameters of [`Attention`] `self_attn.*`.
#[derive(Parameters)]
pub struct FullAttention<M: Mode> {
    /// The layer.
    pub self_attn: Attention<M>,
}

/// Names the parameters of [`GatedDeltaNet`] `linear_attn.*`.
#[derive(Parameters)]
pub struct LinearAttention<M: Mode> {
    /// The layer.
    pub linear_attn: GatedDeltaNet<M>,
}

impl Block<Planned> {
    /// A layer of this kind in the model that `config` describes, its matrices held in `dtype`.
    pub fn planned(config: &TextConfig, kind: LayerKind, dtype: Dtype) -> Self {
        let norm = || RmsNorm::planned(config.hidden_size, config);
        Block {
            input_layernorm: norm(),
            mixer: match kind {
                LayerKind::FullAttention => {
                    Mixer::Full(Box::new(FullAttention { self_attn: Attention::planned(config, dtype) }))
                }
                LayerKind::LinearAttention => {
                    Mixer::Linear(Box::new(LinearAttention { linear_attn: GatedDeltaNet::planned(config, dtype) }))
                }
            },
            post_attention_layernorm: norm(),
            mlp: FeedForward::planned(config, dtype),
        }
    }
}

impl<M: Graph> Block<M> {
    /// `[B, T, hidden]` to `[B, T, hidden]`. No token sees those of another of the `documents`; without them each row is one.
    ///
    /// # Errors
    /// If the shapes do not fit, the cache is that of the other kind of layer, or there are documents and a cache.
    pub fn forward(
        &self,
        x: &Tensor<M>,
        rotary: &Rotary,
        documents: Option<&Documents>,
        cache: Option<&mut LayerCache<M>>,
    ) -> Result<Tensor<M>> {
        let hidden = self.mixed(x, rotary, documents, cache)?;
        hidden.add(&self.mlp.forward(&self.post_attention_layernorm.forward(&hidden)?)?)
    }

    /// Runs as [`forward`](Self::forward) does, and returns what the router did with the tokens that `counted` names,
    /// if there is a router.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and if there is no such token.
    pub fn forward_counted(
        &self,
        x: &Tensor<M>,
        rotary: &Rotary,
        documents: Option<&Documents>,
        counted: &Indices,
    ) -> Result<(Tensor<M>, Option<Routing<M>>)> {
        let hidden = self.mixed(x, rotary, documents, None)?;
        let normed = self.post_attention_layernorm.forward(&hidden)?;
        let (after, routing) = match &self.mlp {
            FeedForward::Dense(layer) => (layer.forward(&normed)?, None),
            FeedForward::Experts(layer) => {
                let (after, routing) = layer.forward_counted(&normed, counted)?;
                (after, Some(routing))
            }
        };
        Ok((hidden.add(&after)?, routing))
    }

    /// The hidden state before the feed-forward layer.
    fn mixed(
        &self,
        x: &Tensor<M>,
        rotary: &Rotary,
        documents: Option<&Documents>,
        cache: Option<&mut LayerCache<M>>,
    ) -> Result<Tensor<M>> {
        if documents.is_some() && cache.is_some() {
            return Err(cotangent::Error::Other("generation takes one document a row, without `Documents`".into()));
        }
        let normed = self.input_layernorm.forward(x)?;
        let mixed = match (&self.mixer, cache) {
            (Mixer::Full(layer), None) => layer.self_attn.forward(&normed, rotary, documents, None)?,
            (Mixer::Full(layer), Some(LayerCache::KeyValue(cache))) => {
                layer.self_attn.forward(&normed, rotary, None, Some(cache))?
            }
            (Mixer::Linear(layer), None) => layer.linear_attn.forward(&normed, documents, None)?,
            (Mixer::Linear(layer), Some(LayerCache::GatedDelta(cache))) => {
                layer.linear_attn.forward(&normed, None, Some(cache))?
            }
            _ => return Err(cotangent::Error::Other("the cache was made for another model".into())),
        };
        x.add(&mixed)
    }
}
