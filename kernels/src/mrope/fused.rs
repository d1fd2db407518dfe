//! The rotation in one launch. Its gradient is the same launch in the other direction.

use cotangent::{Constant, Dtype, Graph, Indices, Result, Tensor, differentiable, stage};

use super::LOW_BITS;
use crate::rope_layout::Pairs;

/// Rotates query or key heads by their position in time, height and width; see [`Frequencies::rotate`](super::Frequencies::rotate).
#[differentiable(
    backward = mrope_backward,
    fallback = mrope_by_operations,
    requires = [2 * F <= D],
    stages = [rotate],
    cases = [
        (A = 3, B = 1, H = 2, S = 7, D = 12, F = 4, EVEN_ODD = false),
        (A = 1, B = 3, H = 1, S = 13, D = 6, F = 3, EVEN_ODD = false),
        (A = 3, B = 1, H = 2, S = 1, D = 13, F = 5, EVEN_ODD = true),
    ],
)]
pub fn mrope<T: Float, const EVEN_ODD: bool>(
    x: In![T; B, H, S, D],
    #[values(0..6000)] positions: In![i32; A, B, S],
    // The angles are as small as those of real frequencies, so that whole turns can be dropped without loss.
    #[nodiff]
    #[values(0.0..0.01, only = "of larger ones whole turns are not dropped without loss")]
    turns: In![f32; 4, F],
    #[values(0..A)] axes: In![i32; F],
    y: Out![T; B, H, S, D],
) {
    Ok(Outputs { y: rotate(stages, RotateInputs { x, positions, turns, axes, direction: 1.0, even_odd: EVEN_ODD })? })
}

/// Computes the gradient with the same launch and every angle negated: a rotation is orthogonal, so its transpose is
/// its inverse.
#[differentiable(backward_of = mrope, stages = [rotate])]
pub fn mrope_backward<T: Float, const EVEN_ODD: bool>(
    positions: In![i32; A, B, S],
    #[nodiff] turns: In![f32; 4, F],
    axes: In![i32; F],
    d_y: In![T; B, H, S, D],
    d_x: Out![T; B, H, S, D],
) {
    Ok(Outputs {
        d_x: Some(rotate(
            stages,
            RotateInputs { x: d_y, positions, turns, axes, direction: -1.0, even_odd: EVEN_ODD },
        )?),
    })
}

/// Rotates one head with each simdgroup: a thread rotates every 32nd pair of its lanes, and copies lanes that are not
/// rotated.
#[stage(
    strided,
    requires = [2 * F <= D],
    grid = (256 * ceil_div(B * H * S, 8), 1, 1),
    threads = (256, 1, 1),
    cases = [
        (A = 3, B = 1, H = 2, S = 7, D = 12, F = 4, EVEN_ODD = false),
        (A = 1, B = 3, H = 1, S = 13, D = 6, F = 3, EVEN_ODD = false),
        (A = 3, B = 1, H = 2, S = 1, D = 13, F = 5, EVEN_ODD = true),
    ],
)]
fn rotate<T: Float, const EVEN_ODD: bool>(
    x: In![T; B, H, S, D],
    #[values(0..6000)] positions: In![i32; A, B, S],
    #[nodiff]
    #[values(0.0..0.01, only = "of larger ones whole turns are not dropped without loss")]
    turns: In![f32; 4, F],
    #[values(0..A)] axes: In![i32; F],
    direction: f32,
    y: Out![T; B, H, S, D],
) {
    metal! {
        uint row = threadgroup_position_in_grid.x * 8u + simdgroup_index_in_threadgroup;
        uint token = row % S;
        uint head = row / S % H;
        uint batch = row / (S * H);
        if (batch >= uint(B)) { return; }
        ulong start = ulong(row) * D;
        ulong x_row = ulong(batch) * x_strides[0] + ulong(head) * x_strides[1] + ulong(token) * x_strides[2];
        for (uint lane = 2u * F + thread_index_in_simdgroup; lane < uint(D); lane += 32u) {
            y[start + lane] = x[x_row + lane * x_strides[3]];
        }
        for (uint lane = thread_index_in_simdgroup; lane < uint(F); lane += 32u) {
            uint left = EVEN_ODD ? 2u * lane : lane;
            uint right = EVEN_ODD ? 2u * lane + 1u : lane + F;
            uint axis = axes[lane * axes_strides[0]];
            uint position = positions[axis * positions_strides[0] + batch * positions_strides[1] + token * positions_strides[2]];
            float low = float(position & 1023u);
            float high = float(position >> 10u);
            uint column = lane * turns_strides[1];
            float whole = fract(low * turns[column]) + fract(high * turns[2 * turns_strides[0] + column]);
            float rest = low * turns[turns_strides[0] + column] + high * turns[3 * turns_strides[0] + column];
            float turn = whole + rest;
            float angle = direction * 6.2831853f * (turn - floor(turn + 0.5f));
            float cosine = precise::cos(angle);
            float sine = precise::sin(angle);
            float first = float(x[x_row + left * x_strides[3]]);
            float second = float(x[x_row + right * x_strides[3]]);
            y[start + left] = T(first * cosine - second * sine);
            y[start + right] = T(second * cosine + first * sine);
        }
    }
}

/// Computes the same rotation from differentiable operations: the fallback.
fn mrope_by_operations<M: Graph>(inputs: MropeInputs<'_, M>) -> Result<Tensor<M>> {
    let MropeInputs { x, positions, turns, axes, even_odd } = inputs;
    let angles = angles::<M>(positions, turns, axes)?;
    let (cosine, sine) = (angles.cos()?, angles.sin()?);
    let pairs = Pairs::new(x, axes.shape()[0], even_odd)?;
    let (first, second) = (pairs.first.cast(Dtype::F32)?, pairs.second.cast(Dtype::F32)?);
    let turned_first = first.multiply(&cosine)?.subtract(&second.multiply(&sine)?)?.cast(x.dtype())?;
    let turned_second = second.multiply(&cosine)?.add(&first.multiply(&sine)?)?.cast(x.dtype())?;
    Pairs { first: turned_first, second: turned_second, passing: pairs.passing }.join(even_odd)
}

/// Angles in -pi..pi, `[B, 1, S, F]`.
fn angles<M: Graph>(positions: &Indices, turns: &Constant, axes: &Indices) -> Result<Tensor<M>> {
    let positions = positions.to_constant("a position is what a token is rotated by")?.to_tensor::<M>();
    // This is exact: float32 holds integers below 2^24, and the divisor is a power of two.
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
