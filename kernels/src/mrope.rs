//! Interleaved multi-axis rotary position embedding (MRoPE), fused.
//!
//! Frequency `f` of `F` rotates lane `f` of a head with lane `f + F` by the angle `position * theta^(-f / F)`; the
//! position is the token's in time, height or width, whichever the frequency follows. Lanes from `2 F` on pass.
//!
//! A float32 angle at position 4000 has lost four digits, so angles are never formed: [`Frequencies`] holds turns per
//! position (angle / 2 pi), split so that whole turns can be dropped exactly before anything is rounded.

use cotangent::{Constant, Dtype, Graph, Indices, Result, Tensor, differentiable, stage};

/// The rotary frequencies of a model, ready for [`mrope`](fn@mrope).
#[derive(Debug, Clone)]
pub struct Frequencies {
    turns: Constant,
    axes: Indices,
    rotated: usize,
}

/// Positions split after this many bits: a low part, and a high part that counts `2^10` positions.
const LOW_BITS: u32 = 10;

/// Bits of the leading part of a split: a position of 10 bits times 14 bits is exact in float32.
const LEADING_BITS: i32 = 14;

impl Frequencies {
    /// The frequencies `theta^(-2 f / rotary_dim)` for `f < rotary_dim / 2`, each following the axis that `section` (how
    /// many follow time, height and width, taking turns) gives it.
    ///
    /// # Errors
    /// None for an even `rotary_dim` of at least two.
    pub fn new(theta: f64, rotary_dim: usize, section: [usize; 3]) -> Result<Self> {
        let count = rotary_dim / 2;
        // Leading and trailing part for the low bits of a position, then the same for its high bits.
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
        let axes: Vec<i32> = (0..count).map(|frequency| axis_of(frequency, section)).collect();
        Ok(Self {
            turns: Constant::from_slice(&rows.concat(), &[4, count as i32])?,
            axes: Indices::from_slice(&axes, &[count as i32])?,
            rotated: 2 * count,
        })
    }

    /// Rotates heads `x` `[B, H, S, D]` of tokens at `positions` `[3, B, S]` (time, height, width; below 2^20).
    ///
    /// # Errors
    /// Heads narrower than the rotated lanes; positions of another batch or length.
    pub fn rotate<M: Graph>(&self, x: &Tensor<M>, positions: &Indices) -> Result<Tensor<M>> {
        let width = x.shape().last().copied().unwrap_or_default();
        if (width as usize) < self.rotated {
            return Err(cotangent::Error::Shape {
                operation: "Frequencies::rotate",
                found: format!("heads of {width} lanes"),
                expected: format!("at least the {} that rotate", self.rotated),
            });
        }
        mrope(x, positions, &self.turns, &self.axes)
    }
}

/// The axis a frequency follows: height at 1, 4, 7 .., width at 2, 5, 8 .., as far as their sections go, else time.
fn axis_of(frequency: usize, section: [usize; 3]) -> i32 {
    let axis = frequency % 3;
    if axis != 0 && frequency < 3 * section[axis] { axis as i32 } else { 0 }
}

/// Rotates query or key heads by their position in time, height and width; see [`Frequencies::rotate`].
#[differentiable(
    backward = mrope_backward,
    fallback = mrope_by_operations,
    stages = [rotate],
    cases = [(B = 1, H = 2, S = 7, D = 12, F = 4), (B = 3, H = 1, S = 13, D = 6, F = 3)],
)]
pub fn mrope<T: Float>(
    x: In![T; B, H, S, D],
    #[values(0..6000)] positions: In![i32; 3, B, S],
    #[nodiff] turns: In![f32; 4, F],
    #[values(0..3)] axes: In![i32; F],
    y: Out![T; B, H, S, D],
) {
    Ok(Outputs { y: rotate(stages, x, positions, turns, axes, 1.0)? })
}

/// The same launch with every angle negated: a rotation is orthogonal, so its transpose turns back.
#[differentiable(backward_of = mrope, stages = [rotate])]
pub fn mrope_backward<T: Float>(
    positions: In![i32; 3, B, S],
    #[nodiff] turns: In![f32; 4, F],
    axes: In![i32; F],
    d_y: In![T; B, H, S, D],
    d_x: Out![T; B, H, S, D],
) {
    Ok(Outputs { d_x: Some(rotate(stages, d_y, positions, turns, axes, -1.0)?) })
}

