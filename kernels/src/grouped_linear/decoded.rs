//! Experts whose matrices are packed codes that are decoded for one product.

use cotangent::host::leaf;
use cotangent::{
    CodeFormat, CodeMode, Dtype, Frozen, Graph, Indices, Infer, Packed, Result, Stored, Tensor, VjpCase, custom_vjp,
};

use crate::decoded_matrix::decoded_matrix;

/// The values that forward and backward need in addition to rows.
#[derive(Clone)]
struct Host {
    matrices: Packed,
    counts: Indices,
}

custom_vjp! {
    /// The product with matrices that are decoded for it, and decoded again for its backward pass.
    static DECODED: Host = "grouped_packed_linear" {
        inputs: [x],
        outputs: [y],
        forward: |[x], host| {
            let weight = decode(x, host)?;
            Ok(vec![leaf(&super::grouped_linear(x, &weight, None, &host.counts)?)?])
        },
        backward: |_, [d_y], _, host| {
            let weight = decode(d_y, host)?;
            Ok(vec![leaf(&super::grouped_linear(d_y, &weight.swap_axes(1, 2)?, None, &host.counts)?)?])
        },
        cases: [case()?],
    }
}

/// The matrices in the dtype of `rows`, decoded only after these are computed. A CPU decodes at once, so the product is computed
/// at once as well, and the matrices can be freed after it.
fn decode(rows: &Tensor<Infer>, host: &Host) -> Result<Tensor<Infer>> {
    decoded_matrix(&host.matrices.after(&[rows])?, rows.dtype())
}

/// Five rows of three experts, one of which has none.
fn case() -> Result<VjpCase<Host>> {
    let values: Vec<f32> = (0..3 * 8 * 64).map(|i| (i as f32 * 0.7).sin()).collect();
    let format = CodeFormat::new(CodeMode::Affine, Some(32), Some(4))?;
    let parts = Tensor::<Stored>::from_slice(&values, &[3, 8, 64])?.quantize(format)?;
    let parts: Vec<_> = parts.into_iter().map(Frozen::new).collect();
    let matrices = Packed::new(&parts[0], &parts[1], parts.get(2), format, Dtype::F32)?;
    Ok(VjpCase::new(&[&[5, 64]], Host { matrices, counts: Indices::from_slice(&[3, 0, 2], &[3])? }))
}

/// [`grouped_packed_linear`](super::grouped_packed_linear) with the matrices decoded for one product.
pub(super) fn grouped_decoded_linear<M: Graph>(
    x: &Tensor<M>,
    matrices: &Packed,
    counts: &Indices,
) -> Result<Tensor<M>> {
    let host = Host { matrices: matrices.clone(), counts: counts.clone() };
    Ok(custom_vjp(&DECODED, &[x], &host)?.swap_remove(0))
}
