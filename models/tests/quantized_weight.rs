//! A layer whose matrix is packed codes: its adapter trains, the codes stay.

use cotangent::parameters::Path;
use cotangent::{
    CodeFormat, CodeMode, Constant, Dtype, Frozen, Gradients, Mode, Parameters, Planned, Result, Session, Stored,
    Tensor, Train, Trainable, value_and_grad,
};
use cotangent_models::linear::{Linear, LowRank};
use cotangent_models::weight::{Quantized, Weight};

const INPUTS: usize = 64;
const OUTPUTS: usize = 4;
const RANK: usize = 2;

#[derive(Parameters)]
struct Toy<M: Mode> {
    layer: Linear<M>,
}

/// The code of one element: any number of eight bits.
fn code(row: usize, column: usize) -> u8 {
    (row * 89 + column * 37 + row * column) as u8
}

/// `code * 2^-8 - 0.5` in groups of 32 inputs; all these numbers are exact in float32.
fn toy(adapter: Option<LowRank<Stored>>) -> Toy<Stored> {
    let words: Vec<u32> = (0..OUTPUTS)
        .flat_map(|row| {
            (0..INPUTS / 4).map(move |word| u32::from_le_bytes(std::array::from_fn(|at| code(row, 4 * word + at))))
        })
        .collect();
    let groups = [OUTPUTS as i32, INPUTS as i32 / 32];
    let filled = |value: f32| Tensor::from_slice(&[value; OUTPUTS * INPUTS / 32], &groups).unwrap();
    let weight = Weight::Quantized(Quantized {
        weight: Frozen::new(Tensor::from_slice(&words, &[OUTPUTS as i32, INPUTS as i32 / 4]).unwrap()),
        scales: Frozen::new(filled(1.0 / 256.0)),
        biases: Some(Frozen::new(filled(-0.5))),
        format: CodeFormat::new(CodeMode::Affine, Some(32), Some(8)).unwrap(),
        dtype: Dtype::F32,
    });
    Toy { layer: Linear { weight, adapter } }
}

fn adapter() -> LowRank<Stored> {
    let numbers = |count: usize| (0..count).map(|at| (at as f32 * 0.7).sin()).collect::<Vec<f32>>();
    LowRank {
        lora_a: Tensor::from_slice(&numbers(INPUTS * RANK), &[INPUTS as i32, RANK as i32]).unwrap(),
        lora_b: Tensor::from_slice(&numbers(RANK * OUTPUTS), &[RANK as i32, OUTPUTS as i32]).unwrap(),
        scale: 0.5,
    }
}

/// The same layer with its matrix as floats.
fn dense(adapter: Option<LowRank<Stored>>) -> Toy<Stored> {
    let numbers =
        (0..OUTPUTS).flat_map(|row| (0..INPUTS).map(move |column| f32::from(code(row, column)) / 256.0 - 0.5));
    let weight = Tensor::from_slice(&numbers.collect::<Vec<f32>>(), &[OUTPUTS as i32, INPUTS as i32]).unwrap();
    Toy { layer: Linear { adapter, ..Linear::new(weight) } }
}

fn loss(toy: &Toy<Train>, x: &Constant) -> Result<Tensor<Train>> {
    toy.layer.forward(&x.to_tensor())?.square()?.sum_all()
}

fn run(toy: &Toy<Stored>) -> (f32, Gradients) {
    let numbers: Vec<f32> = (0..3 * INPUTS).map(|at| (at as f32 * 0.3).cos()).collect();
    let x = Constant::from_slice(&numbers, &[3, INPUTS as i32]).unwrap();
    let trainable = Trainable::new(toy, |_| true).unwrap();
    let (loss, gradients) = value_and_grad(&mut Session::new().unwrap(), toy, &trainable, &x, loss).unwrap();
    (loss.item().unwrap(), gradients)
}

#[test]
fn an_adapter_on_codes_trains_as_on_the_matrix_they_stand_for() {
    let (quantized_loss, quantized) = run(&toy(Some(adapter())));
    let (dense_loss, dense) = run(&dense(Some(adapter())));
    assert!((quantized_loss - dense_loss).abs() <= 1e-5 * dense_loss, "{quantized_loss} {dense_loss}");
    let names: Vec<&str> = quantized.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["layer.lora_a", "layer.lora_b"], "codes, scales and biases have no gradient");
    for name in names {
        let [ours, theirs] = [&quantized, &dense].map(|of| of.get(name).unwrap().to_vec::<f32>().unwrap());
        let largest = theirs.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!((ours - theirs).abs() <= 1e-5 * largest, "{name}: {ours} {theirs}");
        }
    }
}

#[test]
fn codes_are_leaves_that_no_gradient_sees() {
    let toy = toy(Some(adapter()));
    let (mut all, mut trains) = (Vec::new(), Vec::new());
    toy.leaves(&mut Path::root(), &mut |path, leaf| all.push((path.to_string(), leaf.is_frozen)));
    toy.visit(&mut Path::root(), &mut |path, _| trains.push(path.to_string()));
    let expected = [("weight", true), ("scales", true), ("biases", true), ("lora_a", false), ("lora_b", false)];
    assert_eq!(all, expected.map(|(name, is_frozen)| (format!("layer.{name}"), is_frozen)));
    assert_eq!(trains, ["layer.lora_a", "layer.lora_b"]);
}

#[test]
fn a_planned_leaf_has_no_values_to_share() {
    let planned = Toy::<Planned> { layer: Linear::planned(OUTPUTS, INPUTS, Dtype::F32) };
    let mut layers = Vec::new();
    let mut tree = planned;
    tree.nodes(&mut Path::root(), &mut |path, node| {
        if node.is::<Linear<Planned>>() {
            layers.push(path.to_string());
        }
    });
    assert_eq!(layers, ["layer"]);
    let loaded = tree.map::<Stored>(&mut Path::root(), &mut |_, leaf| {
        let shape: Vec<i32> = leaf.tensor.plan().shape.iter().map(|extent| *extent as i32).collect();
        Tensor::zeros(&shape, leaf.tensor.plan().dtype)
    });
    assert_eq!(loaded.unwrap().layer.outputs(), OUTPUTS as i32);

    let codes = Frozen::<Planned>::new(Tensor::planned(&[4, 16], Dtype::U32));
    let error = codes.convert::<Stored>(&mut Path::new("codes"), &mut |_, _| unreachable!()).unwrap_err();
    assert!(error.to_string().contains("`codes`"), "{error}");
}
