use cotangent::{Graph, Indices, Result, Tensor};

fn weigh<M: Graph>(x: &Tensor<M>, weights: &Tensor<M>, chosen: &Indices) -> Result<Tensor<M>> {
    x.multiply(&weights.take_rows(chosen)?)
}

pub fn main() {
    let _ = weigh::<cotangent::Train>;
}
