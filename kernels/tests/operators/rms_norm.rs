//! Root-mean-square normalisation: the reference's values and gradients, and the properties of a norm.

use crate::cases::{
    Cases, Operator, TOLERANCE, assert_close, assert_finite_differences, assert_same_in_the_emulator, outputs, random,
};
use cotangent::{Dtype, Graph, Result, Stored, Tensor};
use cotangent_kernels::{rms_norm, rms_norm_gated, rms_norm_zero_centred};

#[derive(Clone, Copy)]
enum Norm {
    /// x, weight.
    Plain,
    /// x, weight.
    ZeroCentred,
    /// x, gate, weight.
    Gated,
}

const EPSILON: f32 = 1e-6;

impl Operator for Norm {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        Ok(vec![match self {
            Norm::Plain => rms_norm(&inputs[0], &inputs[1], EPSILON)?,
            Norm::ZeroCentred => rms_norm_zero_centred(&inputs[0], &inputs[1], EPSILON)?,
            Norm::Gated => rms_norm_gated(&inputs[0], &inputs[1], &inputs[2], EPSILON)?,
        }])
    }
}

#[test]
fn agrees_with_the_reference() {
    let cases = Cases::operators();
    cases.case("rmsnorm.zero_centred").check(&Norm::ZeroCentred, &["x", "weight"], &["y"], TOLERANCE);
    cases.case("rmsnorm.gated").check(&Norm::Gated, &["x", "gate", "weight"], &["y"], TOLERANCE);
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for shape in [vec![3, 8], vec![2, 3, 20], vec![1, 1]] {
        let (x, gate) = (random(1, &shape, 1.0), random(2, &shape, 1.0));
        let weight = random(3, &shape[shape.len() - 1..], 0.5);
        assert_finite_differences(&Norm::Plain, &[x.clone(), weight.clone()], 2e-3);
        assert_finite_differences(&Norm::ZeroCentred, &[x.clone(), weight.clone()], 2e-3);
        assert_finite_differences(&Norm::Gated, &[x, gate, weight], 2e-3);
    }
}

/// x, gate and weight; x and gate are slices of wider arrays, as projections give them.
#[derive(Clone, Copy)]
struct OfSlices;

impl Operator for OfSlices {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let [x, gate] = [&inputs[0], &inputs[1]].map(|wide| wide.slice(-1, 3, 8));
        let (x, gate) = (x?, gate?);
        Ok(vec![rms_norm_zero_centred(&x, &inputs[2], EPSILON)?, rms_norm_gated(&x, &gate, &inputs[2], EPSILON)?])
    }
}

#[test]
fn slices_are_normalised_where_they_lie() {
    let wide = [random(1, &[2, 3, 4, 11], 1.0), random(2, &[2, 3, 4, 11], 1.0)];
    assert_finite_differences(&OfSlices, &[wide[0].clone(), wide[1].clone(), random(3, &[5], 0.5)], 2e-3);
}

#[test]
fn a_weight_of_zero_leaves_rows_of_mean_square_one() {
    let y = outputs(&Norm::ZeroCentred, &[random(4, &[7, 64], 30.0), Tensor::zeros(&[64], Dtype::F32).unwrap()]);
    for row in y[0].to_vec::<f32>().unwrap().chunks(64) {
        let mean_square = row.iter().map(|value| value * value).sum::<f32>() / 64.0;
        assert!((mean_square - 1.0).abs() <= 1e-5, "{mean_square}");
    }
}

#[test]
fn bfloat16_is_computed_in_float32() {
    let x = random(5, &[4, 64], 1.0).cast(Dtype::BF16).unwrap();
    let gate = random(6, &[4, 64], 1.0).cast(Dtype::BF16).unwrap();
    let weight = random(7, &[64], 0.5);
    let widened = |tensors: &[&Tensor<Stored>]| -> Vec<_> {
        tensors.iter().map(|tensor| tensor.cast(Dtype::F32).unwrap()).collect()
    };
    for (norm, inputs) in [(Norm::ZeroCentred, vec![&x, &weight]), (Norm::Gated, vec![&x, &gate, &weight])] {
        let narrow = outputs(&norm, &inputs.iter().map(|&input| input.clone()).collect::<Vec<_>>());
        let wide = outputs(&norm, &widened(&inputs));
        assert_eq!(narrow[0].dtype(), Dtype::BF16);
        // The result is rounded once, at the end.
        assert_close("bfloat16", &narrow[0], &wide[0].cast(Dtype::BF16).unwrap(), 0.0);
    }
}

#[test]
fn the_same_holds_in_the_emulator() {
    assert_same_in_the_emulator(module_path!(), &[]);
}
