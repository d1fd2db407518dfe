use cotangent::{Mode, Parameters, Tensor};

#[derive(Parameters)]
struct Norm<M: Mode> {
    weight: Option<Tensor<M>>,
}

#[derive(Parameters)]
struct Linear<M: Mode> {
    weight: Tensor<M>,
    #[parameters(flatten)]
    before: Norm<M>,
    #[parameters(flatten)]
    after: Norm<M>,
}

fn main() {}
