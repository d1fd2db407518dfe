use cotangent::{Parameters, Stored, Tensor};

#[derive(Parameters)]
struct Linear {
    weight: Tensor<Stored>,
}

fn main() {}
