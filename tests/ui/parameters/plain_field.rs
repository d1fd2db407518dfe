use cotangent::{Mode, Parameters, Tensor};

#[derive(Parameters)]
struct Linear<M: Mode> {
    weight: Tensor<M>,
    rank: usize,
}

fn main() {}
