//! The gate between attention and its output projection.

use crate::cases::{
    Operator, TOLERANCE, assert_close, assert_finite_differences, assert_same_in_the_emulator, outputs, random,
};
use cotangent::{Dtype, Graph, Result, Tensor};
use cotangent_kernels::attention_gate;

/// The output of attention, `[B, H, T, D]`, and a projection whose second half are the gates, `[B, T, H, 2 D]`.
#[derive(Clone, Copy)]
struct Gate;

impl Operator for Gate {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let width = inputs[0].dimension(-1);
        Ok(vec![attention_gate(&inputs[0], &inputs[1].slice(-1, width, 2 * width)?)?])
    }
}

#[test]
fn is_the_output_times_the_sigmoid_of_its_own_gate() {
    let (batch, heads, tokens, width) = (2, 3, 5, 4);
    let attended = random(1, &[batch, heads, tokens, width], 1.0);
    let projected = random(2, &[batch, tokens, heads, 2 * width], 2.0);
    let (values, gates) = (attended.to_vec::<f32>().unwrap(), projected.to_vec::<f32>().unwrap());
    let mut expected = Vec::new();
    for (row, token, head, lane) in (0..batch).flat_map(|row| {
        (0..tokens).flat_map(move |token| {
            (0..heads).flat_map(move |head| (0..width).map(move |lane| (row, token, head, lane)))
        })
    }) {
        let value = values[(((row * heads + head) * tokens + token) * width + lane) as usize];
        let gate = gates[(((row * tokens + token) * heads + head) * 2 * width + width + lane) as usize];
        expected.push((f64::from(value) / (1.0 + f64::from(-gate).exp())) as f32);
    }
    let expected = Tensor::from_slice(&expected, &[batch, tokens, heads * width]).unwrap();
    assert_close("attention_gate", &outputs(&Gate, &[attended, projected])[0], &expected, TOLERANCE);
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for [batch, heads, tokens, width] in [[1, 1, 1, 1], [2, 3, 5, 4], [1, 2, 1, 7]] {
        let attended = random(1, &[batch, heads, tokens, width], 1.0);
        assert_finite_differences(&Gate, &[attended, random(2, &[batch, tokens, heads, 2 * width], 2.0)], 2e-3);
    }
}

#[test]
fn the_result_has_the_dtype_of_the_operands() {
    let inputs = [random(1, &[1, 2, 3, 4], 1.0), random(2, &[1, 3, 2, 8], 1.0)].map(|x| x.cast(Dtype::BF16).unwrap());
    assert_eq!(outputs(&Gate, &inputs)[0].dtype(), Dtype::BF16);
}

#[test]
fn the_same_holds_in_the_emulator() {
    assert_same_in_the_emulator(module_path!(), &[]);
}
