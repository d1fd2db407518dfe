//! Rotary position embedding against float64, at positions up to 4000.

use crate::cases::{
    Cases, Operator, assert_close, assert_finite_differences, assert_same_in_the_emulator, gradients, outputs, random,
};
use cotangent::{Graph, Indices, Result, Tensor};
use cotangent_kernels::{AxisChoice, Frequencies, Pairing};

/// A bound that a naively formed float32 angle would exceed at these positions.
const TOLERANCE: f32 = 2e-6;

#[derive(Clone)]
struct MRope {
    frequencies: Frequencies,
    positions: Indices,
}

impl Operator for MRope {
    /// The reference has tokens before heads.
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        inputs.iter().map(|x| self.frequencies.rotate(&x.swap_axes(1, 2)?, &self.positions)?.swap_axes(1, 2)).collect()
    }
}

#[test]
fn mrope_matches_the_reference() {
    let references = Cases::operators();
    for (name, section) in [("partial", [2, 1, 1]), ("qwen35", [11, 11, 10]), ("full", [4, 2, 2])] {
        let case = references.case(&format!("mrope.{name}"));
        let rotary_dim = case.number("rotary_dim").unwrap() as usize;
        let shape = case.input("positions").shape().to_vec();
        let operator = MRope {
            frequencies: Frequencies::new(case.number("theta").unwrap(), rotary_dim, section).unwrap(),
            positions: Indices::from_slice(&case.integers("positions"), &shape).unwrap(),
        };
        case.check(&operator, &["q", "k"], &["q", "k"], TOLERANCE);
    }
}

#[test]
fn tokens_with_one_position_turn_as_those_with_three_equal_ones() {
    let frequencies = Frequencies::new(1e4, 8, [2, 1, 1]).unwrap();
    let positions = [5, 999, 70_000, 1, 2, 3];
    let once = MRope { frequencies: frequencies.clone(), positions: Indices::from_slice(&positions, &[2, 3]).unwrap() };
    let thrice = MRope { frequencies, positions: Indices::from_slice(&positions.repeat(3), &[3, 2, 3]).unwrap() };
    let x = [random(3, &[2, 3, 2, 11], 1.0)];
    assert_close("one position", &outputs(&once, &x)[0], &outputs(&thrice, &x)[0], 0.0);
    assert_close("its gradient", &gradients(&once, &x, &x)[0], &gradients(&thrice, &x, &x)[0], 0.0);
}

#[test]
fn even_and_odd_lanes_turn_as_the_halves_of_a_reordered_head() {
    let positions = Indices::from_slice(&[5, 999, 70_000, 1, 2, 3, 9, 8, 7], &[3, 1, 3]).unwrap();
    for choice in [AxisChoice::Interleaved([2, 1, 1]), AxisChoice::Sectioned([2, 1, 1])] {
        let with = |pairing| MRope {
            frequencies: Frequencies::with_layout(1e4, 8, choice, pairing).unwrap(),
            positions: positions.clone(),
        };
        let x = random(3, &[1, 3, 2, 11], 1.0);
        let reorder = |tensor: &Tensor<cotangent::Stored>, lanes: [usize; 8]| {
            let values = tensor.to_vec::<f32>().unwrap();
            let heads =
                values.chunks(11).flat_map(|head| lanes.iter().map(|&lane| head[lane]).chain(head[8..].to_vec()));
            Tensor::from_slice(&heads.collect::<Vec<_>>(), tensor.shape()).unwrap()
        };
        let halves = outputs(&with(Pairing::HalfSplit), &[reorder(&x, [0, 2, 4, 6, 1, 3, 5, 7])]);
        let expected = reorder(&halves[0], [0, 4, 1, 5, 2, 6, 3, 7]);
        assert_close("even-odd", &outputs(&with(Pairing::EvenOdd), std::slice::from_ref(&x))[0], &expected, 1e-6);
        assert_finite_differences(&with(Pairing::EvenOdd), &[x], 2e-3);
    }
}

#[test]
fn rotating_by_equal_positions_keeps_inner_products() {
    let frequencies = Frequencies::new(1e7, 8, [2, 1, 1]).unwrap();
    let far = |position: i32| MRope {
        frequencies: frequencies.clone(),
        positions: Indices::from_slice(&[position; 3], &[3, 1, 1]).unwrap(),
    };
    let heads = [random(1, &[1, 1, 1, 12], 1.0), random(2, &[1, 1, 1, 12], 1.0)];
    let inner = |position: i32| {
        let rotated = outputs(&far(position), &heads);
        let [q, k] = [&rotated[0], &rotated[1]].map(|tensor| tensor.to_vec::<f32>().unwrap());
        q.iter().zip(&k).map(|(q, k)| q * k).sum::<f32>()
    };
    for position in [1, 1023, 1024, 262_143, 1_048_575] {
        assert!((inner(position) - inner(0)).abs() < 5e-6, "at {position}: {} and {}", inner(position), inner(0));
    }
}

#[test]
fn the_gradient_turns_back() {
    let frequencies = Frequencies::new(1e4, 6, [1, 1, 1]).unwrap();
    let positions = Indices::from_slice(&[5, 999, 70_000, 1, 2, 3, 9, 8, 7], &[3, 1, 3]).unwrap();
    let operator = MRope { frequencies, positions };
    let x = [random(3, &[1, 3, 2, 8], 1.0)];
    let rotated = outputs(&operator, &x);
    assert_close("the gradient at the output", &gradients(&operator, &x, &rotated)[0], &x[0], 2e-6);
}

#[test]
fn heads_narrower_than_the_rotated_lanes_are_refused() {
    let operator = MRope {
        frequencies: Frequencies::new(1e4, 8, [2, 1, 1]).unwrap(),
        positions: Indices::from_slice(&[0; 3], &[3, 1, 1]).unwrap(),
    };
    let mut session = cotangent::Session::new().unwrap();
    let heads = vec![random(1, &[1, 1, 1, 6], 1.0)];
    let error = session
        .infer(&heads, &Vec::<Tensor<cotangent::Stored>>::new(), &operator, |x, _, operator| operator.call(x))
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.to_string(), "`Frequencies::rotate`: found heads of 6 lanes, expected at least the 8 that rotate");
}

#[test]
fn the_same_holds_in_the_emulator() {
    assert_same_in_the_emulator(module_path!(), &[]);
}
