use cotangent::{Mode, Parameters, Tensor};

#[derive(Parameters)]
struct Linear<M: Mode> {
    weight: Tensor<M>,
    /// Marked as plain data, it would never be trained.
    #[config]
    bias: Tensor<M>,
}

fn main() {}
