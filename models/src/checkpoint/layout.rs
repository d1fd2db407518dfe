//! The layouts of Hugging Face and MLX, and the way from the one to the other.

use cotangent::{Plan, Storage};
use safetensors::Dtype;

use super::HostTensor;

/// The way in which a checkpoint stores the two kinds of parameter on which Hugging Face and MLX differ.
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

/// Returns whether a checkpoint of this layout may store a parameter under this shape.
pub(super) fn is_stored_shape(layout: Layout, plan: &Plan, found: &[usize]) -> bool {
    found == stored_shape(layout, plan) || plan.storage == Storage::PixelsLast && found == pixels_last(&plan.shape)
}

/// `[channels, 3, ..]` as `[channels, .., 3]`.
fn pixels_last(shape: &[usize]) -> Vec<usize> {
    let [channels, colors, inner @ ..] = shape else { return shape.to_vec() };
    [*channels].into_iter().chain(inner.iter().copied()).chain([*colors]).collect()
}

/// Brings a stored tensor to Hugging Face layout. Norms become f32, where `(1 + w) - 1` is exact.
pub(super) fn to_hugging_face(layout: Layout, plan: &Plan, stored: HostTensor) -> HostTensor {
    match (layout, plan.storage) {
        (_, Storage::PixelsLast) if stored.shape != plan.shape => colors_first(plan, &stored),
        (Layout::HuggingFace, _) | (Layout::Mlx, Storage::Plain | Storage::PixelsLast) => stored,
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

/// The shape under which MLX's converters store a parameter.
pub fn mlx_shape(plan: &Plan) -> Vec<usize> {
    match plan.storage {
        Storage::PixelsLast => pixels_last(&plan.shape),
        _ => stored_shape(Layout::Mlx, plan),
    }
}

/// Brings a tensor of Hugging Face's layout to that of MLX's converters. Norms become f32.
pub fn to_mlx(plan: &Plan, tensor: HostTensor) -> HostTensor {
    match plan.storage {
        Storage::Plain => tensor,
        Storage::ChannelsLast => HostTensor { shape: mlx_shape(plan), ..tensor },
        Storage::PixelsLast => colors_last(plan, &tensor),
        Storage::ZeroCentred => match tensor.to_f32() {
            Some(values) => {
                let shifted: Vec<f32> = values.iter().map(|value| value + 1.0).collect();
                HostTensor::from_f32(&tensor.shape, &shifted)
            }
            None => tensor,
        },
    }
}

/// Moves the second axis of `[channels, 3, ..]` to the end.
fn colors_last(plan: &Plan, tensor: &HostTensor) -> HostTensor {
    let (colors, inner) = (plan.shape[1], plan.shape[2..].iter().product::<usize>());
    let size = tensor.bytes.len() / plan.size().max(1);
    let mut bytes = Vec::with_capacity(tensor.bytes.len());
    for filter in tensor.bytes.chunks_exact(inner * colors * size) {
        for pixel in 0..inner {
            for color in filter.chunks_exact(inner * size) {
                bytes.extend_from_slice(&color[pixel * size..(pixel + 1) * size]);
            }
        }
    }
    HostTensor { dtype: tensor.dtype, shape: pixels_last(&plan.shape), bytes }
}

/// Moves the last axis of `[channels, .., 3]` behind the first.
fn colors_first(plan: &Plan, stored: &HostTensor) -> HostTensor {
    let (colors, inner) = (plan.shape[1], plan.shape[2..].iter().product::<usize>());
    let size = stored.bytes.len() / plan.size().max(1);
    let mut bytes = Vec::with_capacity(stored.bytes.len());
    for filter in stored.bytes.chunks_exact(inner * colors * size) {
        for color in 0..colors {
            for pixel in filter.chunks_exact(colors * size) {
                bytes.extend_from_slice(&pixel[color * size..(color + 1) * size]);
            }
        }
    }
    HostTensor { dtype: stored.dtype, shape: plan.shape.clone(), bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_over_pixels_are_told_by_their_shape() {
        let plan = Plan { shape: vec![2, 3, 1, 1, 2], dtype: cotangent::Dtype::F32, storage: Storage::PixelsLast };
        let values: Vec<f32> = (0..12).map(|value| value as f32).collect();
        // MLX stores the pixels first, then the colours.
        let stored = HostTensor::from_f32(&[2, 1, 1, 2, 3], &values);
        for layout in [Layout::HuggingFace, Layout::Mlx] {
            assert!(
                is_stored_shape(layout, &plan, &[2, 1, 1, 2, 3]) && is_stored_shape(layout, &plan, &[2, 3, 1, 1, 2])
            );
            assert!(!is_stored_shape(layout, &plan, &[2, 1, 3, 1, 2]));
            let found = to_hugging_face(layout, &plan, stored.clone());
            assert_eq!(found.shape, plan.shape);
            assert_eq!(found.to_f32().unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0, 6.0, 9.0, 7.0, 10.0, 8.0, 11.0]);
            assert_eq!(to_mlx(&plan, found), stored);
            let same = HostTensor::from_f32(&plan.shape, &values);
            assert_eq!(to_hugging_face(layout, &plan, same.clone()).bytes, same.bytes);
        }
    }
}
