//! Rotation by tables of cosines and sines, whose gradients are wanted too.

use crate::cases::{
    Operator, TOLERANCE, assert_close, assert_finite_differences, assert_same_in_the_emulator, outputs, random,
};
use cotangent::{Graph, Indices, Result, Tensor};
use cotangent_kernels::{AxisChoice, Frequencies, Pairing, RotaryLayout, TableLayout, rotary};

/// x, cosines, sines.
#[derive(Clone, Copy)]
struct Rotary(RotaryLayout);

impl Operator for Rotary {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        Ok(vec![rotary(&inputs[0], &inputs[1], &inputs[2], self.0)?])
    }
}

const SECTIONS: [usize; 3] = [2, 1, 1];

/// Every layout of four frequencies, with the shapes of its tables for two rows of three tokens.
fn layouts() -> Vec<(RotaryLayout, Vec<i32>)> {
    let mut layouts = Vec::new();
    for pairing in [Pairing::HalfSplit, Pairing::EvenOdd] {
        for (table, width) in [(TableLayout::Half, 4), (TableLayout::Full, 8)] {
            for choice in [None, Some(AxisChoice::Sectioned(SECTIONS)), Some(AxisChoice::Interleaved(SECTIONS))] {
                let shape = if choice.is_none() { vec![2, 3, width] } else { vec![3, 2, 3, width] };
                layouts.push((RotaryLayout { pairing, table, choice }, shape));
            }
        }
    }
    layouts
}

#[test]
fn every_layout_is_the_rotation_written_out() {
    let (batch, heads, tokens, lanes) = (2, 2, 3, 11);
    for (layout, shape) in layouts() {
        let inputs = [random(1, &[batch, heads, tokens, lanes], 1.0), random(2, &shape, 1.0), random(3, &shape, 1.0)];
        let [x, cosine, sine] = inputs.each_ref().map(|tensor| tensor.to_vec::<f32>().unwrap());
        let axes = layout.choice.map_or(vec![0; 4], |choice| choice.axes(4).unwrap());
        let width = shape[shape.len() - 1];
        let mut expected = x.clone();
        for row in 0..(batch * heads * tokens) as usize {
            let place = row / (heads * tokens) as usize * tokens as usize + row % tokens as usize;
            for (frequency, axis) in axes.iter().enumerate() {
                let (left, right) = match layout.pairing {
                    Pairing::HalfSplit => (frequency, frequency + 4),
                    Pairing::EvenOdd => (2 * frequency, 2 * frequency + 1),
                };
                let table = (axis * batch * tokens) as usize + place;
                let value = |lane: usize| match layout.table {
                    TableLayout::Half => table * width as usize + frequency,
                    TableLayout::Full => table * width as usize + lane,
                };
                let (first, second) = (x[row * lanes as usize + left], x[row * lanes as usize + right]);
                expected[row * lanes as usize + left] = first * cosine[value(left)] - second * sine[value(left)];
                expected[row * lanes as usize + right] = second * cosine[value(right)] + first * sine[value(right)];
            }
        }
        let expected = Tensor::from_slice(&expected, inputs[0].shape()).unwrap();
        assert_close(&format!("{layout:?}"), &outputs(&Rotary(layout), &inputs)[0], &expected, TOLERANCE);
    }
}

#[test]
fn gradients_of_heads_and_tables_are_those_of_finite_differences() {
    for (layout, shape) in layouts() {
        let x = random(1, &[2, 2, 3, 9], 1.0);
        assert_finite_differences(&Rotary(layout), &[x, random(2, &shape, 1.0), random(3, &shape, 1.0)], 2e-3);
    }
}

/// Positions turned into angles by the other kernel.
#[derive(Clone)]
struct ByPosition(Frequencies, Indices);

impl Operator for ByPosition {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        Ok(vec![self.0.rotate(&inputs[0], &self.1)?])
    }
}

#[test]
fn tables_of_the_angles_rotate_as_the_frequencies_do() {
    let x = random(1, &[1, 2, 3, 11], 1.0);
    let positions = [[5, 900, 31], [7, 2, 100], [0, 1, 3]];
    for pairing in [Pairing::HalfSplit, Pairing::EvenOdd] {
        for choice in [AxisChoice::Sectioned(SECTIONS), AxisChoice::Interleaved(SECTIONS)] {
            let frequencies = Frequencies::with_layout(1e4, 8, choice, pairing).unwrap();
            let indices = Indices::from_slice(&positions.concat(), &[3, 1, 3]).unwrap();
            let expected = outputs(&ByPosition(frequencies, indices), std::slice::from_ref(&x));
            let table = |function: fn(f64) -> f64| {
                let angle =
                    |position: i32, frequency: i32| f64::from(position) * 1e4_f64.powf(-f64::from(frequency) / 4.0);
                let values: Vec<f32> = positions
                    .iter()
                    .flatten()
                    .flat_map(|&position| (0..4).map(move |frequency| function(angle(position, frequency)) as f32))
                    .collect();
                Tensor::from_slice(&values, &[3, 1, 3, 4]).unwrap()
            };
            let layout = RotaryLayout { pairing, table: TableLayout::Half, choice: Some(choice) };
            let found = outputs(&Rotary(layout), &[x.clone(), table(f64::cos), table(f64::sin)]);
            assert_close(&format!("{layout:?}"), &found[0], &expected[0], 2e-6);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let layout = |table, choice| RotaryLayout { pairing: Pairing::HalfSplit, table, choice };
    let mut session = cotangent::Session::new().unwrap();
    let mut refused = |layout, lanes: i32, shape: &[i32]| {
        let inputs = vec![random(1, &[1, 1, 3, lanes], 1.0), random(2, shape, 1.0), random(3, shape, 1.0)];
        let none = Vec::<Tensor<cotangent::Stored>>::new();
        let result = session.infer(&inputs, &none, &Rotary(layout), |x, _, operator| operator.call(x));
        result.map(|_| ()).unwrap_err().to_string()
    };
    for (layout, lanes, shape, expected) in [
        (layout(TableLayout::Half, None), 6, &[1, 3, 4][..], "heads of 6 lanes and tables of 4 values (Half)"),
        (layout(TableLayout::Full, None), 8, &[1, 3, 5], "heads of 8 lanes and tables of 5 values (Full)"),
        (layout(TableLayout::Half, None), 8, &[3, 1, 3, 4], "tables [3, 1, 3, 4], expected [B, S, W]"),
        (layout(TableLayout::Half, Some(AxisChoice::Sectioned([1, 1, 1]))), 8, &[3, 1, 3, 4], "sections of [1, 1, 1]"),
    ] {
        let message = refused(layout, lanes, shape);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn the_same_holds_in_the_emulator() {
    assert_same_in_the_emulator(module_path!(), &[]);
}
