//! Causal attention: the reference's values and gradients, the same in strips as whole, and its memory.

use crate::cases::{
    Cases, Operator, TOLERANCE, assert_close, assert_finite_differences, assert_gradients, assert_same_in_the_emulator,
    gradients, outputs, random,
};
use cotangent::Indices;
use cotangent::ops::Visible;
use cotangent::{Dtype, Graph, Mask, Result, Tensor};
use cotangent_kernels::Documents;
use cotangent_kernels::attention::{
    AttendOneQueryInputs, Strips, attend_one_query, causal_attention, causal_attention_in_strips, decode_attention,
};

/// queries, keys, values.
#[derive(Clone)]
struct Attention {
    scale: f32,
    lengths: Option<Vec<i32>>,
    strips: Strips,
}

impl Attention {
    fn new(head_dim: i32) -> Self {
        Attention { scale: (head_dim as f32).powf(-0.5), lengths: None, strips: Strips::new(cotangent::Backend::Cpu) }
    }
}

impl Operator for Attention {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let [q, k, v] = inputs else { unreachable!() };
        let of_lengths = |lengths: &Vec<i32>| Documents::from_lengths(lengths, q.dimension(2), k.dimension(2));
        let documents = self.lengths.as_ref().map(of_lengths).transpose()?;
        Ok(vec![causal_attention_in_strips(q, k, v, self.scale, documents.as_ref(), self.strips)?])
    }
}

/// The attention that a model calls: on GPUs and in the emulator the kernel in blocks, on CPUs strips.
#[derive(Clone)]
struct OfBackend {
    scale: f32,
    documents: Option<Vec<Vec<i32>>>,
}

impl Operator for OfBackend {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let [q, k, v] = inputs else { unreachable!() };
        let of_documents = |documents: &Vec<Vec<i32>>| Documents::new(documents, q.dimension(2), k.dimension(2));
        let documents = self.documents.as_ref().map(of_documents).transpose()?;
        Ok(vec![causal_attention(q, k, v, self.scale, documents.as_ref())?])
    }
}

/// MLX's own, for comparison.
#[derive(Clone)]
struct Whole {
    scale: f32,
}

impl Operator for Whole {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        Ok(vec![inputs[0].attention(&inputs[1], &inputs[2], self.scale, Visible::Causal)?])
    }
}

/// Strips of one query, of a few that do not divide the rows, and whole rows; with weights kept and computed again.
fn strips() -> Vec<Strips> {
    let of = |queries, kept_bytes| Strips { queries, kept_bytes, ..Strips::new(cotangent::Backend::Cpu) };
    [1, 3, 5, 64].into_iter().flat_map(|queries| [of(queries, 0), of(queries, usize::MAX)]).collect()
}

#[test]
fn agrees_with_the_reference_in_strips_of_any_size() {
    let cases = Cases::operators();
    // One query that sees all keys is causal too.
    for name in ["sdpa.causal.full", "sdpa.causal.offset", "sdpa.causal.ragged", "sdpa.decode.ragged"] {
        let case = cases.case(name);
        for strips in strips() {
            let attention = Attention { lengths: Some(case.integers("lengths")), strips, ..Attention::new(16) };
            case.check(&attention, &["q", "k", "v"], &["o"], TOLERANCE);
        }
    }
}

/// Each document alone, and zeros for what is padding.
#[derive(Clone)]
struct OneByOne {
    scale: f32,
    documents: Vec<Vec<i32>>,
}

impl Operator for OneByOne {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let [q, k, v] = inputs else { unreachable!() };
        let mut rows = Vec::new();
        for (row, lengths) in (0..).zip(&self.documents) {
            let (mut start, mut pieces) = (0, Vec::new());
            for length in lengths {
                let of = |x: &Tensor<M>| x.slice(0, row, row + 1)?.slice(2, start, start + length);
                pieces.push(of(q)?.attention(&of(k)?, &of(v)?, self.scale, Visible::Causal)?);
                start += length;
            }
            let padding = q.dimension(2) - start;
            rows.push(Tensor::concatenate(&pieces.iter().collect::<Vec<_>>(), 2)?.pad(2, 0, padding)?);
        }
        Ok(vec![Tensor::concatenate(&rows.iter().collect::<Vec<_>>(), 0)?])
    }
}

