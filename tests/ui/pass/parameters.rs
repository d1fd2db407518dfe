use cotangent::{Mode, Parameters, Stored, Tensor};

#[derive(Parameters)]
struct Linear<M: Mode = Stored> {
    weight: Tensor<M>,
    bias: Option<Tensor<M>>,
    #[config]
    rank: usize,
}

#[derive(Parameters)]
enum Mixer<M: Mode> {
    Attention(Linear<M>),
    Delta(Box<Linear<M>>),
}

#[derive(Parameters)]
struct Block<M: Mode> {
    #[parameters(rename = "self_attn")]
    mixer: Mixer<M>,
    #[parameters(flatten)]
    layers: Vec<Linear<M>>,
}

fn main() {
    let linear = |value: f32| Linear { weight: Tensor::from_slice(&[value], &[1]).unwrap(), bias: None, rank: 1 };
    let block: Block<Stored> = Block { mixer: Mixer::Attention(linear(1.0)), layers: vec![linear(2.0)] };
    let _ = Mixer::Delta(Box::new(linear(3.0)));
    let mut names = Vec::new();
    block.visit(&mut cotangent::parameters::Path::root(), &mut |path, _| names.push(path.to_string()));
    assert_eq!(names, ["self_attn.weight", "0.weight"]);
}
