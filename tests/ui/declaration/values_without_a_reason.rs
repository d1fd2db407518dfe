use cotangent::{Graph, Result, Tensor, differentiable};

#[differentiable(fallback = by_operations, cases = [(N = 3)])]
pub fn logarithm(#[values(0.5..2.0, only = "")] x: In![f32; N], y: Out![f32; N]) {
    Ok(Outputs { y: x.log()? })
}

fn by_operations<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    x.log()
}

fn main() {}
