//! Multi-axis rotary position embedding (MRoPE), fused (Wang et al., "Qwen2-VL", 2024).
//!
//! Frequency `f` of `F` rotates two lanes of a head by the angle `position * theta^(-f / F)`; the position is the token's
//! in time, height or width, whichever the frequency follows. Lanes from `2 F` on pass.
//!
//! A float32 angle at position 4000 has lost four digits, so angles are never formed: [`Frequencies`] holds turns per
//! position (angle / 2 pi), split so that whole turns can be dropped exactly before anything is rounded.

mod fused;

use cotangent::{Constant, Error, Graph, Indices, Result, Tensor};

use crate::rope_layout::{AxisChoice, Pairing};
pub use fused::{MropeInputs, mrope, mrope_backward};

/// The rotary frequencies of a model, ready for [`mrope`](fn@mrope).
#[derive(Debug, Clone)]
pub struct Frequencies {
    turns: Constant,
    axes: Indices,
    /// The axis of every frequency where tokens have one position: the first.
    first_axis: Indices,
    rotated: usize,
    pairing: Pairing,
}

/// Positions split after this many bits: a low part, and a high part that counts `2^10` positions.
const LOW_BITS: u32 = 10;

/// Bits of the leading part of a split: a position of 10 bits times 14 bits is exact in float32.
const LEADING_BITS: i32 = 14;

impl Frequencies {
    /// The frequencies of the Qwen3.5 models: half-split pairs, axes interleaved.
    ///
    /// # Errors
    /// As [`with_layout`](Self::with_layout).
    pub fn new(theta: f64, rotary_dim: usize, section: [usize; 3]) -> Result<Self> {
        Self::with_layout(theta, rotary_dim, AxisChoice::Interleaved(section), Pairing::HalfSplit)
    }

    /// The frequencies `theta^(-2 f / rotary_dim)` for `f < rotary_dim / 2`, each following the axis that `choice` gives it
    /// and rotating the lanes that `pairing` does.
    ///
    /// # Errors
    /// None for an even `rotary_dim` of at least two whose frequencies the sections name.
    pub fn with_layout(theta: f64, rotary_dim: usize, choice: AxisChoice, pairing: Pairing) -> Result<Self> {
        let count = rotary_dim / 2;
        // The rows are the leading and trailing part for the low bits of a position, then the same for its high bits.
        let mut rows: [Vec<f32>; 4] = Default::default();
        for frequency in 0..count {
            let turns = theta.powf(-2.0 * frequency as f64 / rotary_dim as f64) / std::f64::consts::TAU;
            for (part, turns) in [turns, turns * f64::from(1 << LOW_BITS)].into_iter().enumerate() {
                let turns = turns.fract();
                let scale = f64::from(LEADING_BITS).exp2();
                let leading = (turns * scale).floor() / scale;
                rows[2 * part].push(leading as f32);
                rows[2 * part + 1].push((turns - leading) as f32);
            }
        }
        Ok(Self {
            turns: Constant::from_slice(&rows.concat(), &[4, count as i32])?,
            axes: Indices::from_slice(&choice.axes(count)?, &[count as i32])?,
            first_axis: Indices::from_slice(&vec![0; count], &[count as i32])?,
            rotated: 2 * count,
            pairing,
        })
    }

    /// Rotates heads `x` `[B, H, S, D]` of tokens at `positions` `[3, B, S]` (time, height, width; below 2^20), or
    /// `[B, S]` where tokens have one position for all frequencies.
    ///
    /// # Errors
    /// Heads narrower than the rotated lanes; positions of another batch or length.
    pub fn rotate<M: Graph>(&self, x: &Tensor<M>, positions: &Indices) -> Result<Tensor<M>> {
        let width = x.shape().last().copied().unwrap_or_default();
        if (width as usize) < self.rotated {
            return Err(Error::Shape {
                operation: "Frequencies::rotate",
                found: format!("heads of {width} lanes"),
                expected: format!("at least the {} that rotate", self.rotated),
            });
        }
        let even_odd = self.pairing == Pairing::EvenOdd;
        match *positions.shape() {
            [batch, tokens] => mrope(MropeInputs {
                x,
                positions: &positions.reshape(&[1, batch, tokens])?,
                turns: &self.turns,
                axes: &self.first_axis,
                even_odd,
            }),
            [3, ..] => mrope(MropeInputs { x, positions, turns: &self.turns, axes: &self.axes, even_odd }),
            ref other => Err(Error::Shape {
                operation: "Frequencies::rotate",
                found: format!("positions {other:?}"),
                expected: "[3, B, S] or [B, S]".into(),
            }),
        }
    }
}
