//! How far results of a timed function are from those of another way.

use cotangent::{Dtype, Result, Stored, Tensor};

/// The largest deviation over the largest magnitude.
///
/// # Errors
/// If values cannot be read.
pub fn deviation(found: &Tensor<Stored>, expected: &Tensor<Stored>) -> Result<f64> {
    let values = |x: &Tensor<Stored>| x.cast(Dtype::F32)?.to_vec::<f32>();
    let (found, expected) = (values(found)?, values(expected)?);
    let largest = expected.iter().fold(1e-30_f32, |largest, value| largest.max(value.abs()));
    let worst = found.iter().zip(&expected).fold(0.0_f32, |worst, (found, expected)| {
        let difference = (found - expected).abs();
        if difference.is_nan() || difference > worst { difference } else { worst }
    });
    Ok(f64::from(worst) / f64::from(largest))
}
