//! The text part of a Qwen3.5 checkpoint's `config.json`, read strictly: a value that is absent, of the wrong type or
//! in contradiction with another one is an error that names file and field, never a silent default.
//!
//! Defaults exist only where transformers and mlx-lm agree on them and published files rely on them.

mod error;
mod experts;
mod fields;
mod keys;
mod layers;
mod quantization;
mod rope;
#[cfg(test)]
mod tests;
mod vision;

use std::path::Path;

use serde_json::Value;

pub use error::ConfigError;
pub use experts::{ExpertsConfig, FeedForwardConfig};
pub use layers::LayerKind;
pub use quantization::Quantization;
pub use rope::RopeConfig;
pub use vision::VisionConfig;

use crate::reading;

pub(crate) use fields::Fields;

/// The largest size any dimension or tensor extent may have: MLX shapes are `i32`.
const MAX_EXTENT: usize = i32::MAX as usize;

/// A Qwen3.5 text model, as `config.json` describes it.
///
/// Every value has been checked against the others, so code that builds a model from it needs no checks of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// Rows of the embedding table and of the language-model head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// The feed-forward layer of each decoder layer.
    pub feed_forward: FeedForwardConfig,
    /// Whether the norms scale by `1 + weight`, as in Qwen3.5; in Qwen3 by `weight`.
    pub zero_centred_norms: bool,
    /// Whether a sigmoid gates the output of full attention, as in Qwen3.5.
    pub gated_attention: bool,
    /// The token mixer of each decoder layer, first layer first.
    pub layers: Vec<LayerKind>,
    /// Query heads of a full-attention layer; a multiple of `num_key_value_heads`.
    pub num_attention_heads: usize,
    /// Key and value heads of a full-attention layer.
    pub num_key_value_heads: usize,
    /// Width of one attention head (queries, keys and values alike).
    pub head_dim: usize,
    /// Query and key heads of a gated-delta-net layer.
    pub linear_num_key_heads: usize,
    /// Value heads of a gated-delta-net layer; a multiple of `linear_num_key_heads`.
    pub linear_num_value_heads: usize,
    /// Width of one query or key head of a gated-delta-net layer.
    pub linear_key_head_dim: usize,
    /// Width of one value head of a gated-delta-net layer.
    pub linear_value_head_dim: usize,
    /// Taps of the causal depthwise convolution; at least 2.
    pub linear_conv_kernel_dim: usize,
    /// Epsilon of every RMS norm.
    pub rms_norm_eps: f64,
    /// Rotary position embedding of the full-attention layers.
    pub rope: RopeConfig,
    /// Longest sequence the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// Whether the head is the embedding table, so that the checkpoint has no `lm_head.weight`.
    pub tie_word_embeddings: bool,
    /// The vision tower before it; `None` where there is none, or it is not asked for.
    pub vision: Option<VisionConfig>,
    /// Whether the model has a head of multi-token prediction and it is asked for; a checkpoint's tensors say whether there is
    /// one.
    pub has_multi_token_head: bool,
}

impl TextConfig {
    /// Reads `config.json` of the checkpoint folder `dir`.
    ///
    /// # Errors
    /// If the file cannot be read, is not JSON, or describes a model that is inconsistent or not supported.
    pub fn load(dir: &Path) -> Result<Self, ConfigError> {
        let file = dir.join("config.json");
        Self::from_json(&read_json(&file)?, &file)
    }

    /// Loads as [`load`](Self::load) does, with the vision tower if the file describes one.
    ///
    /// # Errors
    /// As [`load`](Self::load), and if the tower is inconsistent or not supported.
    pub fn load_with_vision(dir: &Path) -> Result<Self, ConfigError> {
        let file = dir.join("config.json");
        Self::from_json_with_vision(&read_json(&file)?, &file)
    }

    /// Reads a parsed `config.json`; `file` is only named in errors.
    ///
    /// # Errors
    /// If the configuration is inconsistent, or describes a model that is not supported.
    pub fn from_json(json: &Value, file: &Path) -> Result<Self, ConfigError> {
        Self::read(&Fields::root(file, json)?)
    }

    /// Reads as [`from_json`](Self::from_json) does, with the vision tower if the file describes one.
    ///
    /// # Errors
    /// As [`load_with_vision`](Self::load_with_vision).
    pub fn from_json_with_vision(json: &Value, file: &Path) -> Result<Self, ConfigError> {
        let top = Fields::root(file, json)?;
        let mut config = Self::read(&top)?;
        config.vision = vision::read(&top, config.hidden_size)?;
        Ok(config)
    }

