//! Interleaved multi-axis rotary position embedding.

use cotangent::{Constant, Graph, Result, Tensor};

use crate::config::RopeConfig;

/// Cosine and sine of every position and frequency of a batch. Positions are host data, so the angles are computed
/// there, in double precision: at positions in the thousands a float32 angle has lost three digits.
#[derive(Debug, Clone)]
pub struct Rotary {
    /// `[B, 1, T, rotary_dim / 2]`.
    cosine: Constant,
    /// `[B, 1, T, rotary_dim / 2]`.
    sine: Constant,
    rotary_dim: i32,
}

/// Positions of tokens in time, height and width; equal for text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions {
    /// `[3, rows, tokens]` in row-major order.
    values: Vec<i32>,
    rows: usize,
    tokens: usize,
}

impl Positions {
    /// Text: row after row `start..start + tokens` on every axis.
    pub fn text(rows: usize, start: usize, tokens: usize) -> Self {
        let row = (start..start + tokens).map(|position| position as i32);
        let values = row.cycle().take(3 * rows * tokens).collect();
        Positions { values, rows, tokens }
    }

    fn axis(&self, axis: usize) -> &[i32] {
        let length = self.rows * self.tokens;
        &self.values[axis * length..][..length]
    }
}

impl Rotary {
    /// The table of a batch.
    ///
    /// # Errors
    /// None of its own: the sizes are checked where the configuration is read.
    pub fn new(config: &RopeConfig, positions: &Positions) -> Result<Self> {
        let pairs = config.rotary_dim / 2;
        let angles: Vec<f64> = (0..positions.rows * positions.tokens)
            .flat_map(|token| {
                (0..pairs).map(move |pair| {
                    let position = f64::from(positions.axis(axis_of(pair, config.mrope_section))[token]);
                    position * config.theta.powf(-2.0 * pair as f64 / config.rotary_dim as f64)
                })
            })
            .collect();
        let shape = [positions.rows as i32, 1, positions.tokens as i32, pairs as i32];
        let table = |function: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|angle| function(*angle) as f32).collect();
            Constant::from_slice(&values, &shape)
        };
        Ok(Rotary { cosine: table(f64::cos)?, sine: table(f64::sin)?, rotary_dim: config.rotary_dim as i32 })
    }

    /// Rotates the first `rotary_dim` lanes of heads `[B, H, T, D]`, lane `f` with lane `f + rotary_dim / 2`.
    ///
    /// # Errors
    /// If the heads are narrower than `rotary_dim`, or batch or tokens are not those of the table.
    pub fn apply<M: Graph>(&self, heads: &Tensor<M>) -> Result<Tensor<M>> {
        let width = heads.dimension(-1);
        let half = self.rotary_dim / 2;
        let dtype = heads.dtype();
        let parts = heads.split(&[half, half, width - self.rotary_dim], -1)?;
        let (first, second) = (parts[0].cast(cotangent::Dtype::F32)?, parts[1].cast(cotangent::Dtype::F32)?);
        let turned_first = first.multiply(&self.cosine)?.subtract(&second.multiply(&self.sine)?)?;
        let turned_second = second.multiply(&self.cosine)?.add(&first.multiply(&self.sine)?)?;
        Tensor::concatenate(&[&turned_first.cast(dtype)?, &turned_second.cast(dtype)?, &parts[2]], -1)
    }
}

/// Which axis a frequency follows: height at 1, 4, 7 …, width at 2, 5, 8 … as far as their sections go, else time.
fn axis_of(pair: usize, section: [usize; 3]) -> usize {
    let axis = pair % 3;
    if axis != 0 && pair < 3 * section[axis] { axis } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_section_takes_turns() {
        let axes: Vec<usize> = (0..32).map(|pair| axis_of(pair, [11, 11, 10])).collect();
        let count = |axis| axes.iter().filter(|found| **found == axis).count();
        assert_eq!((count(0), count(1), count(2)), (11, 11, 10));
        assert_eq!(&axes[..6], [0, 1, 2, 0, 1, 2]);
        assert_eq!(axes[30..], [0, 1]);
    }

    #[test]
    fn text_positions_are_equal_on_all_axes() {
        let positions = Positions::text(2, 5, 3);
        for axis in 0..3 {
            assert_eq!(positions.axis(axis), [5, 6, 7, 5, 6, 7]);
        }
    }
}
