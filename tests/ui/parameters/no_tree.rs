use cotangent::{Mode, Parameters, Tensor};

struct Norm<M: Mode> {
    weight: Tensor<M>,
}

#[derive(Parameters)]
struct Layer<M: Mode> {
    weight: Tensor<M>,
    norm: Norm<M>,
}

fn main() {}