#[test]
fn agrees_with_the_reference_on_this_backend() {
    let cases = Cases::operators();
    for name in ["sdpa.causal.full", "sdpa.causal.offset", "sdpa.causal.ragged", "sdpa.decode.ragged"] {
        let case = cases.case(name);
        let documents = case.integers("lengths").into_iter().map(|length| vec![length]).collect();
        case.check(&OfBackend { scale: 0.25, documents: Some(documents) }, &["q", "k", "v"], &["o"], TOLERANCE);
    }
}

#[test]
fn packed_documents_do_not_see_each_other() {
    let documents = vec![vec![3, 17, 1, 16], vec![20, 15]];
    let inputs = [random(1, &[2, 4, 37, 32], 1.0), random(2, &[2, 2, 37, 32], 1.0), random(3, &[2, 2, 37, 16], 1.0)];
    let cotangent = [random(4, &[2, 4, 37, 16], 1.0)];
    let expected = OneByOne { scale: 0.2, documents: documents.clone() };
    let found = OfBackend { scale: 0.2, documents: Some(documents) };
    assert_gradients(&found, &expected, &inputs, &cotangent, 2e-6);
}

#[test]
fn one_token_attends_to_itself() {
    let inputs = [random(1, &[1, 2, 1, 16], 1.0), random(2, &[1, 1, 1, 16], 1.0), random(3, &[1, 1, 1, 16], 1.0)];
    let gradients = gradients(&OfBackend { scale: 0.25, documents: None }, &inputs, &[random(4, &[1, 2, 1, 16], 1.0)]);
    for gradient in &gradients[..2] {
        assert!(gradient.to_vec::<f32>().unwrap().iter().all(|slope| slope.abs() < 1e-6), "nothing to choose from");
    }
}

/// Half precision through tiles: products exact, sums in float32, weights rounded once.
#[test]
fn half_precision_stays_near_float32_on_this_backend() {
    for (dtype, width) in [(Dtype::BF16, 32), (Dtype::F16, 32), (Dtype::BF16, 256)] {
        let of = |seed, heads, tokens| random(seed, &[1, heads, tokens, width], 1.0).cast(dtype).unwrap();
        let inputs = [of(1, 2, 35), of(2, 1, 40), of(3, 1, 40)];
        let cotangent = [of(4, 2, 35)];
        let wide = inputs.clone().map(|input| input.cast(Dtype::F32).unwrap());
        let wide_cotangent = cotangent.clone().map(|cotangent| cotangent.cast(Dtype::F32).unwrap());
        let operator = OfBackend { scale: (width as f32).powf(-0.5), documents: None };
        let expected = gradients(&operator, &wide, &wide_cotangent);
        assert_close("output", &outputs(&operator, &inputs)[0], &outputs(&operator, &wide)[0], 1e-2);
        for (found, expected) in gradients(&operator, &inputs, &cotangent).iter().zip(&expected) {
            assert_eq!(found.dtype(), dtype);
            assert_close("gradient", found, expected, 1e-2);
        }
    }
}

/// queries, keys, values: the last query of each row over a cache padded on the left.
#[derive(Clone)]
struct Decode {
    scale: f32,
    pads: Vec<i32>,
    sections: Option<usize>,
}

impl Operator for Decode {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let [q, k, v] = inputs else { unreachable!() };
        let pads = Indices::from_slice(&self.pads, &[self.pads.len() as i32])?;
        Ok(vec![match self.sections {
            Some(sections) => attend_one_query(AttendOneQueryInputs {
                queries: q,
                keys: k,
                values: v,
                pads: &pads,
                scale: self.scale,
                sections,
            })?,
            None => decode_attention(q, k, v, &pads, self.scale)?,
        }])
    }
}

/// Each row alone, without its padding.
#[derive(Clone)]
struct RowByRow {
    scale: f32,
    pads: Vec<i32>,
}

impl Operator for RowByRow {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let [q, k, v] = inputs else { unreachable!() };
        let mut rows = Vec::new();
        for (row, pad) in (0..).zip(&self.pads) {
            let of = |x: &Tensor<M>| x.slice(0, row, row + 1);
            let behind = |x: &Tensor<M>| of(x)?.slice(2, *pad, x.dimension(2));
            rows.push(of(q)?.attention(&behind(k)?, &behind(v)?, self.scale, Visible::All)?);
        }
        Ok(vec![Tensor::concatenate(&rows.iter().collect::<Vec<_>>(), 0)?])
    }
}

