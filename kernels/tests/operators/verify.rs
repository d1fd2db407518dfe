//! Linear layers for a few rows: dense, switched, quantized.

use crate::cases::{
    Cases, Operator, TOLERANCE, assert_close, assert_finite_differences, assert_gradients, assert_same_in_the_emulator,
    outputs, random,
};
use cotangent::{Dtype, Graph, Indices, Result, Stored, Tensor};
use cotangent_kernels::{verify_linear, verify_quantised_linear, verify_switch_linear};

/// x, weight.
#[derive(Clone, Copy)]
struct Dense;

impl Operator for Dense {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        Ok(vec![verify_linear(&inputs[0], &inputs[1])?])
    }
}

/// x, weight.
#[derive(Clone, Copy)]
struct Linear;

impl Operator for Linear {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        Ok(vec![inputs[0].linear(&inputs[1])?])
    }
}

/// x, weights of the experts.
#[derive(Clone)]
struct Switch(Indices);

impl Operator for Switch {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        Ok(vec![verify_switch_linear(&inputs[0], &inputs[1], &self.0)?])
    }
}

/// x, scales, biases.
#[derive(Clone)]
struct Quantised {
    codes: Indices,
    group_size: usize,
    bits: usize,
}

impl Operator for Quantised {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let [x, scales, biases] = inputs else { unreachable!("three inputs") };
        Ok(vec![verify_quantised_linear(x, &self.codes, scales, biases, self.group_size, self.bits)?])
    }
}

#[test]
fn the_dense_layer_is_a_linear_layer() {
    for (outer, inputs, outputs) in [(&[1][..], 1, 1), (&[3], 37, 5), (&[2, 5], 40, 19), (&[11], 70, 3)] {
        let operands = [random(1, &[outer, &[inputs]].concat(), 1.0), random(2, &[outputs, inputs], 1.0)];
        let cotangent = random(3, &[outer, &[outputs]].concat(), 1.0);
        assert_gradients(&Dense, &Linear, &operands, &[cotangent], TOLERANCE);
        assert_finite_differences(&Dense, &operands, 2e-3);
    }
}

#[test]
fn tokens_meet_the_weights_of_their_experts() {
    let weight = random(2, &[3, 4, 7], 1.0);
    // Indices from the host are signed, and those that a router chooses on the device are unsigned.
    let signed = Indices::from_slice(&[2, 0, 1, 1, 2, 2], &[3, 2]).unwrap();
    let unsigned = Indices::from_words(&[2, 0, 1, 1, 2, 2], &[3, 2]).unwrap();
    for (shape, experts) in [(&[3, 7][..], &signed), (&[3, 2, 7], &signed), (&[3, 7], &unsigned)] {
        let x = random(1, shape, 1.0);
        let found = outputs(&Switch(experts.clone()), &[x.clone(), weight.clone()]);
        let (x, w) = (x.to_vec::<f32>().unwrap(), weight.to_vec::<f32>().unwrap());
        let mut expected = Vec::new();
        for (pair, expert) in [2, 0, 1, 1, 2, 2].into_iter().enumerate() {
            let row = if shape.len() == 2 { pair / 2 } else { pair };
            for output in 0..4 {
                let weights = &w[(expert * 4 + output) * 7..][..7];
                expected.push(weights.iter().zip(&x[row * 7..]).map(|(w, x)| w * x).sum::<f32>());
            }
        }
        assert_close("switch", &found[0], &Tensor::from_slice(&expected, &[3, 2, 4]).unwrap(), TOLERANCE);
        assert_finite_differences(&Switch(experts.clone()), &[random(1, shape, 1.0), weight.clone()], 2e-3);
    }
}

#[test]
fn an_expert_that_is_not_there_is_refused() {
    let experts = Indices::from_slice(&[0, 3], &[1, 2]).unwrap();
    let inputs = vec![random(1, &[1, 7], 1.0), random(2, &[3, 4, 7], 1.0)];
    let none = Vec::<Tensor<Stored>>::new();
    let mut session = cotangent::Session::new().unwrap();
    let result = session.infer(&inputs, &none, &Switch(experts), |x, _, operator| operator.call(x));
    let message = result.map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("`verify_switch_linear`") && message.contains('3'), "{message}");
}

