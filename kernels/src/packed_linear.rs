//! A linear layer whose matrix is packed codes, with or without a low-rank adapter.
//!
//! Codes never train, so the backward computes only the gradients of the inputs and of the adapter. Where the product
//! reads a decoded matrix, the matrix is in memory for that one product, and is decoded again in the backward.

use cotangent::host::leaf;
use cotangent::{
    Backend, CodeFormat, CodeMode, Constant, Dtype, Error, Frozen, Graph, Infer, Packed, Result, Stored, Tensor,
    VjpCase, custom_vjp,
};

use crate::decoded_matrix::decoded_matrix;

const OPERATION: &str = "packed_linear";

/// The values that forward and backward need in addition to tensors.
#[derive(Clone)]
struct Host {
    matrix: Packed,
    /// The adapter's multiplier; without an adapter nothing.
    scale: f32,
    wants_d_x: bool,
}

custom_vjp! {
    /// The product with codes, and what an adapter adds to it.
    static OF_CODES: Host = "packed_linear" {
        inputs: [x],
        optional: [lora_a, lora_b],
        outputs: [y],
        forward: forward,
        backward: backward,
        cases: [
            case(&[&[3, 64]], true)?,
            case(&[&[5, 64], &[64, 2], &[2, 8]], true)?,
            case(&[&[2, 64], &[64, 3], &[3, 8]], false)?.of_inputs(&["lora_a", "lora_b"]),
        ],
    }
}

/// A case of inputs of these shapes.
fn case(shapes: &[&[i32]], wants_d_x: bool) -> Result<VjpCase<Host>> {
    Ok(VjpCase::new(shapes, Host { matrix: example()?, scale: 0.7, wants_d_x }))
}

/// Codes of a matrix `[8, 64]`, to test with.
pub(crate) fn example() -> Result<Packed> {
    let values: Vec<f32> = (0..8 * 64).map(|i| (i as f32 * 0.7).sin()).collect();
    let format = CodeFormat::new(CodeMode::Affine, Some(32), Some(4))?;
    let parts = Tensor::<Stored>::from_slice(&values, &[8, 64])?.quantize(format)?;
    let parts: Vec<_> = parts.into_iter().map(Frozen::new).collect();
    Packed::new(&parts[0], &parts[1], parts.get(2), format, Dtype::F32)
}

/// `x W^T`, plus `scale (x A) B` if there is an adapter: inputs `[.., I]`, codes of a matrix `W` `[O, I]`, `A` `[I, R]` and `B`
/// `[R, O]` of any float dtype, to `[.., O]` in the dtype of `x`.
///
/// # Errors
/// Shapes that do not fit.
pub fn packed_linear<M: Graph>(
    x: &Tensor<M>,
    matrix: &Packed,
    adapter: Option<([&Tensor<M>; 2], f32)>,
) -> Result<Tensor<M>> {
    let (rows, columns) = (matrix.rows(), matrix.columns());
    let Some((&inputs, outer)) = x.shape().split_last().filter(|(inputs, _)| **inputs == columns) else {
        let found = format!("{:?} and {matrix:?}", x.shape());
        return Err(Error::Shape { operation: OPERATION, found, expected: format!("[.., {columns}]") });
    };
    let shape = [outer, &[rows]].concat();
    let flat = x.reshape(&[outer.iter().product(), inputs])?;
    let host =
        Host { matrix: matrix.clone(), scale: adapter.map_or(0.0, |(_, scale)| scale), wants_d_x: x.needs_gradient() };
    let factors = match adapter {
        Some((factors, _)) => factors.into_iter().map(|factor| factor.cast(x.dtype())).collect::<Result<Vec<_>>>()?,
        None => Vec::new(),
    };
    let inputs: Vec<&Tensor<M>> = [&flat].into_iter().chain(&factors).collect();
    custom_vjp(&OF_CODES, &inputs, &host)?.swap_remove(0).reshape(&shape)
}

/// The product, and `x A` where there is an adapter.
fn forward([x]: [&Tensor<Infer>; 1], adapter: Option<[&Tensor<Infer>; 2]>, host: &Host) -> Result<Vec<Tensor<Infer>>> {
    let y = product(x, &host.matrix, true)?;
    let Some([a, b]) = adapter else { return Ok(vec![y]) };
    let down = x.matmul(a)?;
    Ok(vec![y.add_product(&down, b, host.scale)?, down])
}

