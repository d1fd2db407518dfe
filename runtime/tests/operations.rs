//! The gradient of every operation against central differences.

mod common;

use common::{Pair, pair};
use cotangent::ops::Visible;
use cotangent::{
    Constant, Dtype, Indices, Mask, Result, Session, Stored, Tensor, Train, Trainable, evaluate, value_and_grad,
};

type Operation = fn(&Tensor<Train>, &Tensor<Train>) -> Result<Tensor<Train>>;

/// Twelve and six numbers, none near a kink or a pole.
const LEFT: [f32; 12] = [0.9, -0.4, 1.3, 0.7, -1.1, 0.35, 0.6, 1.7, -0.8, 0.5, 1.2, -0.65];
const RIGHT: [f32; 6] = [0.8, -0.55, 1.4, 0.45, -0.95, 1.1];

/// `left` and `right` come as `[3, 4]` and `[2, 3]`.
const OPERATIONS: &[(&str, Operation)] = &[
    ("add", |x, y| x.add(&row(y)?)),
    ("subtract", |x, y| x.subtract(&row(y)?)),
    ("multiply", |x, y| x.multiply(&row(y)?)),
    ("divide", |x, y| x.divide(&row(y)?)),
    ("maximum", |x, y| x.maximum(&row(y)?)),
    ("minimum", |x, y| x.minimum(&row(y)?)),
    ("scalar", |x, _| x.multiply(3.0)?.add(1.0)),
    ("constant", |x, _| x.multiply(&Constant::from_slice(&[1.0, -2.0, 3.0, 0.5], &[4])?)),
    ("select", |x, y| x.select(&Mask::from_slice(&[true, false, true, false], &[4])?, &row(y)?)),
    ("negative", |x, _| x.negative()),
    ("exp", |x, _| x.exp()),
    ("log", |x, _| x.square()?.log()),
    ("reciprocal", |x, _| x.reciprocal()),
    ("sqrt", |x, _| x.square()?.add(0.5)?.sqrt()),
    ("rsqrt", |x, _| x.square()?.add(0.5)?.rsqrt()),
    ("abs", |x, _| x.abs()),
    ("sin and cos", |x, _| x.sin()?.multiply(&x.cos()?)),
    ("tanh", |x, _| x.tanh()),
    ("sigmoid", |x, _| x.sigmoid()),
    ("softplus", |x, _| x.softplus()),
    ("silu", |x, _| x.silu()),
    ("top_k", |x, _| x.take_along_axis(&x.top_k(2)?, 1)?.multiply(&Constant::from_slice(&[1.0, -2.0], &[2])?)),
    ("sum", |x, _| x.sum(&[0])),
    ("sum_keep", |x, _| x.divide(&x.square()?.sum_keep(&[1])?)),
    ("mean_keep", |x, _| x.multiply(&x.mean_keep(&[0])?)),
    ("max_keep", |x, _| x.multiply(&x.max_keep(&[1])?)),
    ("logsumexp_keep", |x, _| x.subtract(&x.logsumexp_keep(-1)?)),
    ("cumsum", |x, _| x.cumsum(1)),
    ("cumsum_reverse", |x, _| x.cumsum_reverse(0)),
    ("reshape", |x, y| x.reshape(&[6, 2])?.matmul(y)),
    ("transpose", |x, y| y.matmul(&x.reshape(&[1, 3, 4])?.transpose(&[0, 1, 2])?)),
    ("swap_axes", |x, y| x.swap_axes(0, 1)?.matmul(&y.swap_axes(0, 1)?)),
    ("expand and squeeze", |x, _| x.expand_dims(1)?.multiply(&x.expand_dims(0)?)?.slice(0, 0, 1)?.squeeze(0)),
    ("broadcast_to", |x, _| x.broadcast_to(&[2, 3, 4])?.square()),
    ("repeat", |x, _| x.repeat(2, 0)?.square()),
    ("slice", |x, _| x.slice(1, 1, 3)),
    ("split", |x, _| x.split(&[1, 3], 1)?[1].square()),
    ("pad", |x, _| x.pad(0, 1, 2)?.cumsum(0)),
    ("concatenate", |x, y| Tensor::concatenate(&[x, &row(y)?.broadcast_to(&[2, 4])?], 0)?.cumsum(0)),
    ("stack", |x, _| Tensor::stack(&[x, &x.square()?], 1)?.cumsum(1)),
    ("matmul", |x, y| y.matmul(x)),
    ("linear", |x, y| y.linear(&x.reshape(&[4, 3])?)),
    ("matmul_rows", |x, y| y.reshape(&[1, 2, 3])?.matmul_rows(x)),
    ("take_rows", |x, _| x.take_rows(&Indices::from_slice(&[2, 0, 2], &[3])?)),
    ("take_along_axis", |x, _| x.take_along_axis(&Indices::from_slice(&[3, 0, 1, 1, 2, 2], &[3, 2])?, 1)),
    ("softmax", |x, _| x.softmax()),
    ("rms_norm", |x, y| x.rms_norm(&row(y)?, 1e-6)),
    ("rms_normalise", |x, _| x.rms_normalise(1e-6)),
    ("attention", |x, y| {
        let heads = x.reshape(&[1, 2, 3, 2])?;
        let one = y.reshape(&[1, 1, 3, 2])?;
        heads.attention(&one, &one, 0.7, Visible::Causal)
    }),
    ("depthwise_conv1d", |x, y| x.reshape(&[1, 4, 3])?.depthwise_conv1d(&y.reshape(&[3, 1, 2])?)),
    ("cast", |x, _| x.cast(Dtype::F32)?.square()),
];

