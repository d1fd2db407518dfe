//! The names of stored tensors, in every naming that exports use.

/// The role of a stored tensor in the text model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TensorRole {
    /// A tensor of the text model, by canonical name: the Hugging Face name without the prefix that differs between
    /// exports (`layers.3.mlp.up_proj.weight`, `lm_head.weight`).
    Parameter(String),
    /// A tensor of the head of multi-token prediction, by canonical name (`mtp.fc.weight`).
    MultiTokenPrediction(String),
    /// A tensor of the vision tower, by canonical name (`visual.blocks.0.norm1.bias`).
    Vision(String),
    /// A table that old exports stored although it follows from the configuration.
    Buffer,
}

/// Longest first, because each is also the beginning of a longer one.
const TEXT_PREFIXES: [&str; 5] =
    ["model.language_model.model.", "language_model.model.", "model.language_model.", "language_model.", "model."];

/// Sorts out a tensor by its stored name, in every naming that Hugging Face and MLX exports use.
///
/// The names are `model.language_model.*` (multimodal), `model.*` (text), `language_model.model.*` (MLX) and bare
/// (without a head), each with the head beside or inside the prefix.
pub fn classify(stored: &str) -> TensorRole {
    let name = TEXT_PREFIXES.iter().find_map(|prefix| stored.strip_prefix(prefix)).unwrap_or(stored);
    let first = name.split('.').next().unwrap_or_default();
    let ours = || name.replace("mlp.switch_mlp.", "mlp.experts.");
    match first {
        "mtp" => TensorRole::MultiTokenPrediction(ours()),
        "visual" | "vision_tower" | "vision_model" => TensorRole::Vision(format!("visual{}", &name[first.len()..])),
        _ if name.ends_with("rotary_emb.inv_freq") => TensorRole::Buffer,
        _ => TensorRole::Parameter(ours()),
    }
}

/// Returns the name that MLX's converters give the parameter or module of this canonical name; `is_nested` says whether
/// the text model is part of a larger one, as it is in all but Qwen3.
pub fn name_in_mlx(name: &str, is_nested: bool) -> String {
    let outer = if is_nested { "language_model." } else { "" };
    let name = &name.replace("mlp.experts.", "mlp.switch_mlp.");
    match name.strip_prefix("visual.") {
        Some(rest) => format!("vision_tower.{rest}"),
        None if matches!(name.split('.').next(), Some("lm_head" | "mtp")) => format!("{outer}{name}"),
        None => format!("{outer}model.{name}"),
    }
}

/// Returns the name that transformers gives to the parameter or module of this canonical name; `sees` says whether transformers'
/// class has a vision tower.
pub fn name_in_transformers(name: &str, sees: bool) -> String {
    match name.split('.').next() {
        Some("lm_head" | "mtp") => name.to_owned(),
        Some("visual") => format!("model.{name}"),
        _ if sees => format!("model.language_model.{name}"),
        _ => format!("model.{name}"),
    }
}

/// Returns whether only a quantized checkpoint has a tensor of this name.
pub(super) fn is_quantisation_detail(stored: &str) -> bool {
    const SUFFIXES: [&str; 10] = [
        "scales",
        "biases",
        "qweight",
        "qzeros",
        "weight_scale",
        "weight_scale_inv",
        "weight_packed",
        "absmax",
        "g_idx",
        "global_scale",
    ];
    stored.rsplit('.').next().is_some_and(|last| SUFFIXES.contains(&last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_naming_gives_the_same_canonical_name() {
        let table = [
            ("embed_tokens.weight", &["model.language_model.", "language_model.model.", "model.", ""][..]),
            ("norm.weight", &["model.language_model.", "language_model.model.", "model.", ""]),
            ("layers.10.linear_attn.A_log", &["model.language_model.", "language_model.model.", "model.", ""]),
            ("layers.1.mlp.experts.up_proj.weight", &["language_model.model.", "model.", ""]),
            ("lm_head.weight", &["", "language_model.", "model.", "model.language_model."]),
        ];
        for (canonical, prefixes) in table {
            let in_mlx = [true, false].map(|is_nested| name_in_mlx(canonical, is_nested));
            let in_transformers = [true, false].map(|sees| name_in_transformers(canonical, sees));
            let published = prefixes.iter().map(|prefix| format!("{prefix}{canonical}"));
            for stored in published.chain(in_mlx).chain(in_transformers) {
                assert_eq!(classify(&stored), TensorRole::Parameter(canonical.to_owned()), "{stored}");
            }
        }
    }

    #[test]
    fn what_is_no_part_of_the_text_model_is_distinguished() {
        for (stored, role) in [
            ("mtp.fc.weight", TensorRole::MultiTokenPrediction("mtp.fc.weight".into())),
            ("language_model.mtp.norm.weight", TensorRole::MultiTokenPrediction("mtp.norm.weight".into())),
            (
                "mtp.layers.0.mlp.switch_mlp.up_proj.weight",
                TensorRole::MultiTokenPrediction("mtp.layers.0.mlp.experts.up_proj.weight".into()),
            ),
            ("model.visual.blocks.0.norm1.bias", TensorRole::Vision("visual.blocks.0.norm1.bias".into())),
            ("visual.patch_embed.proj.weight", TensorRole::Vision("visual.patch_embed.proj.weight".into())),
            ("vision_tower.merger.norm.weight", TensorRole::Vision("visual.merger.norm.weight".into())),
            ("model.language_model.visual.pos_embed.weight", TensorRole::Vision("visual.pos_embed.weight".into())),
            ("model.layers.3.self_attn.rotary_emb.inv_freq", TensorRole::Buffer),
        ] {
            assert_eq!(classify(stored), role, "{stored}");
        }
    }
}
