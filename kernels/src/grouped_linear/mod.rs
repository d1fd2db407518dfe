//! Linear layers of many experts, each for the rows that chose it.
//!
//! Rows are sorted by expert, so that an expert's rows are one block, and counts give the number of rows of each. The
//! counts may be computed on the device: nothing here waits for them. If they add up to more than the number of rows,
//! the last experts have none; rows beyond their sum give 0.

mod blocks;
mod coded_product;
mod decoded;
mod product;
mod shares;
mod weight_gradient;

use cotangent::{Backend, CodeMode, Error, Graph, Indices, Packed, Result, Tensor};

pub use blocks::Blocks;
pub use coded_product::{GroupedCodedProductInputs, grouped_coded_product, grouped_coded_product_backward};
pub use product::{grouped_product, grouped_product_backward};

/// `y = x W_e^T` for the rows of each expert `e`: rows `[R, K]`, sorted by expert, and weights `[E, N, K]` of the same dtype give
/// `[R, N]`. `counts` `[E]`, int32, says how many rows each expert has: [`Indices::occurrences`] of the experts' numbers.
///
/// Adapters `[E, rank, K]` and `[E, N, rank]` are such weights too. A weight that does not train costs no gradient.
///
/// # Errors
/// Shapes or dtypes that do not fit; no row, no expert.
pub fn grouped_linear<M: Graph>(x: &Tensor<M>, weight: &Tensor<M>, counts: &Indices) -> Result<Tensor<M>> {
    check(x, weight.shape(), counts)?;
    let Blocks { rows, columns, depth } = Blocks::new(cotangent::backend()?, x.dtype(), weight.dimension(1));
    grouped_product(x, weight, counts, rows, columns, depth)
}

/// [`grouped_linear`] with weights that are packed codes, `E` matrices `[N, K]`: codes never train, so that `x` alone has a
/// gradient.
///
/// GPUs decode affine codes of 4 and 8 bits as they multiply. All others are decoded for one product.
///
/// # Errors
/// As [`grouped_linear`].
pub fn grouped_packed_linear<M: Graph>(x: &Tensor<M>, matrices: &Packed, counts: &Indices) -> Result<Tensor<M>> {
    let stack = matrices.matrices().map_or(Vec::new(), |count| vec![count, matrices.rows(), matrices.columns()]);
    check(x, &stack, counts)?;
    let (backend, format) = (cotangent::backend()?, matrices.format());
    if backend == Backend::Cpu || format.mode() != CodeMode::Affine || ![4, 8].contains(&format.bits()) {
        return decoded::grouped_decoded_linear(x, matrices, counts);
    }
    let (codes, scales, biases) = matrices.parts()?;
    let (scales, biases) = (scales.cast(x.dtype())?, biases.cast(x.dtype())?);
    let Blocks { rows, columns, depth } = Blocks::new(backend, x.dtype(), matrices.rows()).for_codes();
    let (group, bits) = (format.group_size(), format.bits());
    grouped_coded_product(GroupedCodedProductInputs {
        x,
        codes: &codes,
        scales: &scales,
        biases: &biases,
        counts,
        group,
        bits,
        rows,
        columns,
        depth,
    })
}

/// Checks rows, a stack of matrices `[E, N, K]` and counts against each other.
fn check<M: Graph>(x: &Tensor<M>, stack: &[i32], counts: &Indices) -> Result<()> {
    let fits = matches!((x.shape(), stack, counts.shape()), ([rows, inputs], [experts, outputs, columns], [counted])
        if inputs == columns && experts == counted && rows.min(outputs).min(inputs).min(experts) > &0);
    if fits {
        return Ok(());
    }
    Err(Error::Shape {
        operation: "grouped_linear",
        found: format!("{:?}, weights {stack:?}, counts {:?}", x.shape(), counts.shape()),
        expected: "[R, K], [E, N, K] and [E], of which nothing is 0".into(),
    })
}
