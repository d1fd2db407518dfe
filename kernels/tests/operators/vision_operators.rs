//! What a vision tower adds to the operators of text: attention without an order, two units, layer normalisation.

use crate::cases::{Operator, assert_close, assert_finite_differences, assert_gradients, outputs, random};
use cotangent::ops::Visible;
use cotangent::{Graph, Result, Tensor};
use cotangent_kernels::{full_attention, gelu, gelu_tanh, layer_norm};

const SCALE: f32 = 0.3;

/// queries, keys, values: in strips.
#[derive(Clone)]
struct InStrips;

impl Operator for InStrips {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        Ok(vec![full_attention(&inputs[0], &inputs[1], &inputs[2], SCALE)?])
    }
}

/// MLX's own.
#[derive(Clone)]
struct Whole;

impl Operator for Whole {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        Ok(vec![inputs[0].attention(&inputs[1], &inputs[2], SCALE, Visible::All)?])
    }
}

#[test]
fn every_query_sees_every_key_in_strips_too() {
    // A strip has 64 queries on CPUs. The frames have two patches, less than a strip, and more than two strips.
    for tokens in [2, 4, 150] {
        let of = |seed| random(seed, &[2, 3, tokens, 24], 1.0);
        assert_gradients(&InStrips, &Whole, &[of(1), of(2), of(3)], &[of(4)], 3e-6);
    }
}

#[derive(Clone)]
enum Unit {
    Exact,
    Approximate,
    Norm,
}

impl Operator for Unit {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        Ok(vec![match self {
            Unit::Exact => gelu(&inputs[0])?,
            Unit::Approximate => gelu_tanh(&inputs[0])?,
            Unit::Norm => layer_norm(&inputs[0], &inputs[1], &inputs[2], 1e-6)?,
        }])
    }
}

#[test]
fn units_and_norm_have_their_published_values() {
    let x = Tensor::from_slice(&[-2.0, -0.5, 0.0, 1.0, 3.0], &[5]).unwrap();
    let tensor = |values: &[f32]| Tensor::from_slice(values, &[values.len() as i32]).unwrap();
    // The values are those of `torch.nn.functional.gelu` and `layer_norm` in double precision.
    let exact = tensor(&[-0.045_500_264, -0.154_268_77, 0.0, 0.841_344_8, 2.995_950_3]);
    let approximate = tensor(&[-0.045_402_306, -0.154_286, 0.0, 0.841_192, 2.996_362_6]);
    let normed = [-1.384_437_1, -0.481_543_33, -0.180_578_75, 0.421_350_4, 1.625_208_7];
    assert_close("gelu", &outputs(&Unit::Exact, std::slice::from_ref(&x))[0], &exact, 3e-7);
    assert_close("gelu_tanh", &outputs(&Unit::Approximate, std::slice::from_ref(&x))[0], &approximate, 3e-7);
    let inputs = [x, tensor(&[2.0; 5]), tensor(&[0.25; 5])];
    let expected = tensor(&normed.map(|value| 2.0 * value + 0.25));
    assert_close("layer_norm", &outputs(&Unit::Norm, &inputs)[0], &expected, 1e-6);
}

#[test]
fn units_and_norm_have_the_gradients_of_their_values() {
    let inputs = [random(1, &[3, 8], 1.0), random(2, &[8], 1.0), random(3, &[8], 1.0)];
    assert_finite_differences(&Unit::Exact, &inputs[..1], 1e-3);
    assert_finite_differences(&Unit::Approximate, &inputs[..1], 1e-3);
    assert_finite_differences(&Unit::Norm, &inputs, 1e-3);
}
