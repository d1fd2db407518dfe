use cotangent::{Graph, Result, Tensor, differentiable};

#[differentiable(fallback = by_operations, cases = [(B = 3, D = 2)])]
pub fn moments(x: In![f32; B, D], mean: Out![f32; B], square: Out![f32; B]) {
    Ok(Outputs { mean: x.sum(&[1])? })
}

fn by_operations<M: Graph>(x: &Tensor<M>) -> Result<MomentsOutputs<M>> {
    Ok(MomentsOutputs { mean: x.sum(&[1])?, square: x.square()?.sum(&[1])? })
}

fn main() {}
