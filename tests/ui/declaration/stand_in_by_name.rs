use cotangent::{Graph, Indices, Result, Tensor, differentiable};

/// Two mistakes, of which neither the fallback nor a model below is blamed.
#[differentiable(fallback = by_operations, cases = [(B = 3, N = 5)])]
pub fn gathered(
    x: In![f33; B, N],
    rows: Int![i32; B],
    offset: In![f32; B, N],
    scale: Option<In![f32; N]>,
    by: f32,
    y: Out![f32; B, N],
) {
    Ok(Outputs { y: by_operations(GatheredInputs { x, rows, offset, scale, by })? })
}

fn by_operations<M: Graph>(inputs: GatheredInputs<'_, M>) -> Result<Tensor<M>> {
    let y = inputs.x.take_rows(inputs.rows)?.add(inputs.offset)?.multiply(inputs.by)?;
    if let Some(scale) = inputs.scale { y.multiply(scale) } else { Ok(y) }
}

pub fn layer<M: Graph>(x: &Tensor<M>, rows: &Indices) -> Result<Tensor<M>> {
    gathered(GatheredInputs { x, rows, offset: x, scale: None, by: 2.0 })
}

fn main() {}
