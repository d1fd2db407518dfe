//! The short convolution: the reference's values and gradients, and rows cut in two.

use crate::cases::{
    Cases, Operator, TOLERANCE, assert_close, assert_finite_differences, assert_same_in_the_emulator, gradients,
    outputs, random,
};
use cotangent::{Dtype, Graph, Mask, Result, Stored, Tensor};
use cotangent_kernels::causal_conv::{FusedCausalConvInputs, fused_causal_conv};
use cotangent_kernels::{Documents, causal_conv_silu, causal_conv_window};

/// x, weight, and perhaps a window, to y and the window after it.
#[derive(Clone, Copy)]
struct Conv;

impl Operator for Conv {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let (x, weight, window) = (&inputs[0], &inputs[1], inputs.get(2));
        let taps = weight.dimension(2);
        Ok(vec![causal_conv_silu(x, weight, window, None)?, causal_conv_window(x, window, taps)?])
    }
}

/// x, weight, and perhaps a window, to y; some tokens do not count, or begin a document.
#[derive(Clone, Default)]
struct ConvOf {
    mask: Option<Mask>,
    starts: Option<Mask>,
}

impl Operator for ConvOf {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let (x, weight, window) = (&inputs[0], &inputs[1], inputs.get(2));
        let (mask, starts) = (self.mask.as_ref(), self.starts.as_ref());
        Ok(vec![fused_causal_conv(FusedCausalConvInputs { x, weight, window, mask, starts })?])
    }
}

/// x, weight and a window, to y; documents of these lengths lie behind the given number of keys.
#[derive(Clone)]
struct ConvOfDocuments {
    lengths: Vec<i32>,
    before: i32,
}

impl Operator for ConvOfDocuments {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let tokens = inputs[0].dimension(1);
        let before = (self.before > 0).then_some(self.before);
        let lengths: Vec<i32> = before.into_iter().chain(self.lengths.iter().copied()).collect();
        let documents = Documents::new(&[lengths], tokens, tokens + self.before)?;
        Ok(vec![causal_conv_silu(&inputs[0], &inputs[1], inputs.get(2), Some(&documents))?])
    }
}

/// A mask of one row, true at these places.
fn places(places: &[usize], length: usize) -> Mask {
    let values: Vec<bool> = (0..length).map(|place| places.contains(&place)).collect();
    Mask::from_slice(&values, &[1, length as i32]).unwrap()
}

/// Some steps of one row of 5 channels.
fn steps_of(x: &Tensor<Stored>, steps: std::ops::Range<usize>) -> Tensor<Stored> {
    let values = x.to_vec::<f32>().unwrap();
    Tensor::from_slice(&values[steps.start * 5..steps.end * 5], &[1, steps.len() as i32, 5]).unwrap()
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
        for (found, name) in gradients(&Conv, &inputs, &cotangents).iter().zip(names) {
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
    let piece = |steps| steps_of(&x, steps);
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
fn documents_packed_into_a_row_do_not_see_each_other() {
    let (x, weight, window) = (random(1, &[1, 41, 5], 1.0), random(2, &[5, 1, 4], 1.0), random(3, &[1, 3, 5], 1.0));
    let cotangent = random(4, &[1, 41, 5], 1.0);
    // Documents have one token or many, and end within threads' pieces or between them; one continues from the window.
    for bounds in [&[0, 41][..], &[0, 1, 2, 4, 9, 16, 30, 33, 41], &[0, 15, 17, 32, 41]] {
        for goes_on in [false, true] {
            let lengths = bounds.windows(2).map(|bounds| (bounds[1] - bounds[0]) as i32).collect();
            let packed = ConvOfDocuments { lengths, before: if goes_on { 0 } else { 1 } };
            let inputs = [x.clone(), weight.clone(), window.clone()];
            let y = outputs(&packed, &inputs).remove(0);
            let together = gradients(&packed, &inputs, std::slice::from_ref(&cotangent));
            for (index, bounds) in bounds.windows(2).enumerate() {
                let steps = bounds[0]..bounds[1];
                let mut inputs = vec![steps_of(&x, steps.clone()), weight.clone()];
                inputs.extend((goes_on && index == 0).then(|| window.clone()));
                let (alone, part) = (ConvOf::default(), steps_of(&cotangent, steps.clone()));
                let expected = outputs(&alone, &inputs).remove(0);
                assert_close("y", &steps_of(&y, steps.clone()), &expected, 1e-6);
                let expected = gradients(&alone, &inputs, &[part]);
                assert_close("d_x", &steps_of(&together[0], steps), &expected[0], 1e-5);
                if let Some(expected) = expected.get(2) {
                    assert_close("d_window", &together[2], expected, 1e-5);
                } else if index == 0 {
                    assert!(together[2].to_vec::<f32>().unwrap().iter().all(|value| *value == 0.0));
                }
            }
        }
    }
}

#[test]
fn what_does_not_count_is_zero_and_has_no_gradient() {
    let (x, weight) = (random(1, &[1, 9, 5], 1.0), random(2, &[5, 1, 4], 1.0));
    let counting = [2, 3, 5, 6, 8];
    let masked = ConvOf { mask: Some(places(&counting, 9)), starts: None };
    let mut values = x.to_vec::<f32>().unwrap();
    for step in (0..9).filter(|step| !counting.contains(step)) {
        values[step * 5..(step + 1) * 5].fill(0.0);
    }
    let zeroed = Tensor::from_slice(&values, &[1, 9, 5]).unwrap();
    let expected = outputs(&ConvOf::default(), &[zeroed, weight.clone()]);
    assert_close("y", &outputs(&masked, &[x.clone(), weight.clone()])[0], &expected[0], 1e-6);
    let gradient = &gradients(&masked, &[x, weight], &[random(4, &[1, 9, 5], 1.0)])[0];
    for (step, values) in gradient.to_vec::<f32>().unwrap().chunks(5).enumerate() {
        assert_eq!(counting.contains(&step), values.iter().all(|value| *value != 0.0), "step {step}: {values:?}");
    }
}

#[test]
fn gradients_with_masks_and_documents_are_those_of_finite_differences() {
    let steps = 35;
    for (mask, starts) in [(true, false), (false, true), (true, true)] {
        let operator = ConvOf {
            mask: mask.then(|| places(&(0..steps).filter(|step| step % 4 != 1).collect::<Vec<_>>(), steps)),
            starts: starts.then(|| places(&[2, 3, 17, 33], steps)),
        };
        let inputs = [random(1, &[1, 35, 3], 1.0), random(2, &[3, 1, 4], 1.0), random(3, &[1, 3, 3], 1.0)];
        assert_finite_differences(&operator, &inputs, 2e-3);
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

#[test]
fn the_same_holds_in_the_emulator() {
    assert_same_in_the_emulator(module_path!(), &[]);
}
