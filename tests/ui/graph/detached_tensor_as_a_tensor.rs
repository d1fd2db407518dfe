use cotangent::{Graph, Result, Tensor};

/// Would stop the gradient of what is computed from `x` later on, unseen by its caller.
fn layer<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    Ok(x.detach("the caller will not notice"))
}

fn main() {}
