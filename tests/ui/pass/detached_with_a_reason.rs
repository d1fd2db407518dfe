use cotangent::{Constant, Graph, Result, Tensor, differentiable};

#[differentiable(fallback = by_operations, cases = [(N = 3)])]
pub fn shift(x: In![f32; N], #[nodiff] by: In![f32; N], y: Out![f32; N]) {
    Ok(Outputs { y: x.add(by)? })
}

fn by_operations<M: Graph>(x: &Tensor<M>, by: &Constant) -> Result<Tensor<M>> {
    x.add(by)
}

fn layer<M: Graph>(x: &Tensor<M>, learned: &Tensor<M>) -> Result<Tensor<M>> {
    shift(x, &learned.detach("the shift is a running mean, not a parameter"))
}

pub fn main() {
    let _ = layer::<cotangent::Train>;
}
