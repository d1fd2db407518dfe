//! The gates and the norm around the gated delta rule, against float64.

use crate::cases::{Cases, Operator, TOLERANCE, assert_finite_differences, assert_same_in_the_emulator, random};
use cotangent::{Graph, Result, Tensor};
use cotangent_kernels::{gates, l2norm};

#[derive(Clone)]
struct Gates;

impl Operator for Gates {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let gates = gates(&inputs[0], &inputs[1], &inputs[2], &inputs[3])?;
        // The reference stores the decay itself, not its logarithm.
        Ok(vec![gates.log_decay.exp()?, gates.beta])
    }
}

#[derive(Clone)]
struct L2Norm {
    scale: f32,
}

impl Operator for L2Norm {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        Ok(vec![l2norm(&inputs[0], self.scale, 1e-6)?])
    }
}

#[test]
fn gates_match_the_reference() {
    Cases::operators().case("gates").check(&Gates, &["a", "b", "A_log", "dt_bias"], &["g", "beta"], TOLERANCE);
}

#[test]
fn l2norm_matches_the_reference() {
    Cases::operators().case("l2norm").check(&L2Norm { scale: 1.0 }, &["x"], &["y"], TOLERANCE);
}

#[test]
fn a_scaled_l2norm_has_a_scaled_gradient() {
    assert_finite_differences(&L2Norm { scale: 0.25 }, &[random(1, &[2, 3, 8], 1.0)], 2e-3);
}

#[test]
fn the_same_holds_in_the_emulator() {
    assert_same_in_the_emulator(module_path!(), &[]);
}
