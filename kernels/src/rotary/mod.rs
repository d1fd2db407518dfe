//! Rotary position embedding from tables of cosines and sines, which may have a gradient of their own.
//!
//! Su et al., "RoFormer" (2021). Where angles come from positions, [`Frequencies`](crate::Frequencies) need no tables.

mod fused;

use cotangent::{Dtype, Error, Graph, Indices, Result, Tensor};

use crate::rope_layout::{AxisChoice, Pairing};
pub use fused::{FusedRotaryInputs, fused_rotary, fused_rotary_backward};

/// The content of a row of a table of cosines or sines, for `F` frequencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableLayout {
    /// `F` values, one for both lanes of a pair.
    Half,
    /// `2 F` values, one for each lane that rotates, in the order of the lanes.
    Full,
}

/// The way in which [`rotary`] reads its tables and pairs lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotaryLayout {
    /// The lanes that rotate together.
    pub pairing: Pairing,
    /// The content of a row of a table.
    pub table: TableLayout,
    /// The choice among three tables, for time, height and width, that gives each frequency its table. `None` means
    /// that there is one table, in which the choice is already made.
    pub choice: Option<AxisChoice>,
}

/// Rotates heads `x` `[B, H, S, D]` by tables `cosine` and `sine`: `[B, S, W]`, or `[3, B, S, W]` with a choice of axes, with
/// `W` the number of frequencies `F`, or `2 F`.
///
/// With `l` and `r` the lanes of a pair, `y_l = x_l cos_l - x_r sin_l` and `y_r = x_r cos_r + x_l sin_r`; lanes from `2 F` on
/// pass. Computed in float32, in the dtype of `x` otherwise. `cosine` and `sine` have gradients, which cost nothing unless
/// they are wanted.
///
/// # Errors
/// Shapes that do not fit, or sections of another number of frequencies.
pub fn rotary<M: Graph>(
    x: &Tensor<M>,
    cosine: &Tensor<M>,
    sine: &Tensor<M>,
    layout: RotaryLayout,
) -> Result<Tensor<M>> {
    let refuse = |found: String, expected: &str| Error::Shape { operation: "rotary", found, expected: expected.into() };
    let shape: [i32; 4] = match *cosine.shape() {
        [batch, tokens, width] if layout.choice.is_none() => [1, batch, tokens, width],
        [3, batch, tokens, width] if layout.choice.is_some() => [3, batch, tokens, width],
        ref other => {
            let expected = if layout.choice.is_some() { "[3, B, S, W] to choose from" } else { "[B, S, W]" };
            return Err(refuse(format!("tables {other:?}"), expected));
        }
    };
    let copies = match layout.table {
        TableLayout::Half => 1,
        TableLayout::Full => 2,
    };
    let count = shape[3] / copies;
    let lanes = x.shape().last().copied().unwrap_or_default();
    if shape[3] % copies != 0 || lanes < 2 * count {
        return Err(refuse(
            format!("heads of {lanes} lanes and tables of {} values ({:?})", shape[3], layout.table),
            "two lanes a frequency",
        ));
    }
    let axes = match layout.choice {
        Some(choice) => choice.axes(count as usize)?,
        None => vec![0; count as usize],
    };
    let axes = Indices::from_slice(&axes, &[count])?;
    let table = |values: &Tensor<M>| values.reshape(&shape)?.cast(Dtype::F32);
    let even_odd = layout.pairing == Pairing::EvenOdd;
    fused_rotary(FusedRotaryInputs {
        x,
        cosine: &table(cosine)?,
        sine: &table(sine)?,
        axes: &axes,
        copies: copies as usize,
        even_odd,
    })
}
