use cotangent::{Graph, Result, Tensor};

fn layer<M: Graph>(x: &Tensor<M>, mean: &Tensor<M>) -> Result<Tensor<M>> {
    x.subtract(&mean.detach())
}

fn main() {}
