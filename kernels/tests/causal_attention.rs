//! Causal attention: the reference's values and gradients, the same in strips as whole, and its memory.

mod cases;

use cases::{Case, Cases, Operator, TOLERANCE, assert_close, assert_finite_differences, assert_gradients, random};
use cotangent::{Graph, Result, Tensor, memory};
use cotangent_kernels::attention::{causal_attention, causal_attention_in_strips};

/// queries, keys, values.
#[derive(Clone)]
struct Attention {
    scale: f32,
    lengths: Option<Vec<i32>>,
    strip_bytes: Option<usize>,
}

impl Attention {
    fn new(head_dim: i32) -> Self {
        Attention { scale: (head_dim as f32).powf(-0.5), lengths: None, strip_bytes: None }
    }
}

impl Operator for Attention {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let [q, k, v] = inputs else { unreachable!() };
        let lengths = self.lengths.as_deref();
        Ok(vec![match self.strip_bytes {
            Some(bytes) => causal_attention_in_strips(q, k, v, self.scale, lengths, bytes)?,
            None => causal_attention(q, k, v, self.scale, lengths)?,
        }])
    }
}

/// Strips of one query, of a few that do not divide the rows, and whole rows.
fn strips(case: &Case<'_>) -> [Option<usize>; 4] {
    let (q, k) = (case.input("q"), case.input("k"));
    let query = (4 * q.dimension(0) * q.dimension(1) * k.dimension(2)) as usize;
    [Some(1), Some(3 * query), Some(5 * query), None]
}

#[test]
fn agrees_with_the_reference_in_strips_of_any_size() {
    let cases = Cases::operators();
    // One query that sees all keys is causal too; `sdpa.bidirectional` is not this operator.
    for name in ["sdpa.causal.full", "sdpa.causal.offset", "sdpa.causal.ragged", "sdpa.decode.ragged"] {
        let case = cases.case(name);
        for strip_bytes in strips(&case) {
            let attention =
                Attention { lengths: Some(case.integers("lengths")), strip_bytes, ..Attention::new(16) };
            case.check(&attention, &["q", "k", "v"], &["o"], TOLERANCE);
        }
    }
}

#[test]
fn padding_on_the_right_needs_no_mask() {
    let case = Cases::operators();
    let case = case.case("sdpa.causal.ragged");
    let inputs = case.inputs(&["q", "k", "v"]);
    let found = &cases::outputs(&Attention::new(16), &inputs)[0].to_vec::<f32>().unwrap();
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
    for (heads, key_heads, queries, keys, strip) in [(1, 1, 1, 1, 1), (2, 1, 5, 5, 80), (4, 2, 6, 9, 500)] {
        let inputs = [
            random(1, &[2, heads, queries, 8], 1.0),
            random(2, &[2, key_heads, keys, 8], 1.0),
            random(3, &[2, key_heads, keys, 4], 1.0),
        ];
        let attention = Attention { strip_bytes: Some(strip), ..Attention::new(8) };
        assert_finite_differences(&attention, &inputs, 3e-3);
    }
}

#[test]
fn strips_change_nothing() {
    let inputs = [random(1, &[2, 4, 150, 16], 1.0), random(2, &[2, 2, 150, 16], 1.0), random(3, &[2, 2, 150, 16], 1.0)];
    let whole = Attention::new(16);
    for rows in [1, 7, 64, 149] {
        let strips = Attention { strip_bytes: Some(rows * 4 * 2 * 4 * 150), ..whole.clone() };
        assert_gradients(&strips, &whole, &inputs, &[random(4, &[2, 4, 150, 16], 1.0)], 2e-6);
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
        let result = std::panic::catch_unwind(|| cases::outputs(&Attention::new(8), &inputs));
        assert!(result.is_err(), "{queries:?} {keys:?} {values:?}");
    }
}

#[test]
fn memory_is_linear_in_the_length() {
    let (heads, length, width) = (2, 4096, 16);
    let inputs = [1, 2, 3].map(|seed| random(seed, &[1, heads, length, width], 1.0));
    let attention = Attention { strip_bytes: Some(4 << 20), ..Attention::new(width) };
    let cotangent = random(4, &[1, heads, length, width], 1.0);
    memory::reset_peak().unwrap();
    let before = memory::active().unwrap();
    let gradients = cases::gradients(&attention, &inputs, std::slice::from_ref(&cotangent));
    let peak = memory::peak().unwrap() - before;
    let scores = (4 * heads * length * length) as usize;
    assert!(peak <= scores / 3, "{} MiB, of {} MiB of scores", peak >> 20, scores >> 20);

    // And it is right there: the first queries do not see the rest.
    let short = inputs.clone().map(|input| head_of(&input, 64));
    let expected = cases::outputs(&attention, &short);
    let found = cases::outputs(&attention, &inputs);
    assert_close("the first queries", &head_of(&found[0], 64), &expected[0], TOLERANCE);
    assert!(gradients.iter().all(|gradient| gradient.to_vec::<f32>().unwrap().iter().all(|value| value.is_finite())));
}

/// The first steps of `[1, H, T, D]`.
fn head_of(x: &Tensor<cotangent::Stored>, steps: usize) -> Tensor<cotangent::Stored> {
    let &[_, heads, length, width] = x.shape() else { unreachable!() };
    let values = x.to_vec::<f32>().unwrap();
    let kept: Vec<f32> =
        values.chunks((length * width) as usize).flat_map(|head| &head[..steps * width as usize]).copied().collect();
    Tensor::from_slice(&kept, &[1, heads, steps as i32, width]).unwrap()
}
