use cotangent::{Plan, Storage};
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

/// The shape under which a checkpoint of this layout stores a parameter.
pub(super) fn stored_shape(layout: Layout, plan: &Plan) -> Vec<usize> {
    match (layout, plan.storage, plan.shape.as_slice()) {
        (Layout::Mlx, Storage::ChannelsLast, [channels, one, taps]) => vec![*channels, *taps, *one],
        (_, _, shape) => shape.to_vec(),
    }
}

/// Brings a stored tensor to Hugging Face layout. Norms become f32, where `(1 + w) - 1` is exact.
pub(super) fn to_hugging_face(layout: Layout, plan: &Plan, stored: HostTensor) -> HostTensor {
    match (layout, plan.storage) {
        (Layout::HuggingFace, _) | (Layout::Mlx, Storage::Plain) => stored,
        // Moving an axis of extent 1 does not move any element.
        (Layout::Mlx, Storage::ChannelsLast) => HostTensor { shape: plan.shape.clone(), ..stored },
        (Layout::Mlx, Storage::ZeroCentred) => match stored.to_f32() {
            Some(values) => {
                let bytes = values.iter().flat_map(|value| (value - 1.0).to_le_bytes()).collect();
                HostTensor { dtype: Dtype::F32, shape: stored.shape, bytes }
            }
            None => stored,
        },
    }
}
