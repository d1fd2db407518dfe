//! The short convolution: the reference's values and gradients, and rows cut in two.

mod cases;

use cases::{Cases, Operator, TOLERANCE, assert_close, assert_finite_differences, outputs, random};
use cotangent::{Dtype, Graph, Result, Stored, Tensor};
use cotangent_kernels::{causal_conv_silu, causal_conv_window};

/// x, weight, and perhaps a window, to y and the window after it.
#[derive(Clone, Copy)]
struct Conv;

impl Operator for Conv {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let (x, weight, window) = (&inputs[0], &inputs[1], inputs.get(2));
        let taps = weight.dimension(2);
        Ok(vec![causal_conv_silu(x, weight, window)?, causal_conv_window(x, window, taps)?])
    }
}

fn shaped(tensor: &Tensor<Stored>, shape: &[i32]) -> Tensor<Stored> {
    Tensor::from_slice(&tensor.to_vec::<f32>().unwrap(), shape).unwrap()
}

#[test]
fn agrees_with_the_reference() {
    for case in Cases::operators().all("conv_silu") {
        let mut names = vec!["x", "weight"];
        names.extend(case.has_input("state").then_some("state"));
        let mut inputs = case.inputs(&names);
        let flat = inputs[1].shape().to_vec();
        inputs[1] = shaped(&inputs[1], &[flat[0], 1, flat[1]]);
        for (found, name) in outputs(&Conv, &inputs).iter().zip(["y", "state"]) {
            assert_close(&format!("{}.out.{name}", case.name), found, &case.output(name), TOLERANCE);
        }
        let cotangents = [case.cotangent("y"), case.cotangent("state")];
        for (found, name) in cases::gradients(&Conv, &inputs, &cotangents).iter().zip(names) {
            let expected = case.gradient(name);
            let found = shaped(found, expected.shape());
            assert_close(&format!("{}.grad.{name}", case.name), &found, &expected, TOLERANCE);
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for (steps, taps) in [(1, 4), (2, 4), (7, 4), (5, 2)] {
        let mut inputs = vec![random(1, &[2, steps, 3], 1.0), random(2, &[3, 1, taps], 1.0)];
        assert_finite_differences(&Conv, &inputs[..2], 2e-3);
        inputs.push(random(3, &[2, taps - 1, 3], 1.0));
        assert_finite_differences(&Conv, &inputs, 2e-3);
    }
}

#[test]
fn a_row_cut_in_two_goes_on_where_it_stopped() {
    let (x, weight) = (random(1, &[1, 9, 5], 1.0), random(2, &[5, 1, 4], 1.0));
    let values = x.to_vec::<f32>().unwrap();
    let piece = |steps: std::ops::Range<usize>| {
        Tensor::from_slice(&values[steps.start * 5..steps.end * 5], &[1, steps.len() as i32, 5]).unwrap()
    };
    let whole = outputs(&Conv, &[x.clone(), weight.clone()]);
    for cut in 1..9 {
        let first = outputs(&Conv, &[piece(0..cut), weight.clone()]);
        let second = outputs(&Conv, &[piece(cut..9), weight.clone(), first[1].clone()]);
        let joined = [first[0].to_vec::<f32>().unwrap(), second[0].to_vec::<f32>().unwrap()].concat();
        assert_close("y", &Tensor::from_slice(&joined, &[1, 9, 5]).unwrap(), &whole[0], 1e-6);
        assert_close("window", &second[1], &whole[1], 0.0);
    }
}

#[test]
fn bfloat16_is_computed_in_float32() {
    let inputs = [random(1, &[2, 9, 16], 1.0), random(2, &[16, 1, 4], 1.0)].map(|x| x.cast(Dtype::BF16).unwrap());
    let wide = inputs.clone().map(|x| x.cast(Dtype::F32).unwrap());
    let (narrow, wide) = (outputs(&Conv, &inputs), outputs(&Conv, &wide));
    assert_eq!(narrow[0].dtype(), Dtype::BF16);
    assert_close("bfloat16", &narrow[0], &wide[0].cast(Dtype::BF16).unwrap(), 0.0);
}
