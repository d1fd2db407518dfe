//! Stochastic gradient descent with momentum.

use crate::error::Result;
use crate::mode::Infer;
use crate::tensor::Tensor;

use super::rule::{New, Old, Rule, mistake_of_all, outside};

/// Gradient descent with momentum, as PyTorch's `torch.optim.SGD` computes it without dampening: the velocity is
/// `momentum * velocity + gradient + weight_decay * parameter`, and the parameter moves against it by the learning rate.
/// Its state is the velocity, `momentum`.
pub type Sgd = super::Optimizer<SgdOptions>;

/// The constants of [`Sgd`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SgdOptions {
    /// The share of the velocity that stays; 0 is plain gradient descent.
    pub momentum: f32,
    /// Added to the gradient, as a multiple of the parameter.
    pub weight_decay: f32,
    /// Gradients are scaled down to this global norm; `None` leaves them.
    pub max_norm: Option<f32>,
}

impl Rule for SgdOptions {
    const OPERATION: &'static str = "Sgd::update";
    type Shared = ();

    fn state_names(&self) -> &'static [&'static str] {
        &["momentum"]
    }

    fn max_norm(&self) -> Option<f32> {
        self.max_norm
    }

    fn mistake(&self) -> Option<String> {
        outside("a momentum", self.momentum, 0.0..1.0, "0 to below 1")
            .or_else(|| mistake_of_all(self.weight_decay, self.max_norm))
    }

    fn share(&self, _: &Tensor<Infer>) -> Result<()> {
        Ok(())
    }

    fn apply(&self, (): &(), old: &Old<'_>) -> Result<New> {
        let [velocity] = old.state else { unreachable!("as many as there are names") };
        let gradient = old.gradient.add(&old.parameter.multiply(self.weight_decay)?)?;
        let velocity = velocity.multiply(self.momentum)?.add(&gradient)?;
        let parameter = old.parameter.subtract(&velocity.multiply(old.learning_rate)?)?;
        Ok(New { parameter, state: vec![velocity] })
    }
}
