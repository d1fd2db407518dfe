//! The sums between two reports.

use std::time::Duration;

use super::{Losses, RoutingMeans, RoutingReport, StepReport};

/// The results of one iteration.
pub(super) struct Iteration {
    pub(super) losses: Losses,
    /// The number of predictions that each part of the loss counts.
    pub(super) targets: [usize; 2],
    pub(super) tokens: usize,
    pub(super) routing: Option<RoutingMeans>,
    pub(super) applied: bool,
    pub(super) gradient_norm: f32,
}

/// The sums since the last report.
#[derive(Default)]
pub(super) struct Window {
    pub(super) iterations: usize,
    pub(super) elapsed: Duration,
    pub(super) tokens: usize,
    /// The sums of the losses, and the numbers of predictions that they count.
    pub(super) sums: [(f64, usize); 2],
    /// The sums of the routers' values, each step times its tokens, and the number of these tokens.
    pub(super) routing: (RoutingMeans, usize),
    /// The tokens trained since the run began.
    pub(super) trained_tokens: usize,
}

impl Window {
    pub(super) fn add(&mut self, step: &Iteration, elapsed: Duration) {
        self.iterations += 1;
        self.elapsed += elapsed;
        self.tokens += step.tokens;
        if let Some(RoutingMeans { loss, shares }) = &step.routing {
            let (sums, tokens) = &mut self.routing;
            sums.add(*loss, shares.iter().copied(), step.tokens as f64);
            *tokens += step.tokens;
        }
        if step.applied {
            let losses = [step.losses.loss, step.losses.mtp_loss.unwrap_or_default()];
            for ((sum, targets), (loss, counted)) in self.sums.iter_mut().zip(losses.into_iter().zip(step.targets)) {
                *sum += loss * counted as f64;
                *targets += counted;
            }
            self.trained_tokens += step.targets[0];
        }
    }

    /// Returns the mean losses over the tokens that were counted, including that of multi-token prediction if it is
    /// `beside` the other; `None` if all steps were skipped.
    pub(super) fn mean_losses(&self, beside: bool) -> Option<Losses> {
        let [mean, of_mtp] = self.sums.map(|(sum, targets)| (targets > 0).then(|| sum / targets as f64));
        mean.map(|loss| Losses { loss, mtp_loss: of_mtp.filter(|_| beside) })
    }

    pub(super) fn report(&self, iteration: usize, losses: Losses, learning_rate: f64) -> cotangent::Result<StepReport> {
        let seconds = self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        Ok(StepReport {
            iteration,
            losses,
            routing: self.mean_routing(),
            learning_rate,
            iterations_per_second: self.iterations as f64 / seconds,
            tokens_per_second: self.tokens as f64 / seconds,
            trained_tokens: self.trained_tokens,
            peak_memory: cotangent::memory::peak()?,
        })
    }

    fn mean_routing(&self) -> Option<RoutingReport> {
        let (RoutingMeans { loss, shares }, tokens) = &self.routing;
        let mean = |sum: f64| sum / *tokens as f64;
        let busiest = shares.iter().copied().reduce(f64::max)?;
        let idlest = shares.iter().copied().reduce(f64::min)?;
        Some(RoutingReport { loss: mean(*loss), busiest: mean(busiest), idlest: mean(idlest) })
    }

    pub(super) fn restart(&mut self) {
        *self = Window { trained_tokens: self.trained_tokens, ..Window::default() };
    }
}
