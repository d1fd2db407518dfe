//! A decoder layer.

use cotangent::{Graph, Mode, Parameters, Result, Stored, Tensor};

use crate::linear::Linear;
use crate::norm::ZeroCentredNorm;
use crate::rope::Rotary;

use super::attention::Attention;
use super::cache::LayerCache;
use super::gated_delta_net::GatedDeltaNet;
use super::mlp::Mlp;

/// `h = x + mixer(norm(x))`, then `h + mlp(norm(h))`.
#[derive(Parameters)]
pub struct Block<M: Mode> {
    /// Before the mixer.
    pub input_layernorm: ZeroCentredNorm<M>,
    /// What mixes tokens.
    #[parameters(flatten)]
    pub mixer: Mixer<M>,
    /// Before the feed-forward layer.
    pub post_attention_layernorm: ZeroCentredNorm<M>,
    /// The feed-forward layer.
    pub mlp: Mlp<M>,
}

/// The two kinds of layer; each brings the level that names its parameters in the file.
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

impl<M: Graph> Block<M> {
    /// `[B, T, hidden]` to `[B, T, hidden]`.
    ///
    /// # Errors
    /// If the shapes do not fit, or the cache is that of the other kind of layer.
    pub fn forward(&self, x: &Tensor<M>, rotary: &Rotary, cache: Option<&mut LayerCache<M>>) -> Result<Tensor<M>> {
        let normed = self.input_layernorm.forward(x)?;
        let mixed = match (&self.mixer, cache) {
            (Mixer::Full(layer), None) => layer.self_attn.forward(&normed, rotary, None)?,
            (Mixer::Full(layer), Some(LayerCache::KeyValue(cache))) => {
                layer.self_attn.forward(&normed, rotary, Some(cache))?
            }
            (Mixer::Linear(layer), None) => layer.linear_attn.forward(&normed, None)?,
            (Mixer::Linear(layer), Some(LayerCache::GatedDelta(cache))) => {
                layer.linear_attn.forward(&normed, Some(cache))?
            }
            _ => return Err(cotangent::Error::Other("the cache was made for another model".into())),
        };
        let hidden = x.add(&mixed)?;
        hidden.add(&self.mlp.forward(&self.post_attention_layernorm.forward(&hidden)?)?)
    }
}

impl Block<Stored> {
    /// Its linear layers with their names relative to the layer, in the file's order.
    pub fn linears_mut(&mut self) -> Vec<(&'static str, &mut Linear<Stored>)> {
        let mut linears = match &mut self.mixer {
            Mixer::Full(layer) => vec![
                ("self_attn.q_proj", &mut layer.self_attn.q_proj),
                ("self_attn.k_proj", &mut layer.self_attn.k_proj),
                ("self_attn.v_proj", &mut layer.self_attn.v_proj),
                ("self_attn.o_proj", &mut layer.self_attn.o_proj),
            ],
            Mixer::Linear(layer) => vec![
                ("linear_attn.in_proj_qkv", &mut layer.linear_attn.in_proj_qkv),
                ("linear_attn.in_proj_z", &mut layer.linear_attn.in_proj_z),
                ("linear_attn.in_proj_b", &mut layer.linear_attn.in_proj_b),
                ("linear_attn.in_proj_a", &mut layer.linear_attn.in_proj_a),
                ("linear_attn.out_proj", &mut layer.linear_attn.out_proj),
            ],
        };
        linears.extend([
            ("mlp.gate_proj", &mut self.mlp.gate_proj),
            ("mlp.up_proj", &mut self.mlp.up_proj),
            ("mlp.down_proj", &mut self.mlp.down_proj),
        ]);
        linears
    }
}
