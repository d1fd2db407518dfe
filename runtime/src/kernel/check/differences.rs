//! Gradients against central finite differences: along a random direction of each input, and entry by entry where the
//! arrays are small.

use super::experiment::{Computed, Experiment, Way, read};
use super::random::Random;
use super::tolerance::STEP;
use crate::Result;

impl Experiment {
    /// How far the derivative along a random direction of the input at `position` is from the finite difference, relative
    /// to the gradient's length.
    pub(super) fn difference(&self, computed: &Computed, position: usize) -> Result<f64> {
        let gradient = &computed.gradients[position];
        let mut random = Random::DIRECTIONS;
        let direction: Vec<f32> = gradient.iter().map(|_| random.sign()).collect();
        let at = |step: f32| {
            let primals = self.moved(position, |index| step * direction[index])?;
            self.weighted_sum(computed.way, &primals)
        };
        let measured = (at(STEP)? - at(-STEP)?) / (2.0 * f64::from(STEP));
        let claimed: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        let length = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        // A gradient that is zero everywhere is right where the difference is zero, too.
        Ok((measured - claimed).abs() / length.max(1e-3))
    }

    /// For each differentiable input, how far the entries of the Jacobian, all outputs by all its elements, are from finite
    /// differences, relative to the largest entry.
    pub(super) fn jacobian(&self, way: Way) -> Result<Vec<f64>> {
        let rows = (0..self.float_elements())
            .map(|output| self.gradients(way, &self.one_hot(output)?))
            .collect::<Result<Vec<_>>>()?;
        let mut deviations = Vec::new();
        for (position, place) in self.places.iter().enumerate() {
            let largest = rows.iter().flat_map(|row| &row[position]).fold(1e-3_f64, |largest, entry| {
                // `max` would drop what is not a number.
                if f64::from(entry.abs()) <= largest { largest } else { f64::from(entry.abs()) }
            });
            let mut worst = 0.0_f64;
            for element in 0..self.inputs[*place].array().size() {
                let at = |step: f32| -> Result<Vec<f32>> {
                    let primals = self.moved(position, |index| if index == element { step } else { 0.0 })?;
                    let outputs = self.floats(self.run(way, &primals)?).into_iter().map(read);
                    Ok(outputs.collect::<Result<Vec<_>>>()?.concat())
                };
                for ((above, below), row) in at(STEP)?.into_iter().zip(at(-STEP)?).zip(&rows) {
                    let measured = (f64::from(above) - f64::from(below)) / (2.0 * f64::from(STEP));
                    let deviation = (measured - f64::from(row[position][element])).abs() / largest;
                    worst = if deviation <= worst { worst } else { deviation };
                }
                if worst.is_nan() {
                    break;
                }
            }
            deviations.push(worst);
        }
        Ok(deviations)
    }
}
