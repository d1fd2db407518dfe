//! The feed-forward layer: dense, or a mixture of experts.

use super::ConfigError;
use super::fields::{Fields, describe};

/// The part of a decoder layer that transforms each token by itself. All layers of a model are alike.
#[derive(Debug, Clone, PartialEq)]
pub enum FeedForwardConfig {
    /// One gated layer for all tokens.
    Dense {
        /// The width between its projections.
        intermediate_size: usize,
    },
    /// Some of many gated layers, and one for all tokens.
    Experts(ExpertsConfig),
}

/// A mixture of experts with one shared expert.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertsConfig {
    /// The number of experts that a router chooses from.
    pub count: usize,
    /// The number of experts that a router chooses for a token; at most `count`.
    pub per_token: usize,
    /// Width of one of them between its projections.
    pub intermediate_size: usize,
    /// The intermediate width of the shared expert.
    pub shared_intermediate_size: usize,
}

/// The beginnings of the names of fields that describe experts.
const PREFIXES: [&str; 8] =
    ["expert_", "moe_", "num_expert", "norm_topk", "routed_", "router_", "shared_expert", "topk_"];

/// Reads the layer of a model whose `model_type` says whether it `has_experts`.
pub(super) fn read(text: &Fields, has_experts: bool) -> Result<FeedForwardConfig, ConfigError> {
    if !has_experts {
        return match text.optional_count("num_experts")?.unwrap_or(0) {
            0 => Ok(FeedForwardConfig::Dense { intermediate_size: text.size("intermediate_size")? }),
            count => Err(text.wrong("num_experts", count, "none, as `model_type` is that of a dense model")),
        };
    }
    let experts = ExpertsConfig {
        count: text.size("num_experts")?,
        per_token: text.size("num_experts_per_tok")?,
        intermediate_size: text.size("moe_intermediate_size")?,
        shared_intermediate_size: text.size("shared_expert_intermediate_size")?,
    };
    if experts.per_token > experts.count {
        let expected = format!("at most {}, which is `num_experts`", experts.count);
        return Err(text.wrong("num_experts_per_tok", experts.per_token, expected));
    }
    // transformers always scales the weights of the chosen experts to the sum 1; mlx-lm does not if this is `false`.
    if text.boolean("norm_topk_prob")? == Some(false) {
        return Err(text.unsupported("norm_topk_prob", "`false`: weights of experts that do not add up to 1"));
    }
    // Every layer of the published models has experts, and transformers reads neither field.
    if let Some(step) = text.optional_count("decoder_sparse_step")?.filter(|step| *step != 1) {
        return Err(text.unsupported("decoder_sparse_step", format!("{step}: layers without experts between others")));
    }
    if let Some(layer) = text.array("mlp_only_layers")?.and_then(<[_]>::first) {
        let what = format!("layer {}, which has no experts,", describe(layer));
        return Err(text.unsupported("mlp_only_layers", what));
    }
    for prefix in PREFIXES {
        text.refuse_unread(prefix)?;
    }
    Ok(FeedForwardConfig::Experts(experts))
}