#[test]
fn decoding_agrees_with_the_reference_on_this_backend() {
    let cases = Cases::operators();
    let case = cases.case("sdpa.decode.ragged");
    for sections in [Some(1), Some(2), Some(7), None] {
        let decode = Decode { scale: 0.25, pads: vec![0; 3], sections };
        case.check(&decode, &["q", "k", "v"], &["o"], TOLERANCE);
    }
}

#[test]
fn decoding_sees_nothing_of_the_padding() {
    let pads = vec![0, 7, 36];
    let inputs = [random(1, &[3, 4, 1, 40], 1.0), random(2, &[3, 2, 37, 40], 1.0), random(3, &[3, 2, 37, 33], 1.0)];
    let cotangent = [random(4, &[3, 4, 1, 33], 1.0)];
    let expected = RowByRow { scale: 0.2, pads: pads.clone() };
    for sections in [Some(1), Some(3), Some(40), None] {
        let found = Decode { scale: 0.2, pads: pads.clone(), sections };
        assert_gradients(&found, &expected, &inputs, &cotangent, 2e-6);
    }
}

#[test]
fn decoding_a_row_of_padding_gives_zero_without_a_gradient() {
    let inputs = [random(1, &[1, 2, 1, 16], 1.0), random(2, &[1, 1, 5, 16], 1.0), random(3, &[1, 1, 5, 16], 1.0)];
    for sections in [1, 2] {
        let decode = Decode { scale: 0.2, pads: vec![5], sections: Some(sections) };
        let output = outputs(&decode, &inputs);
        let gradients = gradients(&decode, &inputs, &[random(4, &[1, 2, 1, 16], 1.0)]);
        for zero in output.iter().chain(&gradients) {
            assert!(zero.to_vec::<f32>().unwrap().iter().all(|value| *value == 0.0));
        }
    }
}

/// A process has one backend, so this is another process.
#[test]
fn the_same_holds_in_the_emulator() {
    let tests = [
        "agrees_with_the_reference_on_this_backend",
        "packed_documents_do_not_see_each_other",
        "one_token_attends_to_itself",
        "half_precision_stays_near_float32_on_this_backend",
        "decoding_agrees_with_the_reference_on_this_backend",
        "decoding_sees_nothing_of_the_padding",
        "decoding_a_row_of_padding_gives_zero_without_a_gradient",
    ];
    assert_same_in_the_emulator(module_path!(), &tests);
}

/// The runtime's attention without an order, as a vision tower has it: all see all keys that count.
#[derive(Clone)]
struct Unordered {
    scale: f32,
    /// `[B, 1, 1, S]` and `[B, 1, T, 1]`.
    counts: (Mask, Mask),
}

impl Operator for Unordered {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let [q, k, v] = inputs else { unreachable!() };
        let (keys, queries) = &self.counts;
        Ok(vec![q.attention(k, v, self.scale, Visible::Where(keys))?.select(queries, 0.0)?])
    }
}

#[test]
fn attention_without_an_order_agrees_with_the_reference() {
    let cases = Cases::operators();
    let case = cases.case("sdpa.bidirectional");
    let tokens = case.input("q").shape()[2];
    let lengths = case.integers("lengths");
    let counts: Vec<bool> = lengths.iter().flat_map(|length| (0..tokens).map(move |token| token < *length)).collect();
    let mask = |shape: [i32; 4]| Mask::from_slice(&counts, &shape).unwrap();
    let rows = lengths.len() as i32;
    let counts = (mask([rows, 1, 1, tokens]), mask([rows, 1, tokens, 1]));
    case.check(&Unordered { scale: 16_f32.powf(-0.5), counts }, &["q", "k", "v"], &["o"], TOLERANCE);
}

