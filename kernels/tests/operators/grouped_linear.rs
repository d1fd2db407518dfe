//! The layers of many experts: each row is multiplied by the matrix of its expert, in both directions.

use crate::cases::{self, Operator, random};
use cotangent::{CodeFormat, CodeMode, Dtype, Frozen, Graph, Indices, Packed, Result, Session, Tensor};
use cotangent_kernels::grouped_linear::{GroupedProductInputs, grouped_product};
use cotangent_kernels::{grouped_linear, grouped_packed_linear};

/// Rows of each expert; what is left belongs to none.
#[derive(Clone)]
struct Experts {
    counts: Vec<i32>,
    way: Way,
}

#[derive(Clone)]
enum Way {
    /// All experts at once.
    Grouped,
    /// The layer in blocks of these rows, columns and depth.
    Blocks([usize; 3]),
    /// One after the other, each with its slice of the rows.
    OneByOne,
    /// All at once, of codes.
    Codes(Packed),
    /// One by one, of the matrices that the codes stand for.
    Decoded(Packed),
}

/// The multiplier of the adapters, whose inputs come after those of the layer.
const SCALE: f32 = 0.7;

impl Operator for Experts {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let x = &inputs[0];
        let counts = Indices::from_slice(&self.counts, &[self.counts.len() as i32])?;
        let adapter = |first: usize| inputs.get(first + 1).map(|b| ([&inputs[first], b], SCALE));
        let adapted = |y: Tensor<M>, first: usize| match adapter(first) {
            None => Ok(y),
            Some(([a, b], scale)) => y.add(&self.one_by_one(&self.one_by_one(x, a)?.multiply(scale)?, b)?),
        };
        Ok(vec![match self.way.clone() {
            Way::Grouped => grouped_linear(x, &inputs[1], adapter(2), &counts)?,
            Way::Blocks([rows, columns, depth]) => {
                let (weight, [lora_a, lora_b]) = (&inputs[1], [inputs.get(2), inputs.get(3)]);
                let (counts, scale, rank) = (&counts, SCALE, lora_a.map_or(8, |a| a.dimension(1) as usize));
                let inputs =
                    GroupedProductInputs { x, weight, lora_a, lora_b, counts, scale, rank, rows, columns, depth };
                grouped_product(inputs)?
            }
            Way::OneByOne => adapted(self.one_by_one(x, &inputs[1])?, 2)?,
            Way::Codes(matrices) => grouped_packed_linear(x, &matrices, adapter(1), &counts)?,
            Way::Decoded(matrices) => adapted(self.one_by_one(x, &matrices.decode(x.dtype())?.to_tensor())?, 1)?,
        }])
    }
}

impl Experts {
    fn one_by_one<M: Graph>(&self, x: &Tensor<M>, weight: &Tensor<M>) -> Result<Tensor<M>> {
        let (rows, mut parts, mut start) = (x.dimension(0), Vec::new(), 0);
        for (expert, count) in self.counts.iter().enumerate() {
            let (end, expert) = (rows.min(start + count), expert as i32);
            if end > start {
                let own = weight.slice(0, expert, expert + 1)?.squeeze(0)?;
                parts.push(x.slice(0, start, end)?.linear(&own)?);
            }
            start = end;
        }
        if start < rows {
            let none = weight.slice(0, 0, 1)?.squeeze(0)?;
            parts.push(x.slice(0, start, rows)?.linear(&none)?.multiply(0.0)?);
        }
        Tensor::concatenate(&parts.iter().collect::<Vec<_>>(), 0)
    }
}

#[test]
fn every_row_is_multiplied_by_the_matrix_of_its_expert() {
    for (counts, rows) in [
        (vec![5], 5),
        (vec![3, 0, 1, 9], 13),
        (vec![0, 0, 7], 7),
        (vec![1, 1, 1, 1], 4),
        // The counts do not reach all rows, or go beyond the rows.
        (vec![2, 3], 8),
        (vec![4, 9, 2], 6),
        (vec![0, 0], 3),
    ] {
        let experts = counts.len() as i32;
        let inputs = [random(1, &[rows, 6], 1.0), random(2, &[experts, 5, 6], 1.0)];
        let of = |way| Experts { counts: counts.clone(), way };
        let cotangent = [random(3, &[rows, 5], 1.0)];
        crate::cases::assert_gradients(&of(Way::Grouped), &of(Way::OneByOne), &inputs, &cotangent, 2e-6);
    }
}

