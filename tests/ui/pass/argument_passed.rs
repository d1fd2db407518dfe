use cotangent::{Graph, Indices, Result, Tensor, differentiable};

#[differentiable(fallback = by_operations, cases = [(B = 3, V = 4, D = 2)])]
pub fn embed(#[values(0..V)] rows: In![i32; B], table: In![f32; V, D], scale: f32, y: Out![f32; B, D]) {
    Ok(Outputs { y: table.take_rows(rows)?.multiply(scale)? })
}

fn by_operations<M: Graph>(rows: &Indices, table: &Tensor<M>, scale: f32) -> Result<Tensor<M>> {
    table.take_rows(rows)?.multiply(scale)
}

fn layer<M: Graph>(rows: &Indices, table: &Tensor<M>) -> Result<Tensor<M>> {
    embed(rows, table, 1.0)
}

pub fn main() {
    let _ = layer::<cotangent::Train>;
}
