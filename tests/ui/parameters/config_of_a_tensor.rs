use cotangent::{Config, Stored, Tensor};

#[derive(Clone, Config)]
struct Hidden {
    weight: Tensor<Stored>,
}

fn main() {}
