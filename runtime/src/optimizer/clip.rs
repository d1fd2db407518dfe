//! The norm of all gradients together.

use mlx_rs::Array;

use crate::error::{Context as _, Result};
use crate::tensor::{Origin, Tensor};
use crate::transform::Gradients;
use crate::{Stored, ffi};

/// `sqrt` of the sum of squares of all elements, float32, summed in name order: the same bits in every run.
///
/// # Errors
/// [`Error::Mlx`](crate::Error::Mlx) if MLX refuses.
pub fn global_norm(gradients: &Gradients) -> Result<Tensor<Stored>> {
    let norm = global_norm_array(gradients)?;
    ffi::evaluate("global_norm", [&norm])?;
    Ok(Tensor::from_parts(norm, Origin::HOST))
}

/// Not evaluated: nothing waits for it in the middle of a step.
pub(super) fn global_norm_array(gradients: &Gradients) -> Result<Array> {
    let operation = "global_norm";
    let mut total = Array::from_f32(0.0);
    for gradient in gradients.arrays() {
        let gradient = gradient.as_dtype(mlx_rs::Dtype::Float32).during(operation)?;
        total = total.add(gradient.square().during(operation)?.sum(false).during(operation)?).during(operation)?;
    }
    total.sqrt().during(operation)
}