#[test]
fn blocks_of_any_size_give_the_same() {
    let plain = [random(1, &[70, 20], 1.0), random(2, &[3, 70, 20], 1.0)];
    let adapters = [random(3, &[3, 20, 20], 1.0), random(4, &[3, 70, 20], 1.0)];
    let of = |way| Experts { counts: vec![40, 1, 20], way };
    for inputs in [plain.to_vec(), [plain, adapters].concat()] {
        for blocks in [[32, 32, 16], [64, 32, 32], [32, 64, 16], [64, 64, 16]] {
            let (found, expected) =
                (cases::outputs(&of(Way::Blocks(blocks)), &inputs), cases::outputs(&of(Way::OneByOne), &inputs));
            cases::assert_close(&format!("{blocks:?}"), &found[0], &expected[0], 4e-6);
        }
    }
}

#[test]
fn adapters_add_to_the_product() {
    // The last is too small for a kernel: a product with so few factors lies in another address space on Metal.
    for (counts, inputs, outputs, rank) in
        [(vec![3, 0, 4], 34, 5, 2), (vec![3, 0, 4], 5, 34, 8), (vec![3, 0, 4], 6, 7, 17), (vec![7], 6, 5, 2)]
    {
        let experts = counts.len() as i32;
        let of = |way| Experts { counts: counts.clone(), way };
        let all = [
            random(1, &[7, inputs], 1.0),
            random(2, &[experts, outputs, inputs], 1.0),
            random(3, &[experts, rank, inputs], 1.0),
            random(4, &[experts, outputs, rank], 1.0),
        ];
        let cotangent = [random(5, &[7, outputs], 1.0)];
        cases::assert_gradients(&of(Way::Grouped), &of(Way::OneByOne), &all, &cotangent, 3e-6);
        cases::assert_same_bits_again(&of(Way::Grouped), &all, &cotangent);
    }
}

#[test]
fn experts_of_codes_are_those_of_the_matrices_they_stand_for() {
    let affine = |group, bits| CodeFormat::new(CodeMode::Affine, Some(group), Some(bits)).unwrap();
    let others =
        [CodeMode::Mxfp4, CodeMode::Mxfp8, CodeMode::Nvfp4].map(|mode| CodeFormat::new(mode, None, None).unwrap());
    for format in [affine(32, 4), affine(64, 8), affine(32, 3)].into_iter().chain(others) {
        let mut parts = random(4, &[3, 8, 64], 1.0).quantize(format).unwrap().into_iter().map(Frozen::new);
        let (words, scales, biases) = (parts.next().unwrap(), parts.next().unwrap(), parts.next());
        let matrices = Packed::new(&words, &scales, biases.as_ref(), format, Dtype::F32).unwrap();
        let of = |way| Experts { counts: vec![2, 0, 5], way };
        let inputs = [random(1, &[7, 64], 1.0), random(5, &[3, 2, 64], 0.3), random(6, &[3, 8, 2], 0.3)];
        let cotangent = [random(3, &[7, 8], 1.0)];
        let (codes, decoded) = (of(Way::Codes(matrices.clone())), of(Way::Decoded(matrices)));
        crate::cases::assert_gradients(&codes, &decoded, &inputs[..1], &cotangent, 3e-6);
        crate::cases::assert_gradients(&codes, &decoded, &inputs, &cotangent, 3e-6);
    }
}

#[test]
fn occurrences_are_counted_and_out_of_range_numbers_are_refused() {
    let mut session = Session::new().unwrap();
    let experts = Indices::from_slice(&[3, 0, 3, 1, 3, 0], &[3, 2]).unwrap();
    let counts = experts.occurrences(5).unwrap();
    assert_eq!(counts.to_stored(&mut session).unwrap().to_vec::<i32>().unwrap(), [2, 1, 0, 3, 0]);
    let message = experts.occurrences(3).unwrap_err().to_string();
    assert!(message.contains("occurrences") && message.contains('3'), "{message}");
}

#[test]
fn what_does_not_fit_is_one_error() {
    let x = random(1, &[4, 6], 1.0);
    let refused = |weight: &[i32], counts: &[i32]| {
        let inputs = vec![x.clone(), random(2, weight, 1.0)];
        let experts = Experts { counts: counts.to_vec(), way: Way::Grouped };
        let mut session = Session::new().unwrap();
        let nothing: Vec<Tensor<cotangent::Stored>> = Vec::new();
        let call = |inputs: &Vec<Tensor<cotangent::Infer>>, _: &Vec<_>, experts: &Experts| experts.call(inputs);
        session.infer(&inputs, &nothing, &experts, call).unwrap_err().to_string()
    };
    for (weight, counts) in [(&[2, 5, 7][..], &[2, 2][..]), (&[2, 5, 6], &[4]), (&[5, 6], &[4])] {
        let message = refused(weight, counts);
        assert!(message.contains("grouped_linear") && message.contains("[R, K], [E, N, K] and [E]"), "{message}");
    }
}

#[test]
fn the_same_holds_in_the_emulator() {
    cases::assert_same_in_the_emulator(module_path!(), &[]);
}