    /// The keys of `config.json` in the checkpoint folder `dir` that nothing here reads, and that are not known to change
    /// nothing, with the objects that they are in (`text_config.attention_sinks`).
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn unknown_keys(dir: &Path) -> Result<Vec<String>, ConfigError> {
        let file = dir.join("config.json");
        let json = read_json(&file)?;
        let top = Fields::root(&file, &json)?;
        Self::read(&top)?;
        let text = top.object("text_config")?;
        Ok([Some(&top), text.as_ref()].into_iter().flatten().flat_map(Fields::unread_places).collect())
    }

    fn read(top: &Fields) -> Result<Self, ConfigError> {
        let text = select_text_config(top)?;
        Quantization::find(top)?;
        refuse_unsupported(top)?;
        refuse_unsupported(&text)?;

        let model_type = top.string("model_type")?.unwrap_or_default();
        let (is_qwen35, has_experts) = (model_type.starts_with("qwen3_5"), is_of_experts(model_type));
        let layers = if is_qwen35 { layers::read(&text)? } else { layers::all_attend(&text)? };
        // Qwen3 has no such layers, and so no sizes for them.
        let linear = |field: &str| if is_qwen35 { text.size(field) } else { Ok(0) };
        let head_dim = text.size("head_dim")?;
        let config = Self {
            vocab_size: text.size("vocab_size")?,
            hidden_size: text.size("hidden_size")?,
            feed_forward: experts::read(&text, has_experts)?,
            zero_centred_norms: is_qwen35,
            gated_attention: is_qwen35,
            layers,
            num_attention_heads: text.size("num_attention_heads")?,
            num_key_value_heads: text.size("num_key_value_heads")?,
            head_dim,
            linear_num_key_heads: linear("linear_num_key_heads")?,
            linear_num_value_heads: linear("linear_num_value_heads")?,
            linear_key_head_dim: linear("linear_key_head_dim")?,
            linear_value_head_dim: linear("linear_value_head_dim")?,
            linear_conv_kernel_dim: linear("linear_conv_kernel_dim")?,
            rms_norm_eps: text.positive_number("rms_norm_eps")?.unwrap_or(1e-6),
            rope: rope::read(&text, head_dim, if is_qwen35 { 0.25 } else { 1.0 })?,
            max_position_embeddings: text.optional_size("max_position_embeddings")?.unwrap_or(262_144),
            tie_word_embeddings: tie_word_embeddings(top, &text)?,
            vision: None,
            has_multi_token_head: false,
        };
        if is_qwen35 {
            text.refuse_unread("linear_")?;
        }
        config.check_sizes(&text)?;
        // A wrong description of a tower is not an error here, but an unknown kind of tower means an unknown model.
        if let Err(error @ ConfigError::UnknownKey { .. }) = vision::read(top, config.hidden_size) {
            return Err(error);
        }
        Ok(config)
    }

    /// Width of all query (or key) heads of a gated-delta-net layer together.
    pub fn linear_key_dim(&self) -> usize {
        self.linear_num_key_heads * self.linear_key_head_dim
    }

    /// Width of all value heads of a gated-delta-net layer together.
    pub fn linear_value_dim(&self) -> usize {
        self.linear_num_value_heads * self.linear_value_head_dim
    }

    /// Channels of the depthwise convolution: queries, keys and values side by side.
    pub fn linear_conv_dim(&self) -> usize {
        2 * self.linear_key_dim() + self.linear_value_dim()
    }

    fn check_attention(&self, text: &Fields) -> Result<(), ConfigError> {
        let width = self.num_attention_heads.checked_mul(2 * self.head_dim);
        if width.is_none_or(|width| width > MAX_EXTENT) {
            let found = format_args!("a product 2 x num_attention_heads x head_dim above {MAX_EXTENT}");
            return Err(text.wrong("num_attention_heads", found, "less"));
        }
        Ok(())
    }

