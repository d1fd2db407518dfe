//! A model from a checkpoint.

use std::path::Path;

use cotangent::{Dtype, Stored, Tensor};

use crate::checkpoint::{Checkpoint, CheckpointError, Checksum, HostTensor, LoadPlan, Skipped};
use crate::config::{ConfigError, LayerKind, TextConfig};
use crate::linear::Linear;
use crate::norm::{GatedNorm, ZeroCentredNorm};

use super::attention::Attention;
use super::block::{Block, FullAttention, LinearAttention, Mixer};
use super::gated_delta_net::{Convolution, GatedDeltaNet};
use super::mlp::Mlp;
use super::model::{Model, Table};

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// `config.json` is at fault.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The tensors are at fault.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The device refused.
    #[error("loading parameter `{name}`: {source}")]
    Device {
        /// The parameter's canonical name.
        name: String,
        /// What it said.
        source: cotangent::Error,
    },
}

/// What was found in a checkpoint beside the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Findings {
    /// Tensors that the text model has no use for.
    pub skipped: Skipped,
    /// Whether the head is not tied to the embedding although `config.json` says so, because a stored one differs from it.
    pub own_head: bool,
    /// Of the configuration and of all parameters as stored: two checkpoints of one fingerprint are the same model.
    pub fingerprint: Checksum,
}

/// Reads parameters one at a time, so that a file's bytes and the device's copy of one tensor at most are held twice.
struct Reader<'a> {
    /// Gives a parameter of the model, by canonical name, in Hugging Face layout.
    source: &'a mut dyn FnMut(&str) -> Result<HostTensor, CheckpointError>,
    config: &'a TextConfig,
    dtype: Dtype,
}

impl Model<Stored> {
    /// Reads `config.json` and the safetensors of the folder `dir`. Matrices are held in `dtype`; norms, filters, `A_log`
    /// and `dt_bias` always in float32.
    ///
    /// # Errors
    /// If the configuration or any tensor is wrong: nothing is loaded by halves.
    pub fn load(dir: &Path, dtype: Dtype) -> Result<(Self, TextConfig, Findings), LoadError> {
        Self::load_observed(dir, dtype, &mut |_, _| {})
    }

    /// As [`load`](Self::load); `observe` gets the number of parameters read and that of all after each.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_observed(
        dir: &Path,
        dtype: Dtype,
        observe: &mut dyn FnMut(usize, usize),
    ) -> Result<(Self, TextConfig, Findings), LoadError> {
        let mut config = TextConfig::load(dir)?;
        let checkpoint = Checkpoint::open(dir)?;
        let own_head = config.tie_word_embeddings && checkpoint.has_head_of_its_own()?;
        config.tie_word_embeddings &= !own_head;
        let parameters = config.parameters();
        let plan = LoadPlan::new(&checkpoint, &parameters)?;
        let mut fingerprint = Checksum::default();
        fingerprint.add_bytes(format!("{config:?}").as_bytes());
        let mut read = 0;
        let model = Self::from_source(&config, dtype, &mut |name| {
            let tensor = plan.read(name)?;
            fingerprint.add_bytes(name.as_bytes());
            fingerprint.add_bytes(&tensor.bytes);
            read += 1;
            observe(read, parameters.len());
            Ok(tensor)
        })?;
        Ok((model, config, Findings { skipped: plan.skipped(), own_head, fingerprint }))
    }

    /// A model of `config` whose parameters `source` gives by canonical name, in the shapes of
    /// [`TextConfig::parameters`].
    ///
    /// # Errors
    /// What `source` returns, and what the device says.
    pub fn from_source(
        config: &TextConfig,
        dtype: Dtype,
        source: &mut dyn FnMut(&str) -> Result<HostTensor, CheckpointError>,
    ) -> Result<Self, LoadError> {
        let mut reader = Reader { source, config, dtype };
        Ok(Model {
            embed_tokens: Table { weight: reader.matrix("embed_tokens.weight")? },
            layers: (0..config.layers.len()).map(|index| reader.block(index)).collect::<Result<_, _>>()?,
            norm: reader.norm("norm")?,
            lm_head: if config.tie_word_embeddings { None } else { Some(reader.linear("lm_head")?) },
        })
    }
}

