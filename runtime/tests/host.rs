//! What the CPU computes in Rust is what MLX computes, whatever the sizes and however many threads.

use cotangent::host::{self, Formula};
use cotangent::{Backend, CodeFormat, CodeMode, Dtype, Frozen, Infer, Packed, Result, Session, Stored, Tensor};

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
        assert!(host::cross_entropy_rows(&half.reshape(&[2, 4])?, &[0, 0])?.is_none());
        Ok(Vec::new())
    });
}

#[test]
fn the_cross_entropy_of_rows_is_that_of_float64() {
    for shape in [[1, 1], [3, 5], [2, 16], [7, 33], [300, 257]] {
        let values = spread((shape[0] * shape[1]) as usize, 5);
        let outputs = on_cpu(&[stored(&values, &shape)], |inputs, _, ()| {
            let (rows, width) = (inputs[0].dimension(0), inputs[0].dimension(1));
            let labels: Vec<i32> = (0..rows).map(|row| row * 7 % width).collect();
            let rows = host::cross_entropy_rows(&inputs[0], &labels)?.expect("the CPU computes float32 itself");
            Ok(vec![rows.losses, rows.slopes])
        });
        let Some(outputs) = outputs else { return };
        let width = shape[1] as usize;
        for (row, values) in values.chunks(width).enumerate() {
            let label = row * 7 % width;
            let sum: f64 = values.iter().map(|value| f64::from(*value).exp()).sum();
            for (index, (slope, value)) in outputs[1][row * width..].iter().zip(values).enumerate() {
                let probability = f64::from(*value).exp() / sum;
                let expected = probability - f64::from(u8::from(index == label));
                // Scores up to 16 below the largest are rounded to 2^-21 before the exponential, which, like the sum, may
                // be off by two units; three more roundings follow. At the label 1 was taken away, and its rounding stays.
                let bound = if index == label { 2e-7 } else { 1.2e-6 * probability };
                let error = (f64::from(*slope) - expected).abs();
                assert!(error <= bound, "slope {index} of row {row}: {slope}, expected {expected}");
            }
            // The loss is a sum of the largest score (up to 8) and a logarithm, which may cancel.
            let error = (f64::from(outputs[0][row]) - (sum.ln() - f64::from(values[label]))).abs();
            assert!(error <= 4e-7 * 16.0, "loss of row {row}: off by {error}");
        }
    }
}

#[test]
fn what_a_mask_hides_has_no_slope_and_rows_of_no_number_stay_so() {
    let masked = [0.5, f32::NEG_INFINITY, 1.5, f32::NAN, 1.0, 2.0];
    let outputs = on_cpu(&[stored(&masked, &[2, 3])], |inputs, _, ()| {
        let rows = host::cross_entropy_rows(&inputs[0], &[2, 1])?.expect("float32 on the CPU");
        Ok(vec![rows.losses, rows.slopes])
    });
    let Some(outputs) = outputs else { return };
    assert_eq!(outputs[1][1], 0.0);
    assert!((outputs[1][0] + outputs[1][2]).abs() < 1e-6);
    assert!(outputs[0][1].is_nan() && outputs[1][3..].iter().all(|slope| slope.is_nan()));
}

