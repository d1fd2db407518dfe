//! The gate of the feed-forward layers.

use crate::cases::{
    Operator, TOLERANCE, assert_close, assert_finite_differences, assert_same_in_the_emulator, gradients, outputs,
    random,
};
use cotangent::{Graph, Result, Tensor};
use cotangent_kernels::swiglu;

/// gate, up.
#[derive(Clone, Copy)]
struct Swiglu;

impl Operator for Swiglu {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        Ok(vec![swiglu(&inputs[0], &inputs[1])?])
    }
}

#[test]
fn is_silu_of_the_gate_times_up() {
    let (gate, up) = (random(1, &[3, 17], 3.0), random(2, &[3, 17], 1.0));
    let silu = |x: f64| x / (1.0 + (-x).exp());
    let expected: Vec<f32> = (gate.to_vec::<f32>().unwrap().iter().zip(up.to_vec::<f32>().unwrap()))
        .map(|(&gate, up)| (silu(gate.into()) * f64::from(up)) as f32)
        .collect();
    let expected = Tensor::from_slice(&expected, &[3, 17]).unwrap();
    assert_close("swiglu", &outputs(&Swiglu, &[gate, up])[0], &expected, TOLERANCE);
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for shape in [vec![1], vec![3, 17], vec![2, 3, 4]] {
        assert_finite_differences(&Swiglu, &[random(1, &shape, 2.0), random(2, &shape, 1.0)], 2e-3);
    }
}

#[test]
fn far_gates_are_shut_or_open() {
    let gate = Tensor::from_slice(&[-200.0_f32, 200.0], &[2]).unwrap();
    let up = Tensor::from_slice(&[3.0_f32, 3.0], &[2]).unwrap();
    let one = Tensor::from_slice(&[1.0_f32, 1.0], &[2]).unwrap();
    let gradients = gradients(&Swiglu, &[gate.clone(), up.clone()], &[one]);
    assert_eq!(outputs(&Swiglu, &[gate, up])[0].to_vec::<f32>().unwrap(), [0.0, 600.0]);
    assert_eq!(gradients[0].to_vec::<f32>().unwrap(), [0.0, 3.0]);
    assert_eq!(gradients[1].to_vec::<f32>().unwrap(), [0.0, 200.0]);
}

#[test]
fn the_same_holds_in_the_emulator() {
    assert_same_in_the_emulator(module_path!(), &[]);
}
