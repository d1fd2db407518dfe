//! What the CPU computes in Rust is what MLX computes, whatever the sizes and however many threads.

use cotangent::host::{self, Formula};
use cotangent::{Backend, Dtype, Infer, Result, Session, Stored, Tensor};

/// `x sigmoid(y)` and `x + y`.
struct GateAndSum;

impl Formula<2, 2> for GateAndSum {
    #[inline(always)]
    fn of(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        [x * host::sigmoid(y), x + y]
    }
}

/// Numbers between -8 and 8, in no order.
fn spread(count: usize, start: usize) -> Vec<f32> {
    (0..count).map(|index| (((index + start) * 7919) % 1601) as f32 / 100.0 - 8.0).collect()
}

fn stored(values: &[f32], shape: &[i32]) -> Tensor<Stored> {
    Tensor::from_slice(values, shape).unwrap()
}

/// Runs `function` on the tensors in a graph without gradients, if this is the CPU backend.
fn on_cpu(
    inputs: &[Tensor<Stored>],
    function: fn(&Vec<Tensor<Infer>>, &Vec<Tensor<Infer>>, &()) -> Result<Vec<Tensor<Infer>>>,
) -> Option<Vec<Vec<f32>>> {
    let mut session = Session::new().unwrap();
    if session.backend() != Backend::Cpu {
        return None;
    }
    let outputs = session.infer(&inputs.to_vec(), &Vec::<Tensor<Stored>>::new(), &(), function).unwrap();
    Some(outputs.iter().map(|output| output.to_vec::<f32>().unwrap()).collect())
}

fn assert_close(found: &[f32], expected: impl Iterator<Item = f64>, subject: &str) {
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let bound = 4e-7 * expected.abs().max(1e-3);
        assert!(
            (f64::from(*found) - expected).abs() <= bound,
            "{subject}, element {index}: {found}, expected {expected}"
        );
    }
}

#[test]
fn a_formula_reaches_every_element_of_every_length() {
    for count in [1, 2, 63, 64, 65, 127, 1000, 32_767, 32_768, 65_537, 200_001] {
        let (x, y) = (spread(count, 0), spread(count, 11));
        let shape = [count as i32];
        let outputs = on_cpu(&[stored(&x, &shape), stored(&y, &shape)], |inputs, _, ()| {
            let results = host::elementwise([&inputs[0], &inputs[1]], &GateAndSum)?;
            Ok(results.expect("the CPU computes float32 itself").to_vec())
        });
        let Some(outputs) = outputs else { return };
        let sigmoid = |y: f32| 1.0 / (1.0 + (-f64::from(y)).exp());
        assert_eq!(outputs[0].len(), count);
        assert_close(&outputs[0], x.iter().zip(&y).map(|(x, y)| f64::from(*x) * sigmoid(*y)), "gate");
        assert_close(&outputs[1], x.iter().zip(&y).map(|(x, y)| f64::from(x + y)), "sum");
    }
}

#[test]
fn operands_are_read_in_row_major_order_wherever_they_lie() {
    let x = spread(6, 3);
    let outputs = on_cpu(&[stored(&x, &[2, 3])], |inputs, _, ()| {
        let turned = inputs[0].swap_axes(0, 1)?;
        Ok(host::elementwise([&turned, &turned], &GateAndSum)?.expect("float32 on the CPU").to_vec())
    });
    let Some(outputs) = outputs else { return };
    let turned = [x[0], x[3], x[1], x[4], x[2], x[5]];
    assert_close(&outputs[1], turned.iter().map(|x| f64::from(2.0 * x)), "turned");
}

#[test]
fn operands_of_different_shapes_are_refused() {
    let outputs = on_cpu(&[stored(&[1.0, 2.0], &[2]), stored(&[1.0, 2.0, 3.0], &[3])], |inputs, _, ()| {
        let error = host::elementwise([&inputs[0], &inputs[1]], &GateAndSum).map(drop).unwrap_err();
        assert!(error.to_string().contains("expected one shape"), "{error}");
        Ok(Vec::new())
    });
    assert!(outputs.is_none_or(|outputs| outputs.is_empty()));
}

#[test]
fn other_dtypes_are_left_to_operations() {
    on_cpu(&[stored(&spread(8, 0), &[8])], |inputs, _, ()| {
        let half = inputs[0].cast(Dtype::BF16)?;
        assert!(host::elementwise([&half, &half], &GateAndSum)?.is_none());
        assert!(host::softmax_rows(&half)?.is_none());
        Ok(Vec::new())
    });
}

#[test]
fn the_softmax_of_rows_is_that_of_float64() {
    for shape in [[1, 1], [3, 5], [2, 16], [7, 33], [300, 257]] {
        let values = spread((shape[0] * shape[1]) as usize, 5);
        let outputs = on_cpu(&[stored(&values, &shape)], |inputs, _, ()| {
            let rows = host::softmax_rows(&inputs[0])?.expect("the CPU computes float32 itself");
            Ok(vec![rows.probabilities, rows.log_sum_exp])
        });
        let Some(outputs) = outputs else { return };
        for (row, values) in values.chunks(shape[1] as usize).enumerate() {
            let sum: f64 = values.iter().map(|value| f64::from(*value).exp()).sum();
            let probabilities = &outputs[0][row * values.len()..][..values.len()];
            assert_close(probabilities, values.iter().map(|value| f64::from(*value).exp() / sum), "probability");
            // A sum of the largest score, up to 8, and a logarithm: it may cancel.
            let error = (f64::from(outputs[1][row]) - sum.ln()).abs();
            assert!(error <= 4e-7 * 8.0, "log-sum-exp of row {row}: off by {error}");
        }
    }
}

#[test]
fn what_a_mask_hides_has_probability_zero_and_rows_of_no_number_stay_so() {
    let masked = [0.5, f32::NEG_INFINITY, 1.5, f32::NEG_INFINITY];
    let outputs = on_cpu(&[stored(&masked, &[1, 4]), stored(&[f32::NAN, 1.0], &[1, 2])], |inputs, _, ()| {
        inputs.iter().map(|row| Ok(host::softmax_rows(row)?.expect("float32 on the CPU").probabilities)).collect()
    });
    let Some(outputs) = outputs else { return };
    assert_eq!((outputs[0][1], outputs[0][3]), (0.0, 0.0));
    assert!((outputs[0][0] + outputs[0][2] - 1.0).abs() < 1e-6);
    assert!(outputs[1].iter().all(|value| value.is_nan()));
}
