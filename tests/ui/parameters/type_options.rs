use cotangent::{Mode, Parameters, Tensor};

#[derive(Parameters)]
#[parameters(crate = cotangent, root = cotangent)]
struct Linear<M: Mode> {
    weight: Tensor<M>,
}

#[derive(Parameters)]
#[parameters(crate = cotangent)]
#[parameters(crate = cotangent)]
struct Norm<M: Mode> {
    weight: Tensor<M>,
}

fn main() {}
