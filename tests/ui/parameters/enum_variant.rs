use cotangent::{Mode, Parameters, Tensor};

#[derive(Parameters)]
enum Mixer<M: Mode> {
    Attention(Tensor<M>),
    Delta { state: Tensor<M> },
    Nothing,
}

fn main() {}