#[test]
fn a_label_beyond_the_vocabulary_is_refused() {
    let outputs = on_cpu(&[stored(&spread(6, 1), &[2, 3])], |inputs, _, ()| {
        for (labels, expected) in [(&[0, 3][..], "3"), (&[-100, 0], "-100"), (&[0], "1 labels")] {
            let error = host::cross_entropy_rows(&inputs[0], labels).map(drop).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        Ok(Vec::new())
    });
    assert!(outputs.is_none_or(|outputs| outputs.is_empty()));
}

/// The codes of a matrix in a format, with every scale that a byte can be where scales are bytes.
fn packed(format: CodeFormat, shape: &[i32]) -> Packed {
    let columns = *shape.last().unwrap() as usize;
    let count: usize = shape.iter().map(|extent| *extent as usize).product();
    let mut state = 1_u32;
    let mut words = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state ^ state >> 15
    };
    let with = |last: usize| [&shape[..shape.len() - 1], &[last as i32]].concat();
    let codes: Vec<u32> = (0..count * format.bits() / 32).map(|_| words()).collect();
    let codes = Frozen::new(Tensor::from_slice(&codes, &with(format.words(columns))).unwrap());
    let of_groups = with(columns / format.group_size());
    let groups = count / format.group_size();
    let (scales, biases) = if format.has_biases() {
        let parts = [0, 11].map(|start| Frozen::new(stored(&spread(groups, start), &of_groups)));
        let [scales, biases] = parts;
        (scales, Some(biases))
    } else {
        let bytes: Vec<u8> = (0..groups).map(|group| group as u8).collect();
        (Frozen::new(Tensor::from_slice(&bytes, &of_groups).unwrap()), None)
    };
    Packed::new(&codes, &scales, biases.as_ref(), format, Dtype::F32).unwrap()
}

#[test]
fn decoded_codes_have_the_bits_of_mlx() {
    let mut session = Session::new().unwrap();
    let affine = [2, 3, 4, 5, 6, 8].into_iter().flat_map(|bits| [32, 64, 128].map(|group| (bits, group)));
    let affine = affine.map(|(bits, group)| CodeFormat::new(CodeMode::Affine, Some(group), Some(bits)));
    let floats = [CodeMode::Mxfp4, CodeMode::Mxfp8, CodeMode::Nvfp4].map(|mode| CodeFormat::new(mode, None, None));
    for format in affine.chain(floats).map(Result::unwrap) {
        // MLX refuses rows of half a block of 32.
        let group = format.group_size().max(32) as i32;
        // The cases are one group, an odd number of groups, several matrices, and more than one thread takes, unevenly.
        for shape in [&[1, group][..], &[3, 5 * group], &[2, 3, 2 * group], &[257, 384]] {
            let matrix = packed(format, shape);
            let nothing = stored(&[0.0], &[1]);
            let decoded = session.infer(&nothing, &nothing, &matrix, |_, _, matrix: &Packed| {
                let ours = host::decode_codes(matrix, Dtype::F32)?;
                Ok(vec![ours.unwrap_or(matrix.decode(Dtype::F32)?).to_tensor(), matrix.decode(Dtype::F32)?.to_tensor()])
            });
            let [ours, of_mlx] = &decoded.unwrap()[..] else { unreachable!("two tensors") };
            assert_eq!(ours.shape(), shape);
            let [ours, of_mlx] = [ours, of_mlx].map(|tensor| tensor.to_vec::<f32>().unwrap());
            for (index, (ours, of_mlx)) in ours.into_iter().zip(of_mlx).enumerate() {
                // Infinity times zero is no number, with a sign or without.
                let same = ours.to_bits() == of_mlx.to_bits() || (ours.is_nan() && of_mlx.is_nan());
                assert!(same, "{format}, {shape:?}, element {index}: {ours}, expected {of_mlx}");
            }
        }
    }
}

#[test]
fn a_leaf_has_the_values_of_what_it_came_from_wherever_they_lie() {
    let x = spread(24, 2);
    let outputs = on_cpu(&[stored(&x, &[2, 3, 4])], |inputs, _, ()| {
        let views = [
            inputs[0].clone(),
            inputs[0].swap_axes(0, 2)?,
            inputs[0].slice(1, 1, 3)?,
            inputs[0].slice(2, 1, 2)?.broadcast_to(&[2, 3, 4])?,
            inputs[0].sum_all()?,
        ];
        let pairs = views.iter().map(|view| Ok([host::leaf(view)?, view.clone()]));
        Ok(pairs.collect::<Result<Vec<_>>>()?.concat())
    });
    for pair in outputs.unwrap_or_default().chunks(2) {
        assert_eq!(pair[0], pair[1]);
    }
}
