//! AdamW against its definition, and the properties a trainer relies on.

mod common;

use common::{Pair, pair};
use cotangent::optimizer::{AdamW, AdamWOptions, global_norm};
use cotangent::{Dtype, Gradients, Session, Stored, Tensor, Trainable, value_and_grad};

/// The gradient of `sum(c * left)` is `c`: a way to any gradient.
fn gradients_of(parameters: &Pair<Stored>, left: &[f32], right: &[f32]) -> Gradients {
    let cotangents = pair(left, right);
    let host = (
        cotangent::Constant::from_stored(&cotangents.left).unwrap(),
        cotangent::Constant::from_stored(&cotangents.right).unwrap(),
    );
    let trainable = Trainable::of(parameters, |_| true).unwrap();
    let mut session = Session::new().unwrap();
    value_and_grad(&mut session, parameters, &trainable, &host, |parameters, (left, right)| {
        let left = parameters.left.cast(Dtype::F32)?.multiply(left)?.sum_all()?;
        left.add(&parameters.right.cast(Dtype::F32)?.multiply(right)?.sum_all()?)
    })
    .unwrap()
    .1
}

/// Loshchilov and Hutter's algorithm 2 in double precision.
struct Definition {
    options: AdamWOptions,
    first: f64,
    second: f64,
    steps: i32,
}

impl Definition {
    fn new(options: AdamWOptions) -> Self {
        Definition { options, first: 0.0, second: 0.0, steps: 0 }
    }

    fn step(&mut self, parameter: f64, gradient: f64, learning_rate: f64) -> f64 {
        let AdamWOptions { beta1, beta2, epsilon, weight_decay, .. } = self.options;
        self.steps += 1;
        self.first = beta1 * self.first + (1.0 - beta1) * gradient;
        self.second = beta2 * self.second + (1.0 - beta2) * gradient * gradient;
        let first = self.first / (1.0 - beta1.powi(self.steps));
        let second = self.second / (1.0 - beta2.powi(self.steps));
        let decayed = parameter * (1.0 - learning_rate * f64::from(weight_decay));
        decayed - learning_rate * first / (second.sqrt() + f64::from(epsilon))
    }
}

#[test]
fn ten_steps_follow_the_definition() {
    let options = AdamWOptions { weight_decay: 0.1, ..AdamWOptions::default() };
    let mut parameters = pair(&[0.5, -2.0], &[3.0]);
    let mut optimizer = AdamW::new(options);
    let mut expected = [(0.5_f64, 0.3_f64), (-2.0, -1e-4), (3.0, 50.0)]
        .map(|(parameter, gradient)| (Definition::new(options), parameter, gradient));
    for step in 0..10 {
        let learning_rate = 0.01 / f64::from(step + 1);
        let sign = if step % 3 == 0 { -1.0 } else { 1.0 };
        let gradients = gradients_of(&parameters, &[0.3 * sign, -1e-4 * sign], &[50.0 * sign]);
        let update = optimizer.update(&mut parameters, &gradients, learning_rate as f32).unwrap();
        assert!(update.applied);
        for (definition, parameter, gradient) in &mut expected {
            *parameter = definition.step(*parameter, *gradient * f64::from(sign), learning_rate);
        }
    }
    let mut found: Vec<f32> = parameters.left.to_vec().unwrap();
    found.extend(parameters.right.to_vec::<f32>().unwrap());
    for (found, (_, expected, _)) in found.into_iter().zip(expected) {
        assert!((f64::from(found) - expected).abs() <= 1e-6 * expected.abs(), "{found} {expected}");
    }
}

