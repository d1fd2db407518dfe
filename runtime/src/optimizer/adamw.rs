//! The rule of AdamW.

use crate::error::{Context as _, Result};
use crate::mode::Infer;
use crate::tensor::Tensor;

use super::rule::{New, Old, Rule, mistake_of_all, outside};

/// AdamW with bias correction and decoupled weight decay (Loshchilov and Hutter, 2019, algorithm 2). Its state is `m`, the
/// mean of gradients, and `v`, that of their squares.
pub type AdamW = super::Optimizer<AdamWOptions>;

/// The constants of [`AdamW`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWOptions {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the mean of squares.
    pub epsilon: f32,
    /// Decoupled: a parameter shrinks by `learning_rate * weight_decay` of itself each step.
    pub weight_decay: f32,
    /// Gradients are scaled down to this global norm; `None` leaves them.
    pub max_norm: Option<f32>,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        AdamWOptions { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, max_norm: None }
    }
}

/// The divisors of the means, which began at zero: of the mean of the gradients, and of the root of the mean of their
/// squares.
#[derive(Debug)]
pub struct Corrections {
    first: Tensor<Infer>,
    second_root: Tensor<Infer>,
}

impl Rule for AdamWOptions {
    const OPERATION: &'static str = "AdamW::update";
    type Shared = Corrections;

    fn state_names(&self) -> &'static [&'static str] {
        &["m", "v"]
    }

    fn max_norm(&self) -> Option<f32> {
        self.max_norm
    }

    fn mistake(&self) -> Option<String> {
        let beta = |name, value: f64| outside(name, value, 0.0..1.0, "0 to below 1");
        let epsilon =
            || outside("an epsilon", self.epsilon, f32::MIN_POSITIVE..f32::INFINITY, "a finite number above 0");
        beta("a beta1", self.beta1)
            .or_else(|| beta("a beta2", self.beta2))
            .or_else(epsilon)
            .or_else(|| mistake_of_all(self.weight_decay, self.max_norm))
    }

    fn share(&self, steps: &Tensor<Infer>) -> Result<Corrections> {
        // 1 - beta^t is computed by expm1, because the difference would lose the digits that the first steps need.
        let correction = |beta: f64| {
            let exponent = steps.multiply(beta.ln() as f32)?;
            let power = mlx_rs::ops::expm1(exponent.array()).during(Self::OPERATION)?;
            Tensor::from_parts(power, exponent.origin()).negative()
        };
        Ok(Corrections { first: correction(self.beta1)?, second_root: correction(self.beta2)?.sqrt()? })
    }

    fn apply(&self, shared: &Corrections, old: &Old<'_>) -> Result<New> {
        let AdamWOptions { beta1, beta2, epsilon, weight_decay, .. } = *self;
        let [first, second] = old.state else { unreachable!("as many as there are names") };
        let first = first.multiply(beta1 as f32)?.add(&old.gradient.multiply((1.0 - beta1) as f32)?)?;
        let second = second.multiply(beta2 as f32)?.add(&old.gradient.square()?.multiply((1.0 - beta2) as f32)?)?;
        let denominator = second.sqrt()?.divide(&shared.second_root)?.add(epsilon)?;
        let direction = first.divide(&shared.first)?.divide(&denominator)?;
        let shrinkage = old.parameter.multiply(&old.learning_rate.multiply(weight_decay)?)?;
        let parameter = old.parameter.subtract(&shrinkage)?.subtract(&direction.multiply(old.learning_rate)?)?;
        Ok(New { parameter, state: vec![first, second] })
    }
}
