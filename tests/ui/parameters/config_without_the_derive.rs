use cotangent::{Mode, Parameters, Tensor};

#[derive(Clone, Copy)]
enum Activation {
    Silu,
    Gelu,
}

#[derive(Parameters)]
struct Layer<M: Mode> {
    weight: Tensor<M>,
    #[config]
    activation: Activation,
}

fn main() {}
