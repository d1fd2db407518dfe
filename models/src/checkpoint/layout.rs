use safetensors::Dtype;

use super::HostTensor;

/// How a checkpoint stores the two kinds of parameter on which Hugging Face and MLX differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `conv1d.weight` is `[channels, 1, kernel]`; a norm `w` scales by `1 + w`.
    HuggingFace,
    /// `conv1d.weight` is `[channels, kernel, 1]`; norms are stored as `1 + w`, in the dtype of the checkpoint. mlx-lm
    /// and mlx-vlm always change both together, so the convolution tells what the norms are.
    Mlx,
}

/// The shape under which a parameter of Hugging Face shape `expected` is stored.
pub(super) fn stored_shape(layout: Layout, canonical: &str, expected: &[usize]) -> Vec<usize> {
    match (layout, expected) {
        (Layout::Mlx, [channels, one, kernel]) if is_convolution(canonical) => vec![*channels, *kernel, *one],
        _ => expected.to_vec(),
    }
}

/// Brings a stored tensor to Hugging Face layout. Norms become f32, where `(1 + w) - 1` is exact.
pub(super) fn to_hugging_face(layout: Layout, canonical: &str, stored: HostTensor) -> HostTensor {
    if layout == Layout::HuggingFace {
        return stored;
    }
    if is_convolution(canonical) {
        // Moving an axis of extent 1 does not move any element.
        let [channels, kernel, one] = stored.shape[..] else { return stored };
        return HostTensor { shape: vec![channels, one, kernel], ..stored };
    }
    if is_zero_centred_norm(canonical)
        && let Some(values) = stored.to_f32()
    {
        let bytes = values.iter().flat_map(|value| (value - 1.0).to_le_bytes()).collect();
        return HostTensor { dtype: Dtype::F32, shape: stored.shape, bytes };
    }
    stored
}

pub(super) fn is_convolution(canonical: &str) -> bool {
    canonical.ends_with("linear_attn.conv1d.weight")
}

/// The norms that scale by `1 + w`; the gated norm of the delta net scales by `w`.
fn is_zero_centred_norm(canonical: &str) -> bool {
    canonical == "norm.weight"
        || ["input_layernorm.weight", "post_attention_layernorm.weight", "q_norm.weight", "k_norm.weight"]
            .iter()
            .any(|suffix| canonical.ends_with(suffix))
}
