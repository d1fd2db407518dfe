//! The positions of tokens, and the rotation that makes attention depend on them.

use cotangent::{Graph, Indices, Result, Tensor};
use cotangent_kernels::Frequencies;

use crate::config::RopeConfig;

/// The positions of tokens in time, height and width, which are equal for text.
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

    /// Rows with pictures: the positions of each row's tokens, then zeros up to `tokens`.
    ///
    /// # Panics
    /// If a row is longer.
    pub fn from_rows(rows: &[&[[i32; 3]]], tokens: usize) -> Self {
        assert!(rows.iter().all(|row| row.len() <= tokens), "a row of positions is longer than the batch");
        let of_axis = |axis: usize| {
            rows.iter().flat_map(move |row| {
                row.iter().map(move |position| position[axis]).chain(std::iter::repeat_n(0, tokens - row.len()))
            })
        };
        let values = (0..3).flat_map(of_axis).collect();
        Positions { values, rows: rows.len(), tokens }
    }
}

/// The rotary embedding of the tokens of one batch.
#[derive(Debug, Clone)]
pub struct Rotary {
    frequencies: Frequencies,
    positions: Indices,
}

impl Rotary {
    /// The embedding of tokens at `positions`.
    ///
    /// # Errors
    /// None of its own: the sizes are checked where the configuration is read.
    pub fn new(config: &RopeConfig, positions: &Positions) -> Result<Self> {
        let Positions { values, rows, tokens } = positions;
        Ok(Rotary {
            frequencies: Frequencies::new(config.theta, config.rotary_dim, config.mrope_section)?,
            positions: Indices::from_slice(values, &[3, *rows as i32, *tokens as i32])?,
        })
    }

    /// Rotates heads `[B, H, T, D]`.
    ///
    /// # Errors
    /// If the heads are narrower than the lanes that rotate, or batch or tokens are not those of the positions.
    pub fn apply<M: Graph>(&self, heads: &Tensor<M>) -> Result<Tensor<M>> {
        self.frequencies.rotate(heads, &self.positions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_positions_are_equal_on_all_axes() {
        let positions = Positions::text(2, 5, 3);
        assert_eq!(positions.values, [5, 6, 7].repeat(6));
    }
}