    fn check_sizes(&self, text: &Fields) -> Result<(), ConfigError> {
        text.expect_multiple(
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
        )?;
        if !self.layers.contains(&LayerKind::LinearAttention) {
            return self.check_attention(text);
        }
        text.expect_multiple(
            ("linear_num_value_heads", self.linear_num_value_heads),
            ("linear_num_key_heads", self.linear_num_key_heads),
        )?;
        if self.linear_conv_kernel_dim < 2 {
            return Err(text.wrong("linear_conv_kernel_dim", self.linear_conv_kernel_dim, "at least 2"));
        }
        let (q, k, v) = (
            self.num_attention_heads.checked_mul(2 * self.head_dim),
            self.linear_num_key_heads.checked_mul(2 * self.linear_key_head_dim),
            self.linear_num_value_heads.checked_mul(self.linear_value_head_dim),
        );
        let widths = [
            ("num_attention_heads", "2 x num_attention_heads x head_dim", q),
            (
                "linear_num_value_heads",
                "2 x linear_num_key_heads x linear_key_head_dim + linear_num_value_heads x linear_value_head_dim",
                k.zip(v).and_then(|(k, v)| k.checked_add(v)),
            ),
        ];
        for (field, formula, width) in widths {
            if width.is_none_or(|width| width > MAX_EXTENT) {
                return Err(text.wrong(field, format_args!("a product {formula} above {MAX_EXTENT}"), "less"));
            }
        }
        Ok(())
    }
}

/// Parses a configuration.
pub(crate) fn read_json(file: &Path) -> Result<Value, ConfigError> {
    let text = reading::read_text(file, reading::CONFIGURATION_BYTES)
        .map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
    serde_json::from_str(&text).map_err(|source| ConfigError::Json { file: file.to_owned(), source })
}

/// Finds the object that holds the text model: `text_config` of a multimodal checkpoint, or the whole of a text export.
fn select_text_config<'a>(top: &Fields<'a>) -> Result<Fields<'a>, ConfigError> {
    let nested = top.object("text_config")?;
    let Some(model_type) = top.string("model_type")? else {
        return Err(top.absent("model_type", "`qwen3_5` or `qwen3_5_text`"));
    };
    check_model_type(top, model_type)?;
    match nested {
        Some(nested) => {
            if let Some(inner) = nested.string("model_type")? {
                check_model_type(&nested, inner)?;
                if is_of_experts(inner) != is_of_experts(model_type) {
                    let expected =
                        format!("the kind of model that the `model_type` beside `text_config`, `{model_type}`, is");
                    return Err(nested.wrong("model_type", format_args!("`{inner}`"), expected));
                }
            }
            Ok(nested)
        }
        None if top.has("vision_config") && !top.has("hidden_size") => {
            Err(top.unsupported("vision_config", "a vision tower without a text model (`text_config` is absent)"))
        }
        None => Ok(top.clone()),
    }
}

/// Returns whether models of this type have experts, and are of a family that is supported with them.
fn is_of_experts(model_type: &str) -> bool {
    matches!(model_type, "qwen3_5_moe" | "qwen3_5_moe_text")
}

fn check_model_type(fields: &Fields, model_type: &str) -> Result<(), ConfigError> {
    let what = match model_type {
        "qwen3_5" | "qwen3_5_text" | "qwen3_vl" | "qwen3_vl_text" | "qwen3" => return Ok(()),
        t if is_of_experts(t) => return Ok(()),
        t if t.contains("moe") => format!("`{t}`, a mixture-of-experts model,"),
        t if t.contains("vision") => format!("`{t}`, a vision tower without a text model,"),
        t => format!("`{t}`"),
    };
    Err(fields.unsupported("model_type", what))
}

fn refuse_unsupported(fields: &Fields) -> Result<(), ConfigError> {
    for field in ["hidden_act", "output_gate_type"] {
        match fields.string(field)? {
            None | Some("silu" | "swish") => {}
            Some(other) => return Err(fields.unsupported(field, format!("`{other}` instead of `silu`"))),
        }
    }
    if fields.boolean("attention_bias")? == Some(true) {
        return Err(fields.unsupported("attention_bias", "`true`: projections with a bias"));
    }
    if fields.boolean("attn_output_gate")? == Some(false) {
        return Err(fields.unsupported("attn_output_gate", "`false`: attention without an output gate"));
    }
    Ok(())
}

/// Published files write the flag beside `text_config`, inside it, or in both places.
fn tie_word_embeddings(top: &Fields, text: &Fields) -> Result<bool, ConfigError> {
    let outer = top.boolean("tie_word_embeddings")?;
    let inner = text.boolean("tie_word_embeddings")?;
    match (outer, inner) {
        (Some(outer), Some(inner)) if outer != inner => Err(text.wrong(
            "tie_word_embeddings",
            inner,
            format_args!("{outer}, as the `tie_word_embeddings` beside `text_config` says"),
        )),
        // transformers and mlx-lm both take an absent flag of this model for `false`.
        (outer, inner) => Ok(inner.or(outer).unwrap_or(false)),
    }
}
