use cotangent::{Graph, Indices, Result, Tensor};

fn weigh<M: Graph>(x: &Tensor<M>, chosen: &Indices) -> Result<Tensor<M>> {
    x.multiply(chosen)
}

fn main() {}
