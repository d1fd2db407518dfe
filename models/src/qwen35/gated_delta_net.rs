//! The gated delta net: linear attention with a state of one size.

use cotangent::{Constant, Dtype, Graph, Mode, Parameters, Planned, Result, Storage, Tensor};
use cotangent_kernels::{Documents, GatedDeltaInputs, GatedDeltaStepInputs};

use crate::config::TextConfig;
use crate::linear::Linear;
use crate::norm::GatedNorm;

use super::cache::GatedDeltaCache;

/// Projections, causal convolution, gated delta rule, gated norm, output projection.
#[derive(Parameters)]
pub struct GatedDeltaNet<M: Mode> {
    /// Queries, keys and values side by side.
    pub in_proj_qkv: Linear<M>,
    /// The gate of the norm.
    pub in_proj_z: Linear<M>,
    /// Logits of the write strength beta, one per value head.
    pub in_proj_b: Linear<M>,
    /// Logits of the decay, one per value head.
    pub in_proj_a: Linear<M>,
    /// The convolution over queries, keys and values.
    pub conv1d: Convolution<M>,
    /// Logarithm of the decay rate, `[value_heads]`, float32.
    #[parameters(rename = "A_log")]
    pub a_log: Tensor<M>,
    /// Added to the logits of the decay, `[value_heads]`, float32.
    pub dt_bias: Tensor<M>,
    /// The norm over each value head.
    pub norm: GatedNorm<M>,
    /// `[hidden, value_heads * value_dim]`.
    pub out_proj: Linear<M>,
    /// Query and key heads.
    #[config]
    pub key_heads: i32,
    /// Value heads; a multiple of `key_heads`.
    #[config]
    pub value_heads: i32,
    /// Width of a query or key head.
    #[config]
    pub key_dim: i32,
    /// Width of a value head.
    #[config]
    pub value_dim: i32,
}

/// One causal filter per channel.
#[derive(Parameters)]
pub struct Convolution<M: Mode> {
    /// `[channels, 1, kernel]`, float32.
    pub weight: Tensor<M>,
}

/// The epsilon of the l2 norm of queries and keys; no configuration sets it.
const NORM_EPSILON: f32 = 1e-6;

impl GatedDeltaNet<Planned> {
    /// The layer that `config` describes, its matrices held in `dtype`.
    pub fn planned(config: &TextConfig, dtype: Dtype) -> Self {
        let (hidden, heads) = (config.hidden_size, config.linear_num_value_heads);
        let (value_dim, conv_dim) = (config.linear_value_dim(), config.linear_conv_dim());
        let filters = [conv_dim, 1, config.linear_conv_kernel_dim];
        GatedDeltaNet {
            in_proj_qkv: Linear::planned(conv_dim, hidden, dtype),
            in_proj_z: Linear::planned(value_dim, hidden, dtype),
            in_proj_b: Linear::planned(heads, hidden, dtype),
            in_proj_a: Linear::planned(heads, hidden, dtype),
            conv1d: Convolution { weight: Tensor::planned(&filters, Dtype::F32).stored_as(Storage::ChannelsLast) },
            a_log: Tensor::planned(&[heads], Dtype::F32),
            dt_bias: Tensor::planned(&[heads], Dtype::F32),
            norm: GatedNorm::planned(config.linear_value_head_dim, config.rms_norm_eps),
            out_proj: Linear::planned(hidden, value_dim, dtype),
            key_heads: config.linear_num_key_heads as i32,
            value_heads: heads as i32,
            key_dim: config.linear_key_head_dim as i32,
            value_dim: config.linear_value_head_dim as i32,
        }
    }
}

impl<M: Graph> GatedDeltaNet<M> {
    /// `[B, T, hidden]` to `[B, T, hidden]`. Each of the `documents`, which go without a cache, begins with a state of zero.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward(
        &self,
        x: &Tensor<M>,
        documents: Option<&Documents>,
        cache: Option<&mut GatedDeltaCache<M>>,
    ) -> Result<Tensor<M>> {
        let (batch, tokens, dtype) = (x.dimension(0), x.dimension(1), x.dtype());
        let (all_keys, all_values) = (self.key_heads * self.key_dim, self.value_heads * self.value_dim);

        let mixed = self.in_proj_qkv.forward(x)?;
        let window = cache.as_ref().map(|cache| &cache.window);
        let convolved = cotangent_kernels::causal_conv_silu(&mixed, &self.conv1d.weight, window, documents)?;
        let kernel = self.conv1d.weight.dimension(2);
        let next_window =
            window.map(|window| cotangent_kernels::causal_conv_window(&mixed, Some(window), kernel)).transpose()?;
        let parts = convolved.split(&[all_keys, all_keys, all_values], -1)?;
        let key_shape = [batch, tokens, self.key_heads, self.key_dim];
        let query_scale = (self.key_dim as f32).powf(-0.5);
        let queries = cotangent_kernels::l2norm(&parts[0].reshape(&key_shape)?, query_scale, NORM_EPSILON)?;
        let keys = cotangent_kernels::l2norm(&parts[1].reshape(&key_shape)?, 1.0, NORM_EPSILON)?;
        let values = parts[2].reshape(&[batch, tokens, self.value_heads, self.value_dim])?;

        let gates = cotangent_kernels::gates(
            &self.in_proj_a.forward(x)?,
            &self.in_proj_b.forward(x)?,
            &self.a_log,
            &self.dt_bias,
        )?;
        let state = match &cache {
            Some(cache) => cache.state.clone(),
            None => {
                let shape = [batch, self.value_heads, self.value_dim, self.key_dim];
                Constant::full(&shape, 0.0, Dtype::F32)?.to_tensor()
            }
        };
        let (log_decay, beta) = (&gates.log_decay, &gates.beta);
        let (y, final_state) = if tokens == 1 && documents.is_none() {
            // Generation: a chunk would be mostly padding.
            let step = cotangent_kernels::gated_delta_step(GatedDeltaStepInputs {
                queries: &queries,
                keys: &keys,
                values: &values,
                log_decay,
                beta,
                state: &state,
            })?;
            (step.y, step.final_state)
        } else {
            let chunk = cotangent_kernels::chunk_length(cotangent::backend()?);
            let inputs = GatedDeltaInputs {
                queries: &queries,
                keys: &keys,
                values: &values,
                log_decay,
                beta,
                initial_state: &state,
                chunk,
            };
            let delta = match documents {
                Some(documents) => cotangent_kernels::gated_delta_of_documents(inputs, documents)?,
                None => cotangent_kernels::gated_delta(inputs)?,
            };
            (delta.y, delta.final_state)
        };
        if let (Some(cache), Some(window)) = (cache, next_window) {
            cache.window = window;
            cache.state = final_state;
        }

        let gate = self.in_proj_z.forward(x)?.reshape(&[batch, tokens, self.value_heads, self.value_dim])?;
        let normed = self.norm.forward(&y.cast(dtype)?, &gate)?;
        self.out_proj.forward(&normed.reshape(&[batch, tokens, all_values])?)
    }
}