#[test]
fn the_quantised_layer_agrees_with_the_reference() {
    for case in Cases::operators().all("qmm") {
        let packed = case.input("packed");
        let words: Vec<u32> = case.integers("packed").iter().map(|word| word.cast_unsigned()).collect();
        let number = |name| case.number(name).unwrap() as usize;
        let operator = Quantised {
            codes: Indices::from_words(&words, packed.shape()).unwrap(),
            group_size: number("group_size"),
            bits: number("bits"),
        };
        case.check(&operator, &["x", "scales", "biases"], &["y"], TOLERANCE);
    }
}

/// Packs codes, lowest bits first, one after the other.
fn pack(codes: &[u32], bits: usize) -> Vec<u32> {
    let mut words = vec![0_u32; codes.len() * bits / 32];
    for (index, code) in codes.iter().enumerate() {
        for bit in 0..bits {
            let at = index * bits + bit;
            words[at / 32] |= (code >> bit & 1) << (at % 32);
        }
    }
    words
}

#[test]
fn codes_are_unpacked_whatever_their_width() {
    let (outputs_count, inputs, group_size) = (3, 64, 32);
    for bits in [4, 5, 8] {
        let codes: Vec<u32> = (0..outputs_count * inputs)
            .map(|index| (index as u32).wrapping_mul(2_654_435_761) >> (32 - bits))
            .collect();
        let groups = outputs_count * inputs / group_size;
        let shape = [outputs_count as i32, (inputs / group_size) as i32];
        let [scales, biases] = [random(2, &shape, 0.1), random(3, &shape, 1.0)];
        let (s, z) = (scales.to_vec::<f32>().unwrap(), biases.to_vec::<f32>().unwrap());
        assert_eq!(s.len(), groups);
        let weight: Vec<f32> =
            (0..codes.len()).map(|index| s[index / group_size] * codes[index] as f32 + z[index / group_size]).collect();
        let weight = Tensor::from_slice(&weight, &[outputs_count as i32, inputs as i32]).unwrap();
        let words = pack(&codes, bits);
        let operator = Quantised {
            codes: Indices::from_words(&words, &[outputs_count as i32, (inputs * bits / 32) as i32]).unwrap(),
            group_size,
            bits,
        };
        let x = random(1, &[5, inputs as i32], 1.0);
        let expected = outputs(&Linear, &[x.clone(), weight]);
        let found = outputs(&operator, &[x.clone(), scales.clone(), biases.clone()]);
        assert_close(&format!("{bits} bits"), &found[0], &expected[0], TOLERANCE);
        assert_finite_differences(&operator, &[x, scales, biases], 2e-3);
    }
}

#[test]
fn the_result_has_the_dtype_of_the_operands() {
    for dtype in [Dtype::BF16, Dtype::F16] {
        let inputs = [random(1, &[3, 37], 1.0), random(2, &[5, 37], 1.0)].map(|x| x.cast(dtype).unwrap());
        assert_eq!(outputs(&Dense, &inputs)[0].dtype(), dtype);
    }
}

/// This holds where a source runs, which is in the emulator; the fallback's matrix products do not promise it.
#[test]
fn a_row_has_the_same_bits_in_any_company() {
    if cotangent::backend().unwrap() != cotangent::Backend::Emulated {
        return;
    }
    let (x, weight) = (random(1, &[11, 70], 1.0), random(2, &[5, 70], 1.0));
    let together = outputs(&Dense, &[x.clone(), weight.clone()])[0].to_vec::<f32>().unwrap();
    for (row, values) in x.to_vec::<f32>().unwrap().chunks(70).enumerate() {
        let alone = outputs(&Dense, &[Tensor::from_slice(values, &[1, 70]).unwrap(), weight.clone()]);
        assert_eq!(alone[0].to_vec::<f32>().unwrap(), together[row * 5..][..5], "row {row}");
    }
}

#[test]
fn the_same_holds_in_the_emulator() {
    assert_same_in_the_emulator(module_path!(), &[]);
}