/// Computes the gradients. With d = d_y B^T: d_x = d_y W + scale d A^T, d_A = scale x^T d, d_B = scale (x A)^T d_y.
fn backward(
    [x]: [&Tensor<Infer>; 1],
    adapter: Option<[&Tensor<Infer>; 2]>,
    [d_y]: [&Tensor<Infer>; 1],
    outputs: &[Tensor<Infer>],
    host: &Host,
) -> Result<Vec<Tensor<Infer>>> {
    let d_x = match host.wants_d_x {
        true => product(d_y, &host.matrix, false)?,
        false => Constant::full(x.shape(), 0.0, x.dtype())?.to_tensor(),
    };
    let (Some([a, b]), [_, down]) = (adapter, outputs) else { return Ok(vec![d_x]) };
    let d_down = d_y.matmul(&b.swap_axes(0, 1)?)?;
    let d_x = if host.wants_d_x { d_x.add_product(&d_down, &a.swap_axes(0, 1)?, host.scale)? } else { d_x };
    let d_a = x.swap_axes(0, 1)?.scaled_product(&d_down, host.scale, a)?;
    let d_b = down.swap_axes(0, 1)?.scaled_product(d_y, host.scale, b)?;
    Ok(vec![d_x, d_a, d_b])
}

/// `x W^T`, or `x W` if `transposed` is false, of rows: in the dtype of `x`, in the way that is fastest here.
pub(crate) fn product(x: &Tensor<Infer>, matrix: &Packed, transposed: bool) -> Result<Tensor<Infer>> {
    if multiplies_codes(cotangent::backend()?, x.dimension(0), x.dtype(), matrix, transposed) {
        return x.multiply_codes(matrix, transposed);
    }
    let decoded = decoded_matrix(&matrix.after(&[x])?, x.dtype())?;
    // A CPU decodes at once, so the product is computed at once as well, and the matrix can be freed after it.
    leaf(&if transposed { x.linear(&decoded) } else { x.matmul(&decoded) }?)
}

/// Rows up to which a GPU reads codes: then a product is bound by the bytes of its matrix.
const FEW_ROWS: i32 = 8;

/// Returns whether a product reads the codes as they lie, or the matrix decoded for this one product.
///
/// Measured with MLX 0.32.2 (`docs/performance.md`; `code_times` measures a CPU again). For many rows a GPU decodes and
/// multiplies three to four times as fast, in both directions. MLX's products of codes lack sizes on CUDA, and are wrong on
/// Metal where the inner length of a float format is no multiple of 32: those are decoded.
///
/// On a CPU of two cores, milliseconds of a product and of its gradient, 256 rows and a matrix of 1024 x 1024 in float32:
///
/// | codes | read as they lie | decoded by `host`, and multiplied |
/// |---|---:|---:|
/// | affine, 2 bits | 397, 237 | 8, 8 |
/// | affine, 3 to 6 bits | 742 to 1138, 326 to 1623 | 32 to 92, 35 to 73 |
/// | affine, 8 bits | 824, 207 | 42, 38 |
/// | mxfp4, nvfp4 | 508, 580; 380, 535 | 51, 49; 33, 69 |
/// | mxfp8 | 3688, 3392 | 49, 44 |
///
/// A single row takes 1 to 4 ms either way, but 13 ms with the codes of mxfp8; codes need no room for the matrix. In 16 bits
/// their sums are wrong by several percent. In the emulator a kernel decodes, which takes longer than MLX's product.
pub(crate) fn multiplies_codes(backend: Backend, rows: i32, dtype: Dtype, matrix: &Packed, transposed: bool) -> bool {
    let mode = matrix.format().mode();
    let reads_well = dtype == Dtype::F32 && mode != CodeMode::Mxfp8;
    match backend {
        Backend::Cpu => reads_well && transposed && rows == 1,
        Backend::Emulated => reads_well,
        Backend::Metal | Backend::Cuda => {
            let whole = matrix.columns() % 64 == 0 && matrix.rows() % 64 == 0;
            transposed && mode == CodeMode::Affine && whole && rows <= FEW_ROWS
        }
    }
}
