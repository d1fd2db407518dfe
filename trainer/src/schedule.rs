//! The learning rate of each step.

use std::f64::consts::PI;

/// The way in which the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Decay {
    /// The rate does not change.
    #[default]
    Constant,
    /// The rate falls in a straight line.
    Linear,
    /// The rate falls along half a cosine: slowly, fast, slowly.
    Cosine,
}

/// A rising warm-up, then a decay towards a minimum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The highest learning rate.
    pub peak: f64,
    /// The rate at which the decay would arrive one step after the last.
    pub minimum: f64,
    /// Steps below the peak at the beginning.
    pub warmup: usize,
    /// All steps, those of the warm-up included.
    pub steps: usize,
    /// The decay that follows the warm-up.
    pub decay: Decay,
}

impl Schedule {
    /// The learning rate of a step, counted from 0. No step is wasted on a rate of zero: the warm-up begins one
    /// increment above it, and the decay would reach the minimum one step after the last.
    pub fn learning_rate(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / (self.warmup + 1) as f64;
        }
        let falling = self.steps.saturating_sub(self.warmup).max(1);
        let progress = ((step - self.warmup) as f64 / falling as f64).min(1.0);
        let left = match self.decay {
            Decay::Constant => return self.peak,
            Decay::Linear => 1.0 - progress,
            Decay::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
        };
        self.minimum + (self.peak - self.minimum) * left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_stays_or_falls_as_named() {
        use Decay::{Constant, Cosine, Linear};
        let half = 0.5 * (1.0 + 0.5);
        for (decay, minimum, warmup, steps, expected) in [
            (Constant, 0.0, 0, 3, vec![1.0, 1.0, 1.0]),
            (Constant, 0.0, 3, 5, vec![0.25, 0.5, 0.75, 1.0, 1.0]),
            (Linear, 0.0, 0, 4, vec![1.0, 0.75, 0.5, 0.25, 0.0, 0.0]),
            (Linear, 0.2, 1, 5, vec![0.5, 1.0, 0.8, 0.6, 0.4, 0.2]),
            (Cosine, 0.0, 0, 2, vec![1.0, 0.5, 0.0]),
            (Cosine, 0.2, 0, 3, vec![1.0, 0.2 + 0.8 * half, 0.2 + 0.8 * (1.0 - half), 0.2]),
            (Cosine, 0.0, 4, 2, vec![0.2, 0.4]),
        ] {
            let schedule = Schedule { peak: 1.0, minimum, warmup, steps, decay };
            for (step, expected) in expected.iter().enumerate() {
                let found = schedule.learning_rate(step);
                assert!((found - expected).abs() < 1e-12, "{schedule:?}, step {step}: {found}, expected {expected}");
            }
        }
    }

    #[test]
    fn a_peak_is_reached_once_the_warm_up_is_over_and_never_exceeded() {
        let schedule = Schedule { peak: 3e-4, minimum: 1e-5, warmup: 10, steps: 100, decay: Decay::Cosine };
        let rates: Vec<f64> = (0..100).map(|step| schedule.learning_rate(step)).collect();
        assert!(rates[..=10].is_sorted_by(|a, b| a < b) && rates[10..].is_sorted_by(|a, b| a > b));
        assert_eq!(rates[10], 3e-4);
        assert!(rates.iter().all(|rate| *rate > 0.0));
    }
}
