//! A linear layer with a low-rank adapter.

use crate::cases::{
    Operator, TOLERANCE, assert_close, assert_finite_differences, assert_gradients, gradients, gradients_of, outputs,
    random,
};
use cotangent::{Dtype, Graph, Result, Stored, Tensor};
use cotangent_kernels::adapted_linear;

/// x, weight, A, B.
#[derive(Clone, Copy)]
struct Adapted;

const SCALE: f32 = 1.75;

impl Operator for Adapted {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        Ok(vec![adapted_linear(&inputs[0], &inputs[1], &inputs[2], &inputs[3], SCALE)?])
    }
}

/// The layer with the adapter merged into the weight.
#[derive(Clone, Copy)]
struct Merged;

impl Operator for Merged {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let product = inputs[2].matmul(&inputs[3])?.multiply(SCALE)?.swap_axes(0, 1)?;
        Ok(vec![inputs[0].linear(&inputs[1].add(&product)?)?])
    }
}

/// The inputs of a layer from `[.., 6]` to 5 with rank 2.
fn inputs(outer: &[i32]) -> Vec<Tensor<Stored>> {
    let x = random(1, &[outer, &[6]].concat(), 1.0);
    vec![x, random(2, &[5, 6], 1.0), random(3, &[6, 2], 1.0), random(4, &[2, 5], 1.0)]
}

#[test]
fn is_the_merged_layer_with_its_gradients() {
    for outer in [&[][..], &[1], &[7], &[2, 3], &[2, 1, 3]] {
        let inputs = inputs(outer);
        let cotangent = random(5, &[outer, &[5]].concat(), 1.0);
        if !outer.is_empty() {
            assert_gradients(&Adapted, &Merged, &inputs, &[cotangent], TOLERANCE);
        }
        assert_finite_differences(&Adapted, &inputs, 2e-3);
    }
}

#[test]
fn a_frozen_weight_gets_no_gradient_and_the_others_keep_theirs() {
    let (inputs, cotangent) = (inputs(&[4]), random(5, &[4, 5], 1.0));
    let (_, all) = gradients_of(&Adapted, &inputs, std::slice::from_ref(&cotangent), |_| true);
    let (_, some) = gradients_of(&Adapted, &inputs, &[cotangent], |index| index > 1);
    assert!(some[0].is_none() && some[1].is_none());
    for index in [2, 3] {
        assert_close("adapter", some[index].as_ref().unwrap(), all[index].as_ref().unwrap(), 0.0);
    }
}

#[test]
fn float32_adapters_follow_the_dtype_of_x() {
    let mut inputs = inputs(&[3]);
    for input in &mut inputs[..2] {
        *input = input.cast(Dtype::BF16).unwrap();
    }
    let gradients = gradients(&Adapted, &inputs, &[random(5, &[3, 5], 1.0).cast(Dtype::BF16).unwrap()]);
    assert_eq!(outputs(&Adapted, &inputs)[0].dtype(), Dtype::BF16);
    assert_eq!(
        gradients.iter().map(Tensor::dtype).collect::<Vec<_>>(),
        [Dtype::BF16, Dtype::BF16, Dtype::F32, Dtype::F32]
    );
}
