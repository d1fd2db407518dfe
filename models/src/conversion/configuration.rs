//! The `config.json` of a converted checkpoint.

use std::collections::BTreeMap;

use cotangent::CodeFormat;
use serde_json::{Map, Value, json};

use super::Scheme;

/// The parts of a model's configuration that a conversion changes.
pub(super) struct Changes<'a> {
    pub(super) scheme: &'a Scheme,
    /// The formats of the modules that the file must name, by their names in it.
    pub(super) codes: &'a BTreeMap<String, CodeFormat>,
    pub(super) has_vision: bool,
    /// Whether the head is the embedding.
    pub(super) is_tied: bool,
}

/// The configuration of the converted checkpoint: that of the original, with what was quantized how.
///
/// Whether the head is tied is taken from the checkpoint, and written in every place where a program reads it.
///
/// mlx-lm has no model of the type `.._text`: a text export becomes one with a `text_config`, as multimodal files have it.
pub(super) fn converted(mut original: Map<String, Value>, changes: &Changes<'_>) -> Value {
    original.remove("_name_or_path");
    let model_type = original.get("model_type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut config = match model_type.strip_suffix("_text") {
        Some(outer) if !original.contains_key("text_config") => {
            let mut top = Map::new();
            for key in ["architectures", "dtype", "torch_dtype", "tie_word_embeddings", "transformers_version"] {
                if let Some(value) = original.get(key) {
                    top.insert(key.into(), value.clone());
                }
            }
            top.insert("model_type".into(), outer.into());
            top.insert("text_config".into(), Value::Object(original));
            top
        }
        _ => original,
    };
    if !changes.has_vision {
        config.remove("vision_config");
    }
    config.insert("tie_word_embeddings".into(), changes.is_tied.into());
    if let Some(Value::Object(text)) = config.get_mut("text_config") {
        // mlx-lm reads the flag only here.
        text.insert("tie_word_embeddings".into(), changes.is_tied.into());
    }
    let Value::Object(mut quantization) = settings(changes.scheme.format()) else { return Value::Null };
    quantization.extend(changes.codes.iter().map(|(module, format)| (module.clone(), settings(*format))));
    // Some programs read the one name, and some the other.
    for key in ["quantization", "quantization_config"] {
        config.insert(key.into(), Value::Object(quantization.clone()));
    }
    Value::Object(config)
}

fn settings(format: CodeFormat) -> Value {
    json!({"group_size": format.group_size(), "bits": format.bits(), "mode": format.mode().name()})
}
