//! The choice of the parameters that lie side by side.

use mlx_rs::{Array, Dtype as MlxDtype};

use crate::dtype::Dtype;
use crate::error::{Context as _, Result};
use crate::flat::FlatLayout;
use crate::transform::Gradients;
use crate::{Backend, backend};

/// Returns the largest number of elements of a flat array of more than one parameter. On a GPU it bounds the memory
/// that a step needs beside the state; on a CPU it keeps what is computed at once in the cache.
fn most_elements() -> Result<usize> {
    Ok(match backend()? {
        Backend::Metal | Backend::Cuda => 16 << 20,
        Backend::Cpu | Backend::Emulated => 64 << 10,
    })
}

/// The properties that parameters of one flat array share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// The dtype of the parameter.
    pub(super) dtype: Dtype,
    /// The number of the parameter's group.
    pub(super) group: usize,
    /// Whether the parameter lies beside no other.
    pub(super) alone: bool,
}

/// The layouts that hold all `gradients`, in name order, each with the number of its group; `kind` is a parameter's by
/// name. Kinds do not mix in a layout, nor do dtypes of gradients.
pub(super) fn layouts(gradients: &Gradients, kind: impl Fn(&str) -> Kind) -> Result<Vec<(usize, FlatLayout)>> {
    let most = most_elements()?;
    let mut layouts: Vec<((Kind, Dtype), FlatLayout)> = Vec::new();
    for (name, gradient) in gradients.iter() {
        let kinds = (kind(name), gradient.dtype());
        let open = layouts.iter_mut().rev().find(|(of, _)| *of == kinds && !of.0.alone);
        match open {
            Some((_, layout)) if layout.next_start() + gradient.size() <= most => layout.push(name, gradient.shape()),
            _ => layouts.push((kinds, FlatLayout::from_one(name, gradient.shape()))),
        }
    }
    Ok(layouts.into_iter().map(|((kind, _), layout)| (kind.group, layout)).collect())
}

/// The gradients of a layout's parameters, in float32.
pub(super) fn flat_gradient(layout: &FlatLayout, gradients: &Gradients) -> Result<Array> {
    let flat = layout.join(|piece| {
        let gradient = gradients.get(&piece.name).expect("a layout is made of gradients that are there");
        Ok(gradient.array().clone())
    })?;
    flat.as_dtype(MlxDtype::Float32).during("flatten")
}