impl Reader<'_> {
    fn tensor(&mut self, name: &str, dtype: Dtype) -> Result<Tensor<Stored>, LoadError> {
        let host = (self.source)(name)?;
        let device = |source| LoadError::Device { name: name.to_owned(), source };
        // The plan admits these three only.
        let stored = match host.dtype {
            safetensors::Dtype::BF16 => Dtype::BF16,
            safetensors::Dtype::F16 => Dtype::F16,
            _ => Dtype::F32,
        };
        let shape: Vec<i32> = host.shape.iter().map(|extent| *extent as i32).collect();
        let tensor = Tensor::from_bytes(&host.bytes, stored, &shape).map_err(device)?;
        if stored == dtype { Ok(tensor) } else { tensor.cast(dtype).map_err(device) }
    }

    fn matrix(&mut self, name: &str) -> Result<Tensor<Stored>, LoadError> {
        self.tensor(name, self.dtype)
    }

    fn linear(&mut self, name: &str) -> Result<Linear<Stored>, LoadError> {
        Ok(Linear::new(self.matrix(&format!("{name}.weight"))?))
    }

    fn norm(&mut self, name: &str) -> Result<ZeroCentredNorm<Stored>, LoadError> {
        let weight = self.tensor(&format!("{name}.weight"), Dtype::F32)?;
        Ok(ZeroCentredNorm { weight, epsilon: self.config.rms_norm_eps as f32 })
    }

    fn block(&mut self, index: usize) -> Result<Block<Stored>, LoadError> {
        let at = |name: &str| format!("layers.{index}.{name}");
        Ok(Block {
            input_layernorm: self.norm(&at("input_layernorm"))?,
            mixer: match self.config.layers[index] {
                LayerKind::FullAttention => {
                    Mixer::Full(Box::new(FullAttention { self_attn: self.attention(&at("self_attn"))? }))
                }
                LayerKind::LinearAttention => {
                    Mixer::Linear(Box::new(LinearAttention { linear_attn: self.gated_delta_net(&at("linear_attn"))? }))
                }
            },
            post_attention_layernorm: self.norm(&at("post_attention_layernorm"))?,
            mlp: Mlp {
                gate_proj: self.linear(&at("mlp.gate_proj"))?,
                up_proj: self.linear(&at("mlp.up_proj"))?,
                down_proj: self.linear(&at("mlp.down_proj"))?,
            },
        })
    }

    fn attention(&mut self, prefix: &str) -> Result<Attention<Stored>, LoadError> {
        let at = |name: &str| format!("{prefix}.{name}");
        Ok(Attention {
            q_proj: self.linear(&at("q_proj"))?,
            k_proj: self.linear(&at("k_proj"))?,
            v_proj: self.linear(&at("v_proj"))?,
            o_proj: self.linear(&at("o_proj"))?,
            q_norm: self.norm(&at("q_norm"))?,
            k_norm: self.norm(&at("k_norm"))?,
            heads: self.config.num_attention_heads as i32,
            kv_heads: self.config.num_key_value_heads as i32,
            head_dim: self.config.head_dim as i32,
        })
    }

    fn gated_delta_net(&mut self, prefix: &str) -> Result<GatedDeltaNet<Stored>, LoadError> {
        let at = |name: &str| format!("{prefix}.{name}");
        Ok(GatedDeltaNet {
            in_proj_qkv: self.linear(&at("in_proj_qkv"))?,
            in_proj_z: self.linear(&at("in_proj_z"))?,
            in_proj_b: self.linear(&at("in_proj_b"))?,
            in_proj_a: self.linear(&at("in_proj_a"))?,
            conv1d: Convolution { weight: self.tensor(&at("conv1d.weight"), Dtype::F32)? },
            a_log: self.tensor(&at("A_log"), Dtype::F32)?,
            dt_bias: self.tensor(&at("dt_bias"), Dtype::F32)?,
            norm: GatedNorm {
                weight: self.tensor(&at("norm.weight"), Dtype::F32)?,
                epsilon: self.config.rms_norm_eps as f32,
            },
            out_proj: self.linear(&at("out_proj"))?,
            key_heads: self.config.linear_num_key_heads as i32,
            value_heads: self.config.linear_num_value_heads as i32,
            key_dim: self.config.linear_key_head_dim as i32,
            value_dim: self.config.linear_value_head_dim as i32,
        })
    }
}
