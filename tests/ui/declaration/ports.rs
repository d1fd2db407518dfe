use cotangent::{Graph, Result, Tensor, differentiable};

#[differentiable(fallback = by_operations, cases = [(N = 3)])]
pub fn everything_wrong<T: Number, const K: f32>(
    x: In![T; N, n],
    plain: Vec<f32>,
    #[nodiff] indices: In![i32; N],
    #[saved] kept: In![f32; N],
    #[nodiff] #[nodiff] twice: In![f32; N],
    #[scaled] #[values(0.0..1.0)] by: f32,
    y: Out![f33; N],
    z: Out![f32; N, M],
    z: Out![f32; N],
) -> Tensor<M> {
    Ok(Outputs { y: x, z: kept, indices, twice })
}

fn by_operations<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    x.multiply(2.0)
}

fn main() {}
