//! Slopes of a kernel's outputs, measured by finite differences: entry by entry, and along a random direction.
//!
//! In double precision a central difference over a millionth is right to nine digits. Where the slope changes within the
//! step, the slopes on either side are measured beyond it, so that a jump at the point itself does not count.

use super::experiment::{Experiment, Precision, Way};
use super::random::Random;
use super::tolerance::{Bounds, STEP};
use crate::Result;

/// Half the step in double precision: what rounding leaves (1e-16 of the values over the step) and what curvature adds (its
/// square) are both some 1e-10 there.
const DOUBLE_STEP: f64 = 1e-6;

/// The factor by which the step shrinks where a function bends too much for it.
const FINER: f64 = 32.0;

/// The number of roundings that an output that changed may have gone through.
const ROUNDINGS: f64 = 64.0;

/// The slopes of the outputs' weighted sum along one input.
pub(super) struct Slopes {
    pub(super) entries: Vec<Entry>,
    pub(super) along: Option<Along>,
    /// Elements beside which the function has no value.
    pub(super) poles: usize,
}

/// The number of steps over which the slope along a direction is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Steps {
    /// No step: the slope has no meaning across kinks.
    None,
    /// One step.
    One,
    /// Two steps, the second finer, where the function may bend at these values.
    Two,
}

/// The slope along one element: between the two, which differ at a kink only.
pub(super) struct Entry {
    element: usize,
    low: f64,
    high: f64,
    rounding: f64,
}

/// The slope along a direction of ones and minus ones.
pub(super) struct Along {
    direction: Vec<f64>,
    slope: f64,
    rounding: f64,
}

/// A function around one point.
pub(super) struct Probe<'a> {
    experiment: &'a Experiment,
    way: Way,
    precision: Precision,
    weights: Vec<f64>,
    /// The outputs there.
    base: Vec<f64>,
    step: f64,
    unit: f64,
}

impl<'a> Probe<'a> {
    /// # Errors
    /// What the function returns.
    pub(super) fn new(experiment: &'a Experiment, way: Way, precision: Precision) -> Result<Self> {
        let base = precision.within(|| experiment.outputs(way))?;
        let base = base.into_iter().filter(|(port, _)| experiment.is_float(port));
        let base = base.flat_map(|(_, values)| values).collect();
        let (step, unit) = match precision {
            Precision::Single => (f64::from(STEP), f64::from(f32::EPSILON) / 2.0),
            Precision::Double => (DOUBLE_STEP, f64::EPSILON / 2.0),
        };
        Ok(Probe { experiment, way, precision, weights: experiment.weights.concat(), base, step, unit })
    }

    /// The slopes along `elements` of the input at `position`, and along all of it. At elements where `is_kink`, the slope
    /// may change.
    pub(super) fn slopes(
        &self,
        position: usize,
        elements: &[usize],
        is_kink: &dyn Fn(usize) -> bool,
        along: Steps,
    ) -> Result<Slopes> {
        let mut slopes = Slopes { entries: Vec::new(), along: None, poles: 0 };
        for &element in elements {
            match self.entry(position, element, is_kink(element))? {
                Some(entry) => slopes.entries.push(entry),
                None => slopes.poles += 1,
            }
        }
        slopes.along = self.along(position, along)?;
        Ok(slopes)
    }

