use cotangent::{Graph, Indices, Result, Tensor, differentiable};

/// Three mistakes, none of which a model below is blamed for.
#[differentiable(fallback = by_operations, cases = [(B = 3, N = 5)])]
pub fn gathered(x: In![f33; B, N], rows: Int![i32; B], by: f32, y: Out![float; B, N]) {
    Ok(Outputs { y: x.take_rows(rows)?.multiply(by)? })
}

fn by_operations<M: Graph>(x: &Tensor<M>, rows: &Indices, by: f32) -> Result<Tensor<M>> {
    x.take_rows(rows)?.multiply(by)
}

pub fn layer<M: Graph>(x: &Tensor<M>, rows: &Indices) -> Result<Tensor<M>> {
    gathered(x, rows, 2.0)?.multiply(x)
}

fn main() {}
