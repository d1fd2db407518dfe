use cotangent::{Mode, Parameters, Stored, Tensor};

#[derive(Parameters)]
struct Linear<M: Mode> {
    weight: Tensor<M>,
    frozen: Tensor<Stored>,
    #[config]
    hidden: Tensor<M>,
}

fn main() {}
