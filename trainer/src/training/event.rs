//! The events of a run, which its observer gets.

use super::{Losses, Saved};

/// An event of a run, for its observer.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// An iteration is done. Its losses are its own; speeds are means since the last [`Trained`](Event::Trained).
    Step(StepReport),
    /// Some iterations are done; losses and speeds are means over them.
    Trained(StepReport),
    /// The validation loss was measured.
    Validated {
        /// Iterations done before.
        iteration: usize,
        /// Means over the counted tokens.
        losses: Losses,
        /// The duration of the validation, in seconds.
        seconds: f64,
    },
    /// An iteration changed nothing, because a gradient was infinite or no number.
    Skipped {
        /// The iteration.
        iteration: usize,
        /// The loss of the iteration.
        loss: f64,
        /// The norm of the iteration's gradients.
        gradient_norm: f32,
    },
    /// The run was saved.
    Saved(Saved),
    /// The run could not be saved; the next save tries again.
    NotSaved {
        /// Iterations done.
        iteration: usize,
        /// The message of the system, with the file.
        reason: String,
    },
}

/// The behaviour of the routers of a mixture of experts: means over tokens and layers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoutingReport {
    /// The load-balancing loss, without its coefficient.
    pub loss: f64,
    /// The share of the tokens for which the expert was chosen that was chosen most often.
    pub busiest: f64,
    /// The share of the tokens of the expert that was chosen least often.
    pub idlest: f64,
}

/// The progress of training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Iterations done.
    pub iteration: usize,
    /// Means over the counted tokens.
    pub losses: Losses,
    /// The behaviour of the routers, where their load-balancing loss is trained.
    pub routing: Option<RoutingReport>,
    /// The learning rate of the last iteration.
    pub learning_rate: f64,
    /// Iterations a second, without validating and saving.
    pub iterations_per_second: f64,
    /// Tokens a second, padding not counted, without validating and saving.
    pub tokens_per_second: f64,
    /// Predictions that the loss has counted since the run began.
    pub trained_tokens: usize,
    /// The most bytes that arrays have held.
    pub peak_memory: usize,
}
