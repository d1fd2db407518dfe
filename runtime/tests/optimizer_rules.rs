//! Rules beside AdamW: one that goes by element, one that needs the shape of its parameter, and groups.

mod common;

use std::collections::BTreeMap;

use common::{Pair, gradients_of, pair};
use cotangent::optimizer::{AdamW, AdamWOptions, New, Old, Optimizer, Rule, Sgd, SgdOptions};
use cotangent::{Infer, Result, Stored, Tensor};

fn values(tensor: &Tensor<Stored>) -> Vec<f32> {
    tensor.to_vec().unwrap()
}

fn close(found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((f64::from(*found) - expected).abs() <= 1e-6 * expected.abs().max(1e-3), "{found} {expected}");
    }
}

/// The definition of `torch.optim.SGD`, in double precision.
struct Definition {
    options: SgdOptions,
    velocity: f64,
    parameter: f64,
}

impl Definition {
    fn step(&mut self, gradient: f64, learning_rate: f64) {
        let SgdOptions { momentum, weight_decay, .. } = self.options;
        let gradient = gradient + f64::from(weight_decay) * self.parameter;
        self.velocity = f64::from(momentum) * self.velocity + gradient;
        self.parameter -= learning_rate * self.velocity;
    }
}

#[test]
fn ten_steps_with_momentum_follow_the_definition() {
    let options = SgdOptions { momentum: 0.9, weight_decay: 0.1, max_norm: None };
    let mut parameters = pair(&[0.5, -2.0], &[3.0]);
    let mut expected = [0.5, -2.0, 3.0].map(|parameter| Definition { options, velocity: 0.0, parameter });
    let mut optimizer = Sgd::new(options);
    for step in 0..10 {
        let gradient = [0.3, -1e-2, 1.0].map(|size| if step % 3 == 0 { -size } else { size });
        let gradients = gradients_of(&parameters, &gradient[..2], &gradient[2..]);
        assert!(optimizer.update(&mut parameters, &gradients, 0.05).unwrap().applied().unwrap());
        for (expected, gradient) in expected.iter_mut().zip(gradient) {
            expected.step(f64::from(gradient), f64::from(0.05_f32));
        }
        // The saved state is enough to continue from.
        optimizer = Sgd::resume(options, &optimizer.state().unwrap()).unwrap();
    }
    close(&[values(&parameters.left), values(&parameters.right)].concat(), &expected.each_ref().map(|e| e.parameter));
    let state = optimizer.state().unwrap();
    assert_eq!(state.keys().collect::<Vec<_>>(), ["left.momentum", "right.momentum", "step"]);
    close(&values(&state["right.momentum"]), &[expected[2].velocity]);
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing_whatever_the_rule() {
    let mut parameters = pair(&[1.0, 2.0], &[3.0]);
    let mut optimizer = Sgd::new(SgdOptions { momentum: 0.9, ..SgdOptions::default() });
    let gradients = gradients_of(&parameters, &[1.0, f32::NAN], &[1.0]);
    assert!(!optimizer.update(&mut parameters, &gradients, 0.1).unwrap().applied().unwrap());
    assert_eq!((values(&parameters.left), values(&parameters.right)), (vec![1.0, 2.0], vec![3.0]));
    assert_eq!(values(&optimizer.state().unwrap()["left.momentum"]), [0.0, 0.0]);
}

#[test]
fn a_group_has_constants_of_its_own() {
    let decayed = SgdOptions { weight_decay: 0.5, ..SgdOptions::default() };
    let mut parameters = pair(&[1.0, 2.0], &[4.0]);
    let mut optimizer = Sgd::new(decayed).with_group(SgdOptions::default(), ["right"]);
    let gradients = gradients_of(&parameters, &[0.0, 0.0], &[0.0]);
    optimizer.update(&mut parameters, &gradients, 0.1).unwrap();
    close(&values(&parameters.left), &[0.95, 1.9]);
    assert_eq!(values(&parameters.right), [4.0]);
}

#[test]
fn a_group_that_names_no_parameter_is_refused() {
    let mut parameters = pair(&[1.0], &[1.0]);
    let gradients = gradients_of(&parameters, &[1.0], &[1.0]);
    let mut optimizer = AdamW::new(AdamWOptions::default()).with_group(AdamWOptions::default(), ["middle"]);
    let error = optimizer.update(&mut parameters, &gradients, 0.1).unwrap_err().to_string();
    assert!(error.contains("parameter `middle`: named by a group of the optimizer"), "{error}");
}

#[test]
fn the_state_of_another_rule_is_refused() {
    let mut parameters = pair(&[1.0], &[1.0]);
    let gradients = gradients_of(&parameters, &[1.0], &[1.0]);
    let mut optimizer = Sgd::new(SgdOptions::default());
    optimizer.update(&mut parameters, &gradients, 0.1).unwrap();
    let error = AdamW::resume(AdamWOptions::default(), &optimizer.state().unwrap()).unwrap_err().to_string();
    assert!(
        error.contains("`left.momentum`: found in the optimizer state, expected a name that ends in `.m` or `.v`"),
        "{error}"
    );
}

/// Divides each row of a matrix's gradient by the root of the sum of all squares that the row has seen: a state of one
/// number a row.
#[derive(Debug, Clone)]
struct ByRow;

impl Rule for ByRow {
    const OPERATION: &'static str = "ByRow::update";
    type Shared = ();

    fn state_names(&self) -> &'static [&'static str] {
        &["rows"]
    }

    fn by_element(&self) -> bool {
        false
    }

    fn state_shape(&self, _: &str, shape: &[i32]) -> Vec<i32> {
        vec![shape[0], 1]
    }

    fn share(&self, _: &Tensor<Infer>) -> Result<()> {
        Ok(())
    }

    fn apply(&self, (): &(), old: &Old<'_>) -> Result<New> {
        let rows = old.state[0].add(&old.gradient.square()?.sum_keep(&[1])?)?;
        let parameter = old.parameter.subtract(&old.gradient.divide(&rows.sqrt()?)?.multiply(old.learning_rate)?)?;
        Ok(New { parameter, state: vec![rows] })
    }
}

#[test]
fn a_rule_that_needs_the_shape_gets_one_parameter_at_a_time() {
    let matrix = |values: &[f32], shape: &[i32]| Tensor::from_slice(values, shape).unwrap();
    let mut parameters =
        Pair { left: matrix(&[1.0, 1.0, 1.0, 1.0], &[2, 2]), right: matrix(&[2.0, 2.0, 2.0], &[1, 3]) };
    let mut optimizer = Optimizer::new(ByRow);
    for _ in 0..2 {
        let gradients = gradients_of(&parameters, &[3.0, 4.0, 0.6, 0.8], &[2.0, 3.0, 6.0]);
        optimizer.update(&mut parameters, &gradients, 0.1).unwrap();
        optimizer = Optimizer::resume(ByRow, &optimizer.state().unwrap()).unwrap();
    }
    // Each step divides by the norm of the row; the second divides by sqrt(2) times that.
    let moved = 0.1 + 0.1 / 2.0_f64.sqrt();
    close(&values(&parameters.left), &[0.6, 0.8, 0.6, 0.8].map(|part| 1.0 - moved * part));
    close(&values(&parameters.right), &[2.0, 3.0, 6.0].map(|part| 2.0 - moved * part / 7.0));
    let state: BTreeMap<String, Tensor<Stored>> = optimizer.state().unwrap();
    assert_eq!(state["left.rows"].shape(), [2, 1]);
    close(&values(&state["left.rows"]), &[50.0, 2.0]);
}
