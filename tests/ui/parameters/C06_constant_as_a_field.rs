use cotangent::{Constant, Mode, Parameters, Tensor};

#[derive(Parameters)]
struct Linear<M: Mode> {
    weight: Tensor<M>,
    #[config]
    scale: Constant,
}

fn main() {}
