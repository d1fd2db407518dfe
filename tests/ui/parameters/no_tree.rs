use cotangent::{Mode, Parameters, Tensor};

struct Norm<M: Mode> {
    weight: Tensor<M>,
}

#[derive(Parameters)]
struct Layer<M: Mode> {
    weight: Tensor<M>,
    norms: Vec<Norm<M>>,
}

fn main() {}
