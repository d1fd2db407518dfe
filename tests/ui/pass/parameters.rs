use std::marker::PhantomData;

use cotangent::{Config, Mode, Parameters, Stored, Tensor};

/// Plain data of one's own.
#[derive(Clone, Config)]
enum Activation {
    Silu,
    Clipped { at: f32, shape: Option<Shape> },
}

#[derive(Clone, Copy, Config)]
struct Shape([usize; 2], bool);

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

/// Arrays, tuples of any length, and a mode without tensors.
#[derive(Parameters)]
struct Heads<M: Mode> {
    scales: [Tensor<M>; 3],
    gates: (Tensor<M>, Linear<M>, Option<Tensor<M>>, [Linear<M>; 1], Tensor<M>),
    mode: PhantomData<M>,
    #[config]
    activation: Activation,
    #[config]
    unit: PhantomData<f32>,
}

fn heads() {
    let tensor = |value: f32| Tensor::from_slice(&[value], &[1]).unwrap();
    let linear = |value: f32| Linear { weight: tensor(value), bias: None, rank: 1 };
    let heads: Heads<Stored> = Heads {
        scales: [tensor(1.0), tensor(2.0), tensor(3.0)],
        gates: (tensor(4.0), linear(5.0), None, [linear(6.0)], tensor(7.0)),
        mode: PhantomData,
        activation: Activation::Clipped { at: 6.0, shape: Some(Shape([1, 2], true)) },
        unit: PhantomData,
    };
    let mut names = Vec::new();
    let again = heads
        .convert::<Stored>(&mut cotangent::parameters::Path::root(), &mut |path, tensor| {
            names.push(format!("{path} = {}", tensor.item::<f32>()?));
            Ok(tensor.clone())
        })
        .unwrap();
    let expected = ["scales.0 = 1", "scales.1 = 2", "scales.2 = 3", "gates.0 = 4", "gates.1.weight = 5"];
    assert_eq!(names[..5], expected);
    assert_eq!(names[5..], ["gates.3.0.weight = 6", "gates.4 = 7"]);
    assert!(matches!(again.activation, Activation::Clipped { at: 6.0, shape: Some(Shape([1, 2], true)) }));
    let _ = Activation::Silu;
}

pub fn main() {
    heads();
    let linear = |value: f32| Linear { weight: Tensor::from_slice(&[value], &[1]).unwrap(), bias: None, rank: 1 };
    let block: Block<Stored> = Block { mixer: Mixer::Attention(linear(1.0)), layers: vec![linear(2.0)] };
    let _ = Mixer::Delta(Box::new(linear(3.0)));
    let mut names = Vec::new();
    block.visit(&mut cotangent::parameters::Path::root(), &mut |path, _| names.push(path.to_string()));
    assert_eq!(names, ["self_attn.weight", "0.weight"]);
}