/// One thread rotates one pair of lanes, or copies one lane that passes.
#[stage(
    grid = (B * H * S * (D - F), 1, 1),
    threads = (256, 1, 1),
    cases = [(B = 1, H = 2, S = 7, D = 12, F = 4), (B = 3, H = 1, S = 13, D = 6, F = 3)],
)]
fn rotate<T: Float>(
    x: In![T; B, H, S, D],
    #[values(0..6000)] positions: In![i32; 3, B, S],
    #[nodiff] turns: In![f32; 4, F],
    #[values(0..3)] axes: In![i32; F],
    direction: f32,
    y: Out![T; B, H, S, D],
) {
    metal! {
        uint index = thread_position_in_grid.x;
        uint lanes = D - F;
        uint lane = index % lanes;
        uint row = index / lanes;
        uint start = row * D;
        if (lane >= uint(F)) {
            y[start + lane + F] = x[start + lane + F];
            return;
        }
        uint token = row % S;
        uint batch = row / (H * S);
        uint position = positions[(axes[lane] * B + batch) * S + token];
        float low = float(position & 1023u);
        float high = float(position >> 10u);
        float whole = fract(low * turns[lane]) + fract(high * turns[2 * F + lane]);
        float turn = whole + (low * turns[F + lane] + high * turns[3 * F + lane]);
        float angle = direction * 6.2831853f * (turn - floor(turn + 0.5f));
        float cosine = precise::cos(angle);
        float sine = precise::sin(angle);
        float first = float(x[start + lane]);
        float second = float(x[start + lane + F]);
        y[start + lane] = T(first * cosine - second * sine);
        y[start + lane + F] = T(second * cosine + first * sine);
    }
}

/// The same rotation, composed of operations.
fn mrope_by_operations<M: Graph>(
    x: &Tensor<M>,
    positions: &Indices,
    turns: &Constant,
    axes: &Indices,
) -> Result<Tensor<M>> {
    let angles = angles::<M>(positions, turns, axes)?;
    let (cosine, sine) = (angles.cos()?, angles.sin()?);
    let pairs = axes.shape()[0];
    let passing = x.dimension(-1) - 2 * pairs;
    let parts = x.split(&[pairs, pairs, passing], -1)?;
    let (first, second) = (parts[0].cast(Dtype::F32)?, parts[1].cast(Dtype::F32)?);
    let turned_first = first.multiply(&cosine)?.subtract(&second.multiply(&sine)?)?.cast(x.dtype())?;
    let turned_second = second.multiply(&cosine)?.add(&first.multiply(&sine)?)?.cast(x.dtype())?;
    Tensor::concatenate(&[&turned_first, &turned_second, &parts[2]], -1)
}

/// Angles in -pi..pi, `[B, 1, S, F]`.
fn angles<M: Graph>(positions: &Indices, turns: &Constant, axes: &Indices) -> Result<Tensor<M>> {
    let positions = positions.to_constant("a position is what a token is rotated by")?.to_tensor::<M>();
    // Exact: float32 holds integers below 2^24, and the divisor is a power of two.
    let high = positions.multiply(1.0 / (1 << LOW_BITS) as f32)?.floor()?;
    let low = positions.subtract(&high.multiply((1 << LOW_BITS) as f32)?)?;
    let by_frequency = |part: &Tensor<M>| part.take(axes, 0)?.transpose(&[1, 2, 0])?.expand_dims(1);
    let (low, high) = (by_frequency(&low)?, by_frequency(&high)?);
    let turns = turns.to_tensor::<M>().split(&[1, 1, 1, 1], 0)?;
    let fraction = |part: &Tensor<M>, turns: &Tensor<M>| {
        let product = part.multiply(turns)?;
        product.subtract(&product.floor()?)
    };
    let whole = fraction(&low, &turns[0])?.add(&fraction(&high, &turns[2])?)?;
    let rest = low.multiply(&turns[1])?.add(&high.multiply(&turns[3])?)?;
    let turn = whole.add(&rest)?;
    let nearest = turn.add(0.5)?.floor()?;
    turn.subtract(&nearest)?.multiply(std::f32::consts::TAU)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_section_takes_turns() {
        let axes: Vec<i32> = (0..32).map(|frequency| axis_of(frequency, [11, 11, 10])).collect();
        assert_eq!(axes[..6], [0, 1, 2, 0, 1, 2]);
        assert_eq!(axes[30..], [0, 1]);
        for (axis, count) in [(0, 11), (1, 11), (2, 10)] {
            assert_eq!(axes.iter().filter(|found| **found == axis).count(), count);
        }
    }
}
