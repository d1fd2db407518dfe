use cotangent::{Graph, Result, Tensor};
use mlx_rs::Array;

/// `cotangent` does not hand MLX on, and a crate of models does not depend on it.
fn layer<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    x.multiply(&Array::from_f32(2.0))
}

fn main() {}
