//! The part of an optimizer that differs from others.

use std::fmt::{Debug, Display};
use std::ops::RangeBounds;

use crate::error::Result;
use crate::mode::Infer;
use crate::tensor::Tensor;

/// The way in which an optimizer computes new parameters from gradients; [`Optimizer`](super::Optimizer) does the rest.
///
/// The rule names the state that is kept of each parameter from step to step, and computes one step. All its tensors
/// are float32, for parameters of every dtype. Its own value holds the constants, so that groups of parameters may
/// differ in them.
pub trait Rule: Clone + Debug {
    /// The operation that errors name, such as `AdamW::update`.
    const OPERATION: &'static str;

    /// The values that all parameters of a step share, computed once, on the device.
    type Shared;

    /// Returns the names of the state of each parameter, as in saved files: `m` is saved as `<parameter>.m`. The state
    /// is zero before the first step.
    fn state_names(&self) -> &'static [&'static str];

    /// Returns whether each element is updated by itself. If so, many parameters are passed as one flat tensor, else
    /// one parameter at a time in its own shape.
    fn by_element(&self) -> bool {
        true
    }

    /// Returns the shape of the state `name` of a parameter of `shape`. It is called only for rules that are not by
    /// element, whose state may be smaller than the parameter.
    fn state_shape(&self, name: &str, shape: &[i32]) -> Vec<i32> {
        let _ = name;
        shape.to_vec()
    }

    /// Returns the global norm to which all gradients are scaled down together; `None` leaves them unchanged. With
    /// several groups the first one decides.
    fn max_norm(&self) -> Option<f32> {
        None
    }

    /// Returns what is wrong with the constants of the rule, such as "a momentum of 2, expected 0 to below 1". Every step calls
    /// this before it changes anything.
    fn mistake(&self) -> Option<String> {
        None
    }

    /// Prepares a step; `steps` is its number, from 1, a scalar.
    ///
    /// # Errors
    /// [`Error::Mlx`](crate::Error::Mlx) if MLX refuses.
    fn share(&self, steps: &Tensor<Infer>) -> Result<Self::Shared>;

    /// Returns the new parameter, and the new state in the order of [`state_names`](Self::state_names).
    ///
    /// # Errors
    /// [`Error::Mlx`](crate::Error::Mlx) if MLX refuses.
    fn apply(&self, shared: &Self::Shared, old: &Old<'_>) -> Result<New>;
}

/// Returns what is wrong with a constant that is not one of the `allowed`, in the words of [`Rule::mistake`].
pub(super) fn outside<N: Display + PartialOrd>(
    name: &str,
    value: N,
    allowed: impl RangeBounds<N>,
    expected: &str,
) -> Option<String> {
    (!allowed.contains(&value)).then(|| format!("{name} of {value}, expected {expected}"))
}

/// Returns what is wrong with the constants that every rule here has.
pub(super) fn mistake_of_all(weight_decay: f32, max_norm: Option<f32>) -> Option<String> {
    let decay = outside("a weight decay", weight_decay, 0.0..f32::INFINITY, "a finite number from 0 on");
    let above = |norm: f32| outside("a largest norm", norm, f32::MIN_POSITIVE.., "a number above 0, or `None`");
    decay.or_else(|| above(max_norm?))
}

/// The arguments of a step of a rule: one parameter, or many side by side.
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

/// The results of a step of a rule.
#[derive(Debug)]
pub struct New {
    /// The parameter after the step, of the shape it had.
    pub parameter: Tensor<Infer>,
    /// The state after the step, in the order of [`Rule::state_names`].
    pub state: Vec<Tensor<Infer>>,
}
