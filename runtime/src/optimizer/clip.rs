//! The norm of all gradients together.

use mlx_rs::Array;

use crate::error::{Context as _, Result};
use crate::flat::FlatLayout;
use crate::in_flight::InFlight;
use crate::tensor::{Origin, Tensor};
use crate::transform::Gradients;
use crate::{Dtype, Stored, ffi};

use super::layouts::{Kind, flat_gradient, layouts};

const OPERATION: &str = "global_norm";

/// `sqrt` of the sum of squares of all elements, float32, summed in name order: the same bits in every run.
///
/// # Errors
/// [`Error::Mlx`](crate::Error::Mlx) if MLX refuses.
pub fn global_norm(gradients: &Gradients) -> Result<Tensor<Stored>> {
    let layouts = layouts(gradients, |_| Kind { dtype: Dtype::F32, group: 0, alone: false })?;
    let (norm, _) = norm_and_last(layouts.iter().map(|(_, layout)| layout), gradients)?;
    ffi::evaluate(OPERATION, [&norm])?;
    Ok(Tensor::from_parts(norm, Origin::HOST))
}

/// Returns the norm, without waiting for it, and the flat gradients of the last layout. Those of the others are dropped, because
/// otherwise all gradients would be in memory twice.
pub(super) fn norm_and_last<'a>(
    layouts: impl IntoIterator<Item = &'a FlatLayout>,
    gradients: &Gradients,
) -> Result<(Array, Option<Array>)> {
    let mut in_flight = InFlight::new(OPERATION);
    let mut total = Array::from_f32(0.0);
    let mut last = None;
    for layout in layouts {
        let gradient = flat_gradient(layout, gradients)?;
        total = total.add(sum_of_squares(&gradient).during(OPERATION)?).during(OPERATION)?;
        in_flight.start(vec![total.clone()])?;
        last = Some(gradient);
    }
    Ok((total.sqrt().during(OPERATION)?, last))
}

/// Returns the sum of the squares of a flat array. On a CPU, MLX adds one number after the other, and the sum of many
/// soon becomes so large that the rest is lost in rounding. So blocks are added first, then blocks of their sums, until
/// one is left.
fn sum_of_squares(flat: &Array) -> mlx_rs::error::Result<Array> {
    const BLOCK: i32 = 256;
    let mut sums = flat.square()?;
    while sums.size() > BLOCK as usize {
        let length = sums.size() as i32;
        let missing = (-length).rem_euclid(BLOCK);
        if missing != 0 {
            let zeros = mlx_rs::ops::broadcast_to(Array::from_f32(0.0), &[missing])?;
            sums = mlx_rs::ops::concatenate(&[sums, zeros], 0)?;
        }
        sums = sums.reshape(&[-1, BLOCK])?.sum_axis(1, false)?;
    }
    sums.sum(false)
}
