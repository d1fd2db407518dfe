//! Chooses the next token from scores.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// The way in which the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingOptions {
    /// The divisor of the scores; 0 always takes the best token.
    pub temperature: f64,
    /// The choice is among the most probable tokens that together have at least this probability; 1 allows all.
    pub top_p: f64,
    /// The choice is among this many of the most probable tokens; 0 allows all.
    pub top_k: usize,
    /// The choice is among tokens at least this times as probable as the best; 0 allows all.
    pub min_p: f64,
    /// The seed of the random numbers.
    pub seed: u64,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        SamplingOptions { temperature: 0.0, top_p: 1.0, top_k: 0, min_p: 0.0, seed: 0 }
    }
}

/// Chooses tokens; the same ones for the same seed and scores.
#[derive(Debug)]
pub struct Sampler {
    options: SamplingOptions,
    random: Xoshiro256PlusPlus,
}

impl Sampler {
    /// A sampler at the beginning of its random numbers.
    pub fn new(options: SamplingOptions) -> Self {
        Sampler { options, random: Xoshiro256PlusPlus::seed_from_u64(options.seed) }
    }

    /// The index of the chosen one of `scores`; `None` if there is none that is a number.
    pub fn choose(&mut self, scores: &[f32]) -> Option<u32> {
        let best = best(scores)?;
        if self.options.temperature == 0.0 {
            return Some(best as u32);
        }
        let candidates = self.candidates(scores, scores[best]);
        let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        let mut left = self.random.random::<f64>() * total;
        for (index, weight) in &candidates {
            left -= weight;
            if left < 0.0 {
                return Some(*index);
            }
        }
        candidates.last().map(|(index, _)| *index)
    }

    /// The tokens that may be chosen with their weights, most probable first: temperature, then `top_k`, `top_p` and
    /// `min_p` in this order, as transformers applies them.
    fn candidates(&self, scores: &[f32], highest: f32) -> Vec<(u32, f64)> {
        let SamplingOptions { temperature, top_p, top_k, min_p, .. } = self.options;
        let weight = |score: f32| (f64::from(score - highest) / temperature).exp();
        let mut candidates: Vec<(u32, f64)> = (0..)
            .zip(scores)
            .filter(|(_, score)| !score.is_nan())
            .map(|(index, score)| (index, weight(*score)))
            .filter(|(_, weight)| *weight > 0.0)
            .collect();
        candidates.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
        if top_k > 0 {
            candidates.truncate(top_k);
        }
        let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        let mut reached = 0.0;
        let enough = candidates.iter().position(|(_, weight)| {
            reached += weight;
            reached >= top_p * total
        });
        candidates.truncate(enough.map_or(candidates.len(), |last| last + 1));
        // The most probable token has the weight 1.
        candidates.retain(|(_, weight)| *weight >= min_p);
        candidates
    }
}

/// The first of the highest scores.
fn best(scores: &[f32]) -> Option<usize> {
    let numbers = scores.iter().enumerate().filter(|(_, score)| !score.is_nan());
    numbers.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(temperature: f64, top_p: f64, top_k: usize, min_p: f64) -> SamplingOptions {
        SamplingOptions { temperature, top_p, top_k, min_p, seed: 1 }
    }

    #[test]
    fn temperature_zero_takes_the_first_of_the_best() {
        for (scores, expected) in [
            (vec![1.0, 3.0, 3.0], Some(1)),
            (vec![f32::NAN, -2.0, -1.0], Some(2)),
            (vec![f32::NEG_INFINITY, f32::NEG_INFINITY], Some(0)),
            (vec![f32::NAN], None),
            (vec![], None),
        ] {
            assert_eq!(Sampler::new(SamplingOptions::default()).choose(&scores), expected, "{scores:?}");
        }
    }

    #[test]
    fn filters_leave_the_tokens_they_name() {
        // The probabilities are 0.5, 0.3, 0.15 and 0.05.
        let scores: Vec<f32> = [0.15_f32, 0.5, 0.05, 0.3].iter().map(|probability| probability.ln()).collect();
        for (options, expected) in [
            (options(1.0, 1.0, 0, 0.0), vec![1, 3, 0, 2]),
            (options(1.0, 1.0, 2, 0.0), vec![1, 3]),
            (options(1.0, 0.7, 0, 0.0), vec![1, 3]),
            (options(1.0, 0.4, 0, 0.0), vec![1]),
            (options(1.0, 1.0, 0, 0.25), vec![1, 3, 0]),
            (options(1.0, 0.0, 0, 0.0), vec![1]),
            (options(1.0, 0.94, 3, 0.4), vec![1, 3]),
        ] {
            let found: Vec<u32> =
                Sampler::new(options).candidates(&scores, scores[1]).iter().map(|candidate| candidate.0).collect();
            assert_eq!(found, expected, "{options:?}");
        }
    }

    #[test]
    fn draws_follow_the_probabilities_and_the_seed() {
        let scores: Vec<f32> = [0.7_f32, 0.3].iter().map(|probability| probability.ln()).collect();
        let draw = |seed| {
            let mut sampler = Sampler::new(SamplingOptions { seed, ..options(1.0, 1.0, 0, 0.0) });
            (0..4000).map(|_| sampler.choose(&scores).unwrap()).collect::<Vec<u32>>()
        };
        let draws = draw(3);
        assert_eq!(draws, draw(3));
        assert_ne!(draws, draw(4));
        let ones = draws.iter().filter(|index| **index == 1).count() as f64 / 4000.0;
        assert!((ones - 0.3).abs() < 0.03, "{ones}");
    }
}
