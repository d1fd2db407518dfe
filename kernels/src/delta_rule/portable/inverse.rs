//! The inverse of unit lower triangular matrices.

use cotangent::{Infer, Result, Tensor};

use super::constants::where_holds;

/// `(I - L)^-1` where L is what `[.., C, C]` holds below the diagonal; the rest is never read. C is a power of two.
///
/// Forward substitution in blocks that double, all blocks of a size at once: with M the inverse of the blocks on the
/// diagonal, those of twice the size have the inverse `M + M L' M`, where L' joins two blocks to one. The product
/// `(I + L)(I + L^2)(I + L^4)..` is no alternative: with similar keys its powers grow beyond float32 before they cancel.
pub(super) fn unit_lower_inverse(matrices: &Tensor<Infer>) -> Result<Tensor<Infer>> {
    let length = matrices.dimension(-1);
    let joining = |size: i32| {
        matrices.multiply(&where_holds(length, length, |row, column| {
            // The element is in an odd block of rows and in the even block of columns before it.
            row / size % 2 == 1 && row / size == column / size + 1
        })?)
    };
    let identity = where_holds(length, length, |row, column| row == column)?;
    let mut inverse = joining(1)?.add(&identity)?;
    let mut size = 2;
    while size < length {
        inverse = inverse.add(&inverse.matmul(&joining(size)?.matmul(&inverse)?)?)?;
        size *= 2;
    }
    Ok(inverse)
}

#[cfg(test)]
mod tests {
    use cotangent::{Session, Stored};

    use super::*;

    /// `-beta k_i . k_j` for unit keys of this cosine, in every entry: what is not below the diagonal must not matter.
    fn similar_keys(length: usize, cosine: f64, beta: f64) -> Vec<f64> {
        vec![-beta * cosine; length * length]
    }

    /// Inverts by the definition, column by column, in float64.
    fn substituted(lower: &[f64], length: usize) -> Vec<f64> {
        let mut inverse = vec![0.0; length * length];
        for column in 0..length {
            inverse[column * length + column] = 1.0;
            for row in column + 1..length {
                let sum = (column..row).map(|k| lower[row * length + k] * inverse[k * length + column]).sum();
                inverse[row * length + column] = sum;
            }
        }
        inverse
    }

    fn inverted(lower: &[f64], length: usize) -> Vec<f32> {
        let values: Vec<f32> = lower.iter().map(|&value| value as f32).collect();
        let matrices = Tensor::<Stored>::from_slice(&values, &[1, length as i32, length as i32]).unwrap();
        let mut session = Session::new().unwrap();
        let inverse = session.infer(&matrices, &matrices, &(), |matrices, _, ()| unit_lower_inverse(matrices)).unwrap();
        inverse.to_vec().unwrap()
    }

    #[test]
    fn similar_keys_cost_no_digits() {
        for length in [8, 16, 32, 64] {
            for (cosine, beta) in [(0.0, 0.5), (0.5, 0.5), (0.9, 0.9), (1.0, 0.99)] {
                let lower = similar_keys(length, cosine, beta);
                let expected = substituted(&lower, length);
                for (found, expected) in inverted(&lower, length).iter().zip(expected) {
                    let difference = (f64::from(*found) - expected).abs();
                    assert!(difference <= 1e-6, "length {length}, cosine {cosine}, beta {beta}: {difference:e}");
                }
            }
        }
    }
}
