//! Rotation by tables in one launch each way, and one more for the gradients of tables that have one.

use cotangent::{Graph, Result, Tensor, differentiable, stage};

use crate::rope_layout::{Pairs, pairs_of};

/// Rotates heads by one of `A` tables, of which frequency `f` takes `axes[f]`; see [`rotary`](fn@super::rotary).
#[differentiable(
    backward = fused_rotary_backward,
    fallback = rotary_by_operations,
    requires = [2 * F <= D],
    stages = [rotate_by_tables],
    cases = [
        (A = 1, B = 1, H = 2, S = 7, D = 12, F = 4, COPIES = 1, EVEN_ODD = false),
        (A = 3, B = 2, H = 3, S = 5, D = 6, F = 3, COPIES = 2, EVEN_ODD = false),
        (A = 3, B = 1, H = 2, S = 1, D = 13, F = 5, COPIES = 1, EVEN_ODD = true),
        (A = 1, B = 3, H = 1, S = 3, D = 9, F = 4, COPIES = 2, EVEN_ODD = true),
    ],
)]
pub fn fused_rotary<T: Float, const COPIES: usize, const EVEN_ODD: bool>(
    x: In![T; B, H, S, D],
    cosine: In![f32; A, B, S, COPIES * F],
    sine: In![f32; A, B, S, COPIES * F],
    #[values(0..A)] axes: In![i32; F],
    y: Out![T; B, H, S, D],
) {
    Ok(Outputs {
        y: rotate_by_tables(
            stages,
            RotateByTablesInputs { x, cosine, sine, axes, copies: COPIES, even_odd: EVEN_ODD, transposed: false },
        )?,
    })
}

/// d_x is the transposed rotation of d_y; d_cos_l = sum of d_y_l x_l and d_sin_l = -sum of d_y_l x_r over heads, likewise
/// d_cos_r = sum of d_y_r x_r and d_sin_r = sum of d_y_r x_l; where lanes share a value, both sums together.
#[differentiable(backward_of = fused_rotary, stages = [rotate_by_tables, table_gradients])]
pub fn fused_rotary_backward<T: Float, const COPIES: usize, const EVEN_ODD: bool>(
    x: In![T; B, H, S, D],
    cosine: In![f32; A, B, S, COPIES * F],
    sine: In![f32; A, B, S, COPIES * F],
    axes: In![i32; F],
    d_y: In![T; B, H, S, D],
    d_x: Out![T; B, H, S, D],
    d_cosine: Out![f32; A, B, S, COPIES * F],
    d_sine: Out![f32; A, B, S, COPIES * F],
) {
    let d_x = if wants_d_x {
        Some(rotate_by_tables(
            stages,
            RotateByTablesInputs { x: d_y, cosine, sine, axes, copies: COPIES, even_odd: EVEN_ODD, transposed: true },
        )?)
    } else {
        None
    };
    if !wants_d_cosine && !wants_d_sine {
        return Ok(Outputs { d_x, d_cosine: None, d_sine: None });
    }
    let tables = table_gradients(stages, x, d_y, axes, A as usize, COPIES, EVEN_ODD)?;
    Ok(Outputs { d_x, d_cosine: Some(tables.cosine_gradient), d_sine: Some(tables.sine_gradient) })
}

/// Rotates one head with each simdgroup: a thread rotates every 32nd pair of its lanes, and copies lanes that are not
/// rotated.
#[stage(
    strided,
    requires = [2 * F <= D],
    grid = (256 * ceil_div(B * H * S, 8), 1, 1),
    threads = (256, 1, 1),
    cases = [
        (A = 3, B = 2, H = 3, S = 5, D = 6, F = 3, COPIES = 2, EVEN_ODD = false, TRANSPOSED = true),
        (A = 3, B = 1, H = 2, S = 1, D = 13, F = 5, COPIES = 1, EVEN_ODD = true, TRANSPOSED = false),
    ],
)]
fn rotate_by_tables<T: Float, const COPIES: usize, const EVEN_ODD: bool, const TRANSPOSED: bool>(
    x: In![T; B, H, S, D],
    cosine: In![f32; A, B, S, COPIES * F],
    sine: In![f32; A, B, S, COPIES * F],
    #[values(0..A)] axes: In![i32; F],
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
            uint left_value = COPIES == 1 ? lane : left;
            uint right_value = COPIES == 1 ? lane : right;
            uint axis = axes[lane * axes_strides[0]];
            ulong cosine_row = axis * cosine_strides[0] + batch * cosine_strides[1] + token * cosine_strides[2];
            ulong sine_row = axis * sine_strides[0] + batch * sine_strides[1] + token * sine_strides[2];
            float left_sine = -sine[sine_row + left_value * sine_strides[3]];
            float right_sine = sine[sine_row + right_value * sine_strides[3]];
            float first = float(x[x_row + left * x_strides[3]]);
            float second = float(x[x_row + right * x_strides[3]]);
            float left_cosine = cosine[cosine_row + left_value * cosine_strides[3]];
            float right_cosine = cosine[cosine_row + right_value * cosine_strides[3]];
            y[start + left] = T(first * left_cosine + second * (TRANSPOSED ? right_sine : left_sine));
            y[start + right] = T(second * right_cosine + first * (TRANSPOSED ? left_sine : right_sine));
        }
    }
}

