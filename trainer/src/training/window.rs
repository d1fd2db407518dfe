//! What happens between two reports.

use std::time::Duration;

use super::Report;

/// What one iteration did.
pub(super) struct Step {
    pub(super) loss: f64,
    pub(super) targets: usize,
    pub(super) tokens: usize,
    pub(super) applied: bool,
    pub(super) gradient_norm: f32,
}

/// What happened since the last report.
#[derive(Default)]
pub(super) struct Window {
    pub(super) iterations: usize,
    pub(super) elapsed: Duration,
    pub(super) tokens: usize,
    pub(super) loss_sum: f64,
    pub(super) targets: usize,
    /// Since the run began.
    pub(super) trained_tokens: usize,
}

impl Window {
    pub(super) fn add(&mut self, step: &Step, elapsed: Duration) {
        self.iterations += 1;
        self.elapsed += elapsed;
        self.tokens += step.tokens;
        if step.applied {
            self.loss_sum += step.loss * step.targets as f64;
            self.targets += step.targets;
            self.trained_tokens += step.targets;
        }
    }

    /// Of the tokens that the loss counted; `None` if all steps were skipped.
    pub(super) fn mean_loss(&self) -> Option<f64> {
        (self.targets > 0).then(|| self.loss_sum / self.targets as f64)
    }

    pub(super) fn report(&self, iteration: usize, loss: f64, learning_rate: f64) -> cotangent::Result<Report> {
        let seconds = self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        Ok(Report {
            iteration,
            loss,
            learning_rate,
            iterations_per_second: self.iterations as f64 / seconds,
            tokens_per_second: self.tokens as f64 / seconds,
            trained_tokens: self.trained_tokens,
            peak_memory: cotangent::memory::peak()?,
        })
    }

    pub(super) fn restart(&mut self) {
        *self = Window { trained_tokens: self.trained_tokens, ..Window::default() };
    }
}