/// The first four numbers, to broadcast over rows.
fn row(y: &Tensor<Train>) -> Result<Tensor<Train>> {
    y.reshape(&[6])?.slice(0, 0, 4)
}

/// A sum in which every element of the result has its own weight.
fn loss(parameters: &Pair<Train>, operation: &Operation) -> Result<Tensor<Train>> {
    let result = operation(&parameters.left.reshape(&[3, 4])?, &parameters.right.reshape(&[2, 3])?)?;
    let weights: Vec<f32> = (0..result.size()).map(|index| (1.0 + index as f32).sin()).collect();
    result.multiply(&Constant::from_slice(&weights, result.shape())?)?.sum_all()
}

fn value(session: &mut Session, parameters: &Pair<Stored>, operation: &Operation) -> f64 {
    let value = evaluate(session, parameters, operation, loss).unwrap();
    f64::from(value.item::<f32>().unwrap())
}

#[test]
fn every_gradient_is_the_slope() {
    let mut session = Session::new().unwrap();
    let parameters = pair(&LEFT, &RIGHT);
    let trainable = Trainable::new(&parameters, |_| true).unwrap();
    for (name, operation) in OPERATIONS {
        let (_, gradients) = value_and_grad(&mut session, &parameters, &trainable, operation, loss).unwrap();
        let step = 1e-2_f32;
        for (which, count) in [("left", LEFT.len()), ("right", RIGHT.len())] {
            let found: Vec<f32> = gradients.get(which).unwrap().to_vec().unwrap();
            for index in 0..count {
                let moved = |by: f32| {
                    let (mut left, mut right) = (LEFT, RIGHT);
                    if which == "left" {
                        left[index] += by
                    } else {
                        right[index] += by
                    }
                    pair(&left, &right)
                };
                let up = value(&mut session, &moved(step), operation);
                let down = value(&mut session, &moved(-step), operation);
                let slope = (up - down) / (2.0 * f64::from(step));
                let error = (f64::from(found[index]) - slope).abs();
                // Third derivatives are up to about 30 here, so the difference is right to 5e-3 of the largest slopes.
                assert!(
                    error <= 5e-3 * slope.abs().max(1.0),
                    "{name}: d {which}[{index}] is {}, slope {slope}",
                    found[index]
                );
            }
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused_where_they_meet() {
    let cases: &[(&str, Operation)] = &[
        ("add", |x, y| x.add(y)),
        ("matmul", |x, y| x.matmul(y)),
        ("linear", |x, y| x.linear(y)),
        ("slice", |x, _| x.slice(0, 2, 4)),
        ("slice", |x, _| x.slice(5, 0, 1)),
        ("split", |x, _| x.split(&[1, 1], 0).map(|parts| parts[0].clone())),
        ("split", |x, _| x.split(&[4, -1], 0).map(|parts| parts[0].clone())),
        ("pad", |x, _| x.pad(0, -1, 0)),
        ("rms_norm", |x, y| x.rms_norm(&y.slice(0, 0, 1)?.reshape(&[3])?, 1e-6)),
        ("attention", |x, y| x.attention(y, y, 1.0, Visible::All)),
        ("depthwise_conv1d", |x, y| x.depthwise_conv1d(y)),
        ("concatenate", |_, _| Tensor::concatenate(&[], 0)),
        ("cast", |x, _| x.cast(Dtype::I32)),
    ];
    let mut session = Session::new().unwrap();
    let parameters = pair(&LEFT, &RIGHT);
    for (name, operation) in cases {
        let outcome = evaluate(&mut session, &parameters, operation, loss);
        let error = outcome.unwrap_err().to_string();
        assert!(error.starts_with(&format!("`{name}`: found ")) && error.contains("expected"), "{name}: {error}");
    }
}