/// One thread sums one value of both tables over the heads, in order; values of a table that a frequency does not take have
/// no gradient.
#[stage(
    strided,
    grid = (256 * ceil_div(A * B * S * COPIES * F, 256), 1, 1),
    threads = (256, 1, 1),
    cases = [
        (A = 3, B = 2, H = 3, S = 5, D = 6, F = 3, COPIES = 2, EVEN_ODD = false),
        (A = 2, B = 1, H = 2, S = 1, D = 13, F = 5, COPIES = 1, EVEN_ODD = true),
    ],
)]
fn table_gradients<T: Float, const A: usize, const COPIES: usize, const EVEN_ODD: bool>(
    x: In![T; B, H, S, D],
    cotangent: In![T; B, H, S, D],
    #[values(0..A)] axes: In![i32; F],
    cosine_gradient: Out![f32; A, B, S, COPIES * F],
    sine_gradient: Out![f32; A, B, S, COPIES * F],
) {
    metal! {
        uint index = thread_position_in_grid.x;
        uint width = COPIES * F;
        uint value = index % width;
        uint token = index / width % S;
        uint batch = index / (width * S) % B;
        uint axis = index / (width * S * B);
        if (axis >= uint(A)) { return; }
        uint lane = COPIES == 1 ? value : (EVEN_ODD ? value / 2u : value % uint(F));
        bool is_second = COPIES == 2 && (EVEN_ODD ? value % 2u == 1u : value >= uint(F));
        uint left = EVEN_ODD ? 2u * lane : lane;
        uint right = EVEN_ODD ? 2u * lane + 1u : lane + F;
        float cosine_sum = 0.0f;
        float sine_sum = 0.0f;
        uint heads = uint(axes[lane * axes_strides[0]]) == axis ? uint(H) : 0u;
        for (uint head = 0u; head < heads; ++head) {
            ulong x_row = ulong(batch) * x_strides[0] + ulong(head) * x_strides[1] + ulong(token) * x_strides[2];
            ulong cotangent_row = ulong(batch) * cotangent_strides[0] + ulong(head) * cotangent_strides[1]
                + ulong(token) * cotangent_strides[2];
            float first = float(x[x_row + left * x_strides[3]]);
            float second = float(x[x_row + right * x_strides[3]]);
            if (!is_second) {
                float slope = float(cotangent[cotangent_row + left * cotangent_strides[3]]);
                cosine_sum += slope * first;
                sine_sum -= slope * second;
            }
            if (is_second || COPIES == 1) {
                float slope = float(cotangent[cotangent_row + right * cotangent_strides[3]]);
                cosine_sum += slope * second;
                sine_sum += slope * first;
            }
        }
        cosine_gradient[index] = cosine_sum;
        sine_gradient[index] = sine_sum;
    }
}

/// Computes the same rotation from differentiable operations: the fallback.
fn rotary_by_operations<M: Graph>(inputs: FusedRotaryInputs<'_, M>) -> Result<Tensor<M>> {
    let FusedRotaryInputs { x, cosine, sine, axes, copies, even_odd } = inputs;
    let count = axes.shape()[0];
    // Each lane takes its value from the table of its frequency: `[B, 1, S, F]`.
    let values = |table: &Tensor<M>| -> Result<(Tensor<M>, Tensor<M>)> {
        let (left, right) = if copies == 1 { (table.clone(), table.clone()) } else { pairs_of(table, even_odd)? };
        let [tables, batch, tokens] = [0, 1, 2].map(|axis| table.dimension(axis));
        let axes = axes.reshape(&[1, 1, 1, count])?;
        let chosen = |values: Tensor<M>| {
            let chosen = if tables == 1 { values } else { values.take_along_axis(&axes, 0)? };
            chosen.reshape(&[batch, 1, tokens, count])
        };
        Ok((chosen(left)?, chosen(right)?))
    };
    let ((left_cosine, right_cosine), (left_sine, right_sine)) = (values(cosine)?, values(sine)?);
    let pairs = Pairs::new(x, count, even_odd)?;
    let wide = |lanes: &Tensor<M>| lanes.cast(cotangent::Dtype::F32);
    let (first, second) = (wide(&pairs.first)?, wide(&pairs.second)?);
    let turned_first = first.multiply(&left_cosine)?.subtract(&second.multiply(&left_sine)?)?.cast(x.dtype())?;
    let turned_second = second.multiply(&right_cosine)?.add(&first.multiply(&right_sine)?)?.cast(x.dtype())?;
    Pairs { first: turned_first, second: turned_second, passing: pairs.passing }.join(even_odd)
}
