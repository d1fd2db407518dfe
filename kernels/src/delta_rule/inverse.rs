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
            // An odd block of rows, and the even block of columns before it.
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
