//! Grouped-query attention, gated in Qwen3.5.

use cotangent::ops::Visible;
use cotangent::{Dtype, Graph, Mode, Parameters, Planned, Result, Tensor};
use cotangent_kernels::Documents;

use crate::config::TextConfig;
use crate::linear::Linear;
use crate::norm::RmsNorm;
use crate::rope::Rotary;

use super::cache::KeyValueCache;

/// Causal attention whose output a sigmoid may gate before the output projection.
#[derive(Parameters)]
pub struct Attention<M: Mode> {
    /// Per head `head_dim` query rows, then, if the output is gated, `head_dim` gate rows.
    pub q_proj: Linear<M>,
    /// `[kv_heads * head_dim, hidden]`.
    pub k_proj: Linear<M>,
    /// `[kv_heads * head_dim, hidden]`.
    pub v_proj: Linear<M>,
    /// `[hidden, heads * head_dim]`.
    pub o_proj: Linear<M>,
    /// The norm over each query head.
    pub q_norm: RmsNorm<M>,
    /// The norm over each key head.
    pub k_norm: RmsNorm<M>,
    /// Query heads.
    #[config]
    pub heads: i32,
    /// Key and value heads; a divisor of `heads`.
    #[config]
    pub kv_heads: i32,
    /// Width of a head.
    #[config]
    pub head_dim: i32,
    /// Whether a sigmoid gates the output.
    #[config]
    pub gated: bool,
}

impl Attention<Planned> {
    /// The layer that `config` describes, its matrices held in `dtype`.
    pub fn planned(config: &TextConfig, dtype: Dtype) -> Self {
        let (hidden, head_dim) = (config.hidden_size, config.head_dim);
        let query_dim = config.num_attention_heads * head_dim;
        let key_dim = config.num_key_value_heads * head_dim;
        Attention {
            q_proj: Linear::planned(if config.gated_attention { 2 } else { 1 } * query_dim, hidden, dtype),
            k_proj: Linear::planned(key_dim, hidden, dtype),
            v_proj: Linear::planned(key_dim, hidden, dtype),
            o_proj: Linear::planned(hidden, query_dim, dtype),
            q_norm: RmsNorm::planned(head_dim, config),
            k_norm: RmsNorm::planned(head_dim, config),
            heads: config.num_attention_heads as i32,
            kv_heads: config.num_key_value_heads as i32,
            head_dim: head_dim as i32,
            gated: config.gated_attention,
        }
    }
}

impl<M: Graph> Attention<M> {
    /// `[B, T, hidden]` to `[B, T, hidden]`. Tokens see themselves, what came before in the row, and what the cache
    /// holds; rows padded on the right need no mask. Of `documents`, which go without a cache, they see their own alone.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward(
        &self,
        x: &Tensor<M>,
        rotary: &Rotary,
        documents: Option<&Documents>,
        cache: Option<&mut KeyValueCache<M>>,
    ) -> Result<Tensor<M>> {
        let (batch, tokens) = (x.dimension(0), x.dimension(1));
        let (heads, kv_heads, head_dim) = (self.heads, self.kv_heads, self.head_dim);
        let queries = self.q_proj.forward(x)?;
        let (queries, gates) = match self.gated {
            true => {
                let both = queries.reshape(&[batch, tokens, heads, 2 * head_dim])?;
                (both.slice(-1, 0, head_dim)?, Some(both.slice(-1, head_dim, 2 * head_dim)?))
            }
            false => (queries.reshape(&[batch, tokens, heads, head_dim])?, None),
        };
        let keys = self.k_proj.forward(x)?.reshape(&[batch, tokens, kv_heads, head_dim])?;
        let values = self.v_proj.forward(x)?.reshape(&[batch, tokens, kv_heads, head_dim])?;

        let queries = rotary.apply(&self.q_norm.forward(&queries)?.swap_axes(1, 2)?)?;
        let keys = rotary.apply(&self.k_norm.forward(&keys)?.swap_axes(1, 2)?)?;
        let values = values.swap_axes(1, 2)?;
        let scale = (head_dim as f32).powf(-0.5);

        let attended = match cache {
            None => cotangent_kernels::causal_attention(&queries, &keys, &values, scale, documents)?,
            Some(cache) => {
                let (keys, values) = cache.append(keys, values)?;
                queries.attention(&keys, &values, scale, Visible::Causal)?
            }
        };
        let output = match gates {
            Some(gates) => cotangent_kernels::attention_gate(&attended, &gates)?,
            None => attended.swap_axes(1, 2)?.reshape(&[batch, tokens, heads * head_dim])?,
        };
        self.o_proj.forward(&output)
    }
}
