use cotangent::{Graph, Result, Stored, Tensor};

/// A weight that is in no tree of parameters, so that no gradient would reach it.
fn layer<M: Graph>(x: &Tensor<M>, weight: &Tensor<Stored>) -> Result<Tensor<M>> {
    x.multiply(weight)
}

fn main() {}