#[test]
fn bf16_parameters_stay_bf16_with_f32_state() {
    let mut parameters = pair(&[1.0], &[1.0]);
    parameters.left = parameters.left.cast(Dtype::BF16).unwrap();
    let mut optimizer = AdamW::new(AdamWOptions::default());
    for _ in 0..2 {
        let gradients = gradients_of(&parameters, &[1.0], &[1.0]);
        assert_eq!(gradients.get("left").unwrap().dtype(), Dtype::BF16);
        optimizer.update(&mut parameters, &gradients, 0.1).unwrap();
    }
    assert_eq!((parameters.left.dtype(), parameters.right.dtype()), (Dtype::BF16, Dtype::F32));
    let state = optimizer.state();
    assert!(state.values().all(|tensor| tensor.dtype() == Dtype::F32));
    assert_eq!(state["step"].item::<f32>().unwrap(), 2.0);
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut parameters = pair(&[1.0, 2.0], &[3.0]);
        let mut optimizer = AdamW::new(AdamWOptions::default());
        let good = gradients_of(&parameters, &[1.0, 1.0], &[1.0]);
        optimizer.update(&mut parameters, &good, 0.1).unwrap();
        let before = (parameters.left.to_bytes().unwrap(), optimizer.state()["left.m"].to_bytes().unwrap());

        let broken = gradients_of(&parameters, &[1.0, 1.0], &[bad]);
        let update = optimizer.update(&mut parameters, &broken, 0.1).unwrap();
        assert!(!update.applied && !update.gradient_norm.is_finite());
        assert_eq!(before, (parameters.left.to_bytes().unwrap(), optimizer.state()["left.m"].to_bytes().unwrap()));
        assert_eq!(optimizer.state()["step"].item::<f32>().unwrap(), 1.0);
    }
}

#[test]
fn clipping_scales_all_gradients_by_one_factor() {
    let parameters = pair(&[1.0, 1.0], &[1.0]);
    let gradients = gradients_of(&parameters, &[3.0, 0.0], &[4.0]);
    assert_eq!(global_norm(&gradients).unwrap().item::<f32>().unwrap(), 5.0);
    let moment = |max_norm| {
        let mut optimizer = AdamW::new(AdamWOptions { max_norm, ..AdamWOptions::default() });
        optimizer.update(&mut pair(&[1.0, 1.0], &[1.0]), &gradients, 0.1).unwrap();
        let state = optimizer.state();
        (state["left.m"].to_vec::<f32>().unwrap()[0], state["right.m"].item::<f32>().unwrap())
    };
    for (max_norm, factor) in [(None, 1.0), (Some(1.0), 0.2), (Some(10.0), 1.0)] {
        let (left, right) = moment(max_norm);
        assert!(
            (left - 0.3 * factor).abs() < 1e-6 && (right - 0.4 * factor).abs() < 1e-6,
            "{max_norm:?} {left} {right}"
        );
    }
}

#[test]
fn a_resumed_optimizer_continues_bit_by_bit() {
    let options = AdamWOptions { max_norm: Some(0.5), ..AdamWOptions::default() };
    let mut straight = (pair(&[1.0, -1.0], &[2.0]), AdamW::new(options));
    let mut resumed = (pair(&[1.0, -1.0], &[2.0]), AdamW::new(options));
    for step in 0..6 {
        let gradient = 0.1 * step as f32 - 0.2;
        for (parameters, optimizer) in [&mut straight, &mut resumed] {
            let gradients = gradients_of(parameters, &[gradient, 1.0], &[-gradient]);
            optimizer.update(parameters, &gradients, 0.01).unwrap();
        }
        resumed.1 = AdamW::resume(options, &resumed.1.state()).unwrap();
    }
    assert_eq!(straight.0.left.to_bytes().unwrap(), resumed.0.left.to_bytes().unwrap());
    assert_eq!(straight.0.right.to_bytes().unwrap(), resumed.0.right.to_bytes().unwrap());
}

#[test]
fn half_a_state_is_refused() {
    let mut optimizer = AdamW::new(AdamWOptions::default());
    let mut parameters = pair(&[1.0], &[1.0]);
    let gradients = gradients_of(&parameters, &[1.0], &[1.0]);
    optimizer.update(&mut parameters, &gradients, 0.1).unwrap();
    for missing in ["step", "left.v", "right.m"] {
        let mut state = optimizer.state();
        state.remove(missing);
        let error = AdamW::resume(AdamWOptions::default(), &state).unwrap_err().to_string();
        assert!(error.contains(missing), "{error}");
    }
}

#[test]
fn a_gradient_without_a_parameter_is_refused() {
    let parameters = pair(&[1.0], &[1.0]);
    let gradients = gradients_of(&parameters, &[1.0], &[1.0]);
    let mut other: Tensor<Stored> = Tensor::zeros(&[1], Dtype::F32).unwrap();
    let error = AdamW::new(AdamWOptions::default()).update(&mut other, &gradients, 0.1).unwrap_err();
    assert!(error.to_string().contains("parameter `left`"), "{error}");
}
