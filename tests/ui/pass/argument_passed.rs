use cotangent::{Graph, Indices, Result, Tensor, differentiable};

#[differentiable(fallback = by_operations, cases = [(B = 3, V = 4, D = 2)])]
pub fn embed(
    #[values(0..V)] rows: In![i32; B],
    table: In![f32; V, D],
    offset: In![f32; B, D],
    scale: Option<In![f32; D]>,
    y: Out![f32; B, D],
) {
    Ok(Outputs { y: by_operations(EmbedInputs { rows, table, offset, scale })? })
}

fn by_operations<M: Graph>(inputs: EmbedInputs<'_, M>) -> Result<Tensor<M>> {
    let rows = inputs.table.take_rows(inputs.rows)?.add(inputs.offset)?;
    if let Some(scale) = inputs.scale { rows.multiply(scale) } else { Ok(rows) }
}

fn layer<M: Graph>(rows: &Indices, table: &Tensor<M>, offset: &Tensor<M>) -> Result<Tensor<M>> {
    embed(EmbedInputs { rows, table, offset, scale: None })
}

pub fn main() {
    let _ = layer::<cotangent::Train>;
}
