use cotangent::{Graph, Result, Tensor};

struct Array;

fn layer<M: Graph>(x: &Tensor<M>, raw: &Array) -> Result<Tensor<M>> {
    x.multiply(raw)
}

fn main() {}