#[test]
fn padding_on_the_right_needs_no_mask() {
    let case = Cases::operators();
    let case = case.case("sdpa.causal.ragged");
    let inputs = case.inputs(&["q", "k", "v"]);
    let found = &outputs(&Attention::new(16), &inputs)[0].to_vec::<f32>().unwrap();
    let expected = case.output("o").to_vec::<f32>().unwrap();
    let (heads, steps, width) = (4, 17, 16);
    for (row, length) in case.integers("lengths").into_iter().enumerate() {
        for head in 0..heads {
            let start = (row * heads + head) * steps * width;
            for index in start..start + length as usize * width {
                assert!((found[index] - expected[index]).abs() <= 1e-5, "row {row}, head {head}");
            }
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for (heads, key_heads, queries, keys, strip) in [(1, 1, 1, 1, 1), (2, 1, 5, 5, 2), (4, 2, 6, 9, 4)] {
        let inputs = [
            random(1, &[2, heads, queries, 8], 1.0),
            random(2, &[2, key_heads, keys, 8], 1.0),
            random(3, &[2, key_heads, keys, 4], 1.0),
        ];
        for kept_bytes in [0, usize::MAX] {
            let strips = Strips { queries: strip, kept_bytes, ..Strips::new(cotangent::Backend::Cpu) };
            assert_finite_differences(&Attention { strips, ..Attention::new(8) }, &inputs, 3e-3);
        }
    }
}

#[test]
fn strips_change_nothing() {
    let inputs = [random(1, &[2, 4, 150, 16], 1.0), random(2, &[2, 2, 150, 16], 1.0), random(3, &[2, 2, 150, 16], 1.0)];
    let cotangent = [random(4, &[2, 4, 150, 16], 1.0)];
    let whole = Whole { scale: 0.25 };
    for queries in [1, 7, 64, 149, 150] {
        for kept_bytes in [0, usize::MAX] {
            let strips = Strips { queries, kept_bytes, ..Strips::new(cotangent::Backend::Cpu) };
            assert_gradients(&Attention { strips, ..Attention::new(16) }, &whole, &inputs, &cotangent, 2e-6);
        }
    }
    // A strip gets the bytes of seven queries of 2 rows and 4 heads over 150 keys.
    let strips = Strips { bytes: 7 * 4 * 2 * 4 * 150, ..Strips::new(cotangent::Backend::Cpu) };
    assert_gradients(&Attention { strips, ..Attention::new(16) }, &whole, &inputs, &cotangent, 2e-6);
}

#[test]
fn bfloat16_stays_near_float32() {
    let inputs = [random(1, &[1, 4, 90, 64], 1.0), random(2, &[1, 2, 90, 64], 1.0), random(3, &[1, 2, 90, 64], 1.0)]
        .map(|input| input.cast(Dtype::BF16).unwrap());
    let wide = inputs.clone().map(|input| input.cast(Dtype::F32).unwrap());
    let cotangent = [random(4, &[1, 4, 90, 64], 1.0).cast(Dtype::BF16).unwrap()];
    let wide_cotangent = cotangent.clone().map(|cotangent| cotangent.cast(Dtype::F32).unwrap());
    let expected = gradients(&Attention::new(64), &wide, &wide_cotangent);
    for kept_bytes in [0, usize::MAX] {
        let attention =
            Attention { strips: Strips { kept_bytes, ..Strips::new(cotangent::Backend::Cpu) }, ..Attention::new(64) };
        let output = &outputs(&attention, &inputs)[0];
        assert_eq!(output.dtype(), Dtype::BF16);
        assert_close("output", output, &outputs(&attention, &wide)[0], 1e-2);
        for (found, expected) in gradients(&attention, &inputs, &cotangent).iter().zip(&expected) {
            assert_eq!(found.dtype(), Dtype::BF16);
            assert_close("gradient", found, expected, 1e-2);
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    for (queries, keys, values) in [
        ([1, 3, 4, 8], [1, 2, 4, 8], [1, 2, 4, 8]),
        ([1, 2, 5, 8], [1, 2, 4, 8], [1, 2, 4, 8]),
        ([1, 2, 4, 8], [1, 2, 4, 6], [1, 2, 4, 8]),
        ([1, 2, 4, 8], [1, 2, 4, 8], [1, 2, 3, 8]),
        ([2, 2, 4, 8], [1, 2, 4, 8], [1, 2, 4, 8]),
    ] {
        let inputs = [random(1, &queries, 1.0), random(2, &keys, 1.0), random(3, &values, 1.0)];
        let result = std::panic::catch_unwind(|| outputs(&Attention::new(8), &inputs));
        assert!(result.is_err(), "{queries:?} {keys:?} {values:?}");
    }
}
