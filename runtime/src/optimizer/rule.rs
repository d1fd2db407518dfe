//! What one optimizer does that another does not.

use std::fmt::Debug;

use crate::error::Result;
use crate::mode::Infer;
use crate::tensor::Tensor;

/// How an optimizer makes new parameters of gradients; [`Optimizer`](super::Optimizer) does the rest.
///
/// The rule says what is kept of each parameter from step to step, by name, and computes one step. All tensors it meets are
/// float32, whatever the dtype of the parameter. Its own value holds the constants, so that groups of parameters may differ
/// in them.
pub trait Rule: Clone + Debug {
    /// The operation that errors name, such as `AdamW::update`.
    const OPERATION: &'static str;

    /// What all parameters of a step share: computed once, on the device.
    type Shared;

    /// The names of what is kept of each parameter, as saved files have them: `m` is saved as `<parameter>.m`. It is zero
    /// before the first step.
    fn state_names(&self) -> &'static [&'static str];

    /// Whether each element is updated by itself. Then many parameters are handed over as one flat tensor, else one
    /// parameter at a time in its own shape.
    fn by_element(&self) -> bool {
        true
    }

    /// The shape of the state `name` of a parameter of `shape`: asked only of rules that are not by element, whose state
    /// may be smaller than the parameter.
    fn state_shape(&self, name: &str, shape: &[i32]) -> Vec<i32> {
        let _ = name;
        shape.to_vec()
    }

    /// Gradients are scaled down together to this global norm; `None` leaves them. Of several groups the first decides.
    fn max_norm(&self) -> Option<f32> {
        None
    }

    /// Prepares a step; `steps` is its number, from 1, a scalar.
    ///
    /// # Errors
    /// [`Error::Mlx`](crate::Error::Mlx) if MLX refuses.
    fn share(&self, steps: &Tensor<Infer>) -> Result<Self::Shared>;

    /// The new parameter, and the new state in the order of [`state_names`](Self::state_names).
    ///
    /// # Errors
    /// [`Error::Mlx`](crate::Error::Mlx) if MLX refuses.
    fn apply(&self, shared: &Self::Shared, old: &Old<'_>) -> Result<New>;
}

/// What a rule makes a step from: one parameter, or many side by side.
#[derive(Debug)]
#[non_exhaustive]
pub struct Old<'a> {
    /// The parameter before the step.
    pub parameter: &'a Tensor<Infer>,
    /// The gradient of the parameter, clipped.
    pub gradient: &'a Tensor<Infer>,
    /// The state before the step, in the order of [`Rule::state_names`].
    pub state: &'a [Tensor<Infer>],
    /// The learning rate, a scalar.
    pub learning_rate: &'a Tensor<Infer>,
}

/// What a step of a rule gives.
#[derive(Debug)]
pub struct New {
    /// The parameter after the step, of the shape it had.
    pub parameter: Tensor<Infer>,
    /// The state after the step, in the order of [`Rule::state_names`].
    pub state: Vec<Tensor<Infer>>,
}
