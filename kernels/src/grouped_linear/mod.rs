//! Linear layers of many experts, each for the rows that chose it.
//!
//! Rows are sorted by expert, so that an expert's rows are one block, and counts give the number of rows of each. The
//! counts may be computed on the device: nothing here waits for them. If they add up to more than the number of rows,
//! the last experts have none; rows beyond their sum give 0.

mod adapter;
mod blocks;
mod coded_product;
mod decoded;
mod product;
mod shares;
mod weight_gradient;

use cotangent::{Backend, CodeMode, Error, Graph, Indices, Packed, Result, Tensor};

pub use blocks::Blocks;
pub use coded_product::{GroupedCodedProductInputs, grouped_coded_product, grouped_coded_product_backward};
pub use product::{GroupedProductInputs, grouped_product, grouped_product_backward};

/// The rank that kernels without adapters get; nothing depends on it.
const NO_RANK: usize = 8;

/// `y = x W_e^T` for the rows of each expert `e`, plus `scale (x A_e^T) B_e^T` if there are adapters: rows `[R, K]`, sorted by expert, and
/// weights `[E, N, K]` of the same dtype give `[R, N]`. `counts` `[E]`, int32, says how many rows each expert has:
/// [`Indices::occurrences`] of the experts' numbers.
///
/// Adapters are `A` `[E, rank, K]`, `B` `[E, N, rank]`, both of any float dtype, and their scale. A weight that does not train
/// costs no gradient.
///
/// # Errors
/// Shapes or dtypes that do not fit; no row, no expert.
pub fn grouped_linear<M: Graph>(
    x: &Tensor<M>,
    weight: &Tensor<M>,
    adapter: Option<([&Tensor<M>; 2], f32)>,
    counts: &Indices,
) -> Result<Tensor<M>> {
    check(x, weight.shape(), counts)?;
    let Blocks { rows, columns, depth } = Blocks::new(cotangent::backend()?, x.dtype(), weight.dimension(1));
    let Cast { lora_a, lora_b, scale, rank } = Cast::new(x, adapter)?;
    let (lora_a, lora_b) = (lora_a.as_ref(), lora_b.as_ref());
    grouped_product(GroupedProductInputs { x, weight, lora_a, lora_b, counts, scale, rank, rows, columns, depth })
}

/// [`grouped_linear`] with weights that are packed codes, `E` matrices `[N, K]`: codes never train, so only `x` and the adapters
/// have gradients.
///
/// GPUs decode affine codes of 4 and 8 bits as they multiply. All others are decoded for one product.
///
/// # Errors
/// As [`grouped_linear`].
pub fn grouped_packed_linear<M: Graph>(
    x: &Tensor<M>,
    matrices: &Packed,
    adapter: Option<([&Tensor<M>; 2], f32)>,
    counts: &Indices,
) -> Result<Tensor<M>> {
    let stack = matrices.matrices().map_or(Vec::new(), |count| vec![count, matrices.rows(), matrices.columns()]);
    check(x, &stack, counts)?;
    let (backend, format) = (cotangent::backend()?, matrices.format());
    let Cast { lora_a, lora_b, scale, rank } = Cast::new(x, adapter)?;
    if backend == Backend::Cpu || format.mode() != CodeMode::Affine || ![4, 8].contains(&format.bits()) {
        let y = decoded::grouped_decoded_linear(x, matrices, counts)?;
        let (Some(lora_a), Some(lora_b)) = (lora_a, lora_b) else { return Ok(y) };
        let low = grouped_linear(x, &lora_a, None, counts)?.multiply(scale)?;
        return y.add(&grouped_linear(&low, &lora_b, None, counts)?);
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
        lora_a: lora_a.as_ref(),
        lora_b: lora_b.as_ref(),
        counts,
        scale,
        group,
        bits,
        rank,
        rows,
        columns,
        depth,
    })
}

/// Adapters in the dtype of the rows, or none.
struct Cast<M: Graph> {
    lora_a: Option<Tensor<M>>,
    lora_b: Option<Tensor<M>>,
    scale: f32,
    rank: usize,
}

impl<M: Graph> Cast<M> {
    fn new(x: &Tensor<M>, adapter: Option<([&Tensor<M>; 2], f32)>) -> Result<Self> {
        let Some(([lora_a, lora_b], scale)) = adapter else {
            return Ok(Cast { lora_a: None, lora_b: None, scale: 0.0, rank: NO_RANK });
        };
        let rank = lora_a.shape().get(1).map_or(NO_RANK, |rank| *rank as usize);
        Ok(Cast { lora_a: Some(lora_a.cast(x.dtype())?), lora_b: Some(lora_b.cast(x.dtype())?), scale, rank })
    }
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
