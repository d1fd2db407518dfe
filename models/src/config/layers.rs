//! The kind of each decoder layer.

use super::ConfigError;
use super::fields::{Fields, describe};

/// More layers than any model has; a damaged file must not make us allocate for billions.
const MAX_LAYERS: usize = 10_000;

/// The kind of a decoder layer, which says how it mixes tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerKind {
    /// A gated delta net (`linear_attn`).
    LinearAttention,
    /// Causal softmax attention (`self_attn`).
    FullAttention,
}

/// `layer_types` where present, else every `full_attention_interval`-th layer (4 if absent, as in all published sizes).
pub(super) fn read(text: &Fields) -> Result<Vec<LayerKind>, ConfigError> {
    let count = text.size("num_hidden_layers")?;
    if count > MAX_LAYERS {
        return Err(text.wrong("num_hidden_layers", count, format_args!("at most {MAX_LAYERS}")));
    }
    let interval = text.optional_size("full_attention_interval")?;
    let Some(types) = text.array("layer_types")? else {
        return Ok(by_interval(count, interval.unwrap_or(4)));
    };

    if types.len() != count {
        let expected = format!("{count} entries, as `num_hidden_layers` says");
        return Err(text.wrong("layer_types", format_args!("{} entries", types.len()), expected));
    }
    let mut kinds = Vec::with_capacity(count);
    for (index, name) in types.iter().enumerate() {
        kinds.push(match name.as_str() {
            Some("linear_attention") => LayerKind::LinearAttention,
            Some("full_attention") => LayerKind::FullAttention,
            _ => {
                let field = format!("layer_types[{index}]");
                return Err(text.wrong(&field, describe(name), "`linear_attention` or `full_attention`"));
            }
        });
    }
    // mlx-lm reads only the interval and transformers only the list: if they differ, so would the models.
    if let Some(interval) = interval
        && let Some(index) = by_interval(count, interval).iter().zip(&kinds).position(|(a, b)| a != b)
    {
        let found = describe(&types[index]);
        let expected = format!("the other kind, as `full_attention_interval` {interval} says");
        return Err(text.wrong(&format!("layer_types[{index}]"), found, expected));
    }
    Ok(kinds)
}

/// Returns as many layers as `num_hidden_layers` says, each with full attention.
pub(super) fn all_attend(text: &Fields) -> Result<Vec<LayerKind>, ConfigError> {
    let count = text.size("num_hidden_layers")?;
    if count > MAX_LAYERS {
        return Err(text.wrong("num_hidden_layers", count, format_args!("at most {MAX_LAYERS}")));
    }
    if text.boolean("use_sliding_window")? == Some(true) {
        return Err(text.unsupported("use_sliding_window", "`true`: attention in a window"));
    }
    let types = text.array("layer_types")?.unwrap_or_default();
    if let Some((index, other)) = types.iter().enumerate().find(|(_, name)| name.as_str() != Some("full_attention")) {
        return Err(text.wrong(&format!("layer_types[{index}]"), describe(other), "`full_attention`"));
    }
    Ok(vec![LayerKind::FullAttention; count])
}

fn by_interval(count: usize, interval: usize) -> Vec<LayerKind> {
    (1..=count)
        .map(
            |number| {
                if number.is_multiple_of(interval) { LayerKind::FullAttention } else { LayerKind::LinearAttention }
            },
        )
        .collect()
}