    /// Returns whether differences mean something here: those over a step and over another one agree.
    ///
    /// # Errors
    /// What the function returns.
    pub(super) fn resolves(&self) -> Result<bool> {
        for position in 0..self.experiment.places.len() {
            let direction = self.direction(position);
            let over = |step: f64| self.central(position, step, &|index| direction[index]);
            let ((near, rounding), (far, _)) = (over(self.step)?, over(8.0 * self.step)?);
            if (near - far).abs() > 1e-5 * near.abs().max(far.abs()) + 16.0 * rounding + 1e-9 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn at(&self, position: usize, change: &dyn Fn(usize) -> f64) -> Result<Vec<f64>> {
        self.precision.within(|| self.experiment.elements_at(self.way, position, change))
    }

    /// The weighted sum's change from `below` to `above` over a distance, and what rounding may have done to it.
    fn slope(&self, above: &[f64], below: &[f64], distance: f64) -> (f64, f64) {
        let (mut sum, mut squares) = (0.0, 0.0);
        for ((above, below), weight) in above.iter().zip(below).zip(&self.weights) {
            if *weight == 0.0 {
                continue;
            }
            sum += weight * (above - below);
            let roundings = if above == below { 1.0 } else { ROUNDINGS };
            squares += (roundings * weight * above.abs().max(below.abs())).powi(2);
        }
        (sum / distance, self.unit * squares.sqrt() / distance)
    }

    fn central(&self, position: usize, step: f64, direction: &dyn Fn(usize) -> f64) -> Result<(f64, f64)> {
        let above = self.at(position, &|index| step * direction(index))?;
        let below = self.at(position, &|index| -step * direction(index))?;
        Ok(self.slope(&above, &below, 2.0 * step))
    }

    /// Returns the slope along one element, or `None` where the function has no value on one side.
    fn entry(&self, position: usize, element: usize, is_kink: bool) -> Result<Option<Entry>> {
        let step = self.step;
        let at = |distance: f64| self.at(position, &|index| if index == element { distance } else { 0.0 });
        let (above, below) = (at(step)?, at(-step)?);
        let (central, rounding) = self.slope(&above, &below, 2.0 * step);
        let single = |slope: f64, rounding: f64| Some(Entry { element, low: slope, high: slope, rounding });
        if !central.is_finite() {
            return Ok(None);
        }
        if self.precision == Precision::Single {
            return Ok(single(central, rounding));
        }
        let bend = |above: &[f64], below: &[f64], step: f64| {
            self.slope(above, &self.base, step).0 - self.slope(&self.base, below, step).0
        };
        let coarse = bend(&above, &below, step).abs();
        if coarse <= 1e-4 * central.abs() + 4.0 * rounding {
            return Ok(single(central, rounding));
        }
        let fine = step / FINER;
        let (near_above, near_below) = (at(fine)?, at(-fine)?);
        let (nearer, near_rounding) = self.slope(&near_above, &near_below, 2.0 * fine);
        let bends = bend(&near_above, &near_below, fine).abs() <= coarse / 4.0 + 4.0 * near_rounding;
        if bends || !is_kink {
            return Ok(single(nearer, near_rounding));
        }
        let (right, _) = self.slope(&at(2.0 * step)?, &above, step);
        let (left, _) = self.slope(&below, &at(-2.0 * step)?, step);
        if !(right.is_finite() && left.is_finite()) {
            return Ok(None);
        }
        Ok(Some(Entry { element, low: right.min(left), high: right.max(left), rounding: 2.0 * rounding }))
    }

    fn direction(&self, position: usize) -> Vec<f64> {
        let mut random = Random::DIRECTIONS;
        self.experiment.values[position].iter().map(|_| f64::from(random.sign())).collect()
    }

    fn along(&self, position: usize, steps: Steps) -> Result<Option<Along>> {
        if steps == Steps::None {
            return Ok(None);
        }
        let direction = self.direction(position);
        let over = |step: f64| self.central(position, step, &|index| direction[index]);
        let (mut slope, mut rounding) = over(self.step)?;
        if self.precision == Precision::Double && steps == Steps::Two {
            // If two steps disagree, the function is curved, and the finer step is taken.
            let (finer, finer_rounding) = over(self.step / FINER)?;
            if (finer - slope).abs() > finer_rounding {
                (slope, rounding) = (finer, finer_rounding);
            }
        }
        Ok(slope.is_finite().then_some(Along { direction, slope, rounding }))
    }

    /// The size that a gradient of the input at `position` has by that of outputs and inputs alone.
    pub(super) fn natural(&self, position: usize) -> f64 {
        natural(self.experiment, &self.base, position)
    }
}

/// The size that a gradient has by that of outputs and inputs alone.
pub(super) fn natural(experiment: &Experiment, outputs: &[f64], position: usize) -> f64 {
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let weights = experiment.weights.concat();
    let sum = length(&mut outputs.iter().zip(&weights).map(|(value, weight)| value * weight));
    let input = length(&mut experiment.values[position].iter().copied());
    if input > 0.0 && sum.is_finite() { sum / input } else { 0.0 }
}

impl Slopes {
    /// Returns the distance of a gradient from the slopes, entry by entry, relative to their size.
    pub(super) fn entries_apart(&self, gradient: &[f64], natural: f64, bounds: &Bounds) -> f64 {
        let largest = self.entries.iter().map(|entry| entry.low.abs().max(entry.high.abs())).fold(0.0, f64::max);
        let largest = gradient.iter().fold(largest, |largest, entry| largest.max(entry.abs()));
        let floor = bounds.floor * largest.max(bounds.least).max(bounds.natural * natural);
        let mut worst = 0.0_f64;
        for Entry { element, low, high, rounding } in &self.entries {
            let claimed = gradient.get(*element).copied().unwrap_or(f64::NAN);
            let nearest = claimed.clamp(*low, *high);
            let size = bounds.own * nearest.abs() + floor + rounding / bounds.entry;
            let deviation = if claimed == nearest { 0.0 } else { (claimed - nearest).abs() / size };
            // `max` would ignore a NaN.
            worst = if deviation <= worst { worst } else { deviation };
        }
        worst
    }

    /// Returns the distance of a gradient from the slope along the direction, relative to its length.
    pub(super) fn along_apart(&self, gradient: &[f64], natural: f64, bounds: &Bounds) -> Option<f64> {
        let Along { direction, slope, rounding } = self.along.as_ref()?;
        let claimed: f64 = gradient.iter().zip(direction).map(|(entry, sign)| entry * sign).sum();
        let length = gradient.iter().map(|entry| entry * entry).sum::<f64>().sqrt();
        let size = length.max(bounds.least).max(bounds.natural * bounds.floor * natural) + rounding / bounds.along;
        // A gradient of zero everywhere is right if the slope is zero, too.
        Some(if claimed == *slope { 0.0 } else { (slope - claimed).abs() / size })
    }
}
