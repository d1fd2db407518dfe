use cotangent::{Mode, Parameters, Tensor};

#[derive(Parameters)]
struct Linear<M: Mode> {
    #[parameters(rename = "weight")]
    kernel: Tensor<M>,
    #[parameters(rename = "weight")]
    scale: Tensor<M>,
}

fn main() {}
