//! Matrices of zeros and ones.

use cotangent::{Constant, Infer, Result, Tensor};

/// One at the rows and columns that `holds` picks, else zero: `[rows, columns]`.
pub(super) fn where_holds(rows: i32, columns: i32, holds: impl Fn(i32, i32) -> bool) -> Result<Tensor<Infer>> {
    let values: Vec<f32> = (0..rows)
        .flat_map(|row| (0..columns).map(move |column| (row, column)))
        .map(|(row, column)| if holds(row, column) { 1.0 } else { 0.0 })
        .collect();
    Ok(Constant::from_slice(&values, &[rows, columns])?.to_tensor())
}
