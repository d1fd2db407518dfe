//! Attention of one new token over a cache whose rows are padded on the left, as batches of prompts have them.
//!
//! With s_j = scale q k_j and the softmax p over the keys behind the row's padding, o = sum_j p_j v_j. In one pass, a
//! threadgroup has a head; its simdgroups take turns at keys, each with a running maximum and sum, and meet at the end.
//! In two passes, each section of the keys has a threadgroup, and a second launch joins the sections; they fill a GPU
//! that few heads would not. One source serves both: one pass is the only section.
//!
//! The gradient comes from the logarithm L of the softmax's denominator, whichever way it was summed up: p_j = e^(s_j - L),
//! D = dO o, ds_j = p_j (dO v_j - D); dq = scale sum_j ds_j k_j, dk_j = scale sum ds_j q and dv_j = sum p_j dO over the
//! query heads of a key head.

use cotangent::{Constant, Error, Graph, Indices, Result, Tensor, differentiable, stage};

/// Keys from which on they are cut into sections, and how many a section has at least.
const KEYS_OF_A_SECTION: i32 = 512;

/// The most sections.
const MOST_SECTIONS: i32 = 64;

/// `softmax(scale q k^T) v` of one query a row: queries `[B, H, 1, D]`, keys `[B, G, S, D]`, values `[B, G, S, E]`, G a
/// divisor of H, and for each row how many keys its padding has, `pads` `[B]`, give `[B, H, 1, E]`. A row that is
/// all padding gives 0. Softmax is float32.
///
/// # Errors
/// Shapes or dtypes that do not fit.
pub fn decode_attention<M: Graph>(
    queries: &Tensor<M>,
    keys: &Tensor<M>,
    values: &Tensor<M>,
    pads: &Indices,
    scale: f32,
) -> Result<Tensor<M>> {
    let fits = queries.rank() == 4 && keys.rank() == 4 && keys.dimension(1) > 0;
    if !fits || queries.dimension(1) % keys.dimension(1) != 0 {
        return Err(Error::Shape {
            operation: "decode_attention",
            found: format!("{:?} and {:?}", queries.shape(), keys.shape()),
            expected: "[B, H, 1, D] and [B, G, S, D] with H % G = 0".into(),
        });
    }
    let sections = (keys.dimension(2) / KEYS_OF_A_SECTION).clamp(1, MOST_SECTIONS);
    attend_one_query(AttendOneQueryInputs { queries, keys, values, pads, scale, sections: sections as usize })
}

/// [`decode_attention`] in sections of the keys: one pass for one section, else two.
#[differentiable(
    backward = attend_one_query_backward,
    fallback = by_operations,
    requires = [G >= 1, H % G == 0, SECTIONS >= 1, B * H <= 65535, D <= 512, E <= 512],
    stages = [attend_section, join_sections],
    cases = [
        (B = 3, H = 4, G = 2, S = 11, D = 16, E = 8, SECTIONS = 1),
        (B = 2, H = 3, G = 1, S = 37, D = 40, E = 33, SECTIONS = 3),
        (B = 1, H = 1, G = 1, S = 3, D = 4, E = 4, SECTIONS = 2),
    ],
)]
pub fn attend_one_query<F: Float, const D: usize, const E: usize, const SECTIONS: usize>(
    queries: In![F; B, H, 1, D],
    keys: In![F; B, G, S, D],
    values: In![F; B, G, S, E],
    #[values(0..S)] pads: In![i32; B],
    scale: f32,
    output: Out![F; B, H, 1, E],
    #[saved] log_sums: Out![f32; B, H],
) {
    let parts = attend_section(stages, AttendSectionInputs { queries, keys, values, pads, scale, sections: SECTIONS })?;
    let (output, log_sums) = if SECTIONS == 1 {
        (parts.sums.reshape(&[B, H, 1, E as i32])?, parts.largest.reshape(&[B, H])?)
    } else {
        let whole = join_sections(stages, &parts.sums, &parts.largest, &parts.totals)?;
        (whole.output, whole.log_sums)
    };
    Ok(Outputs { output: output.cast(queries.dtype())?, log_sums })
}

/// The gradient of [`attend_one_query`](fn@attend_one_query).
#[differentiable(backward_of = attend_one_query, stages = [one_query_gradient, cache_gradients])]
pub fn attend_one_query_backward<F: Float, const D: usize, const E: usize, const SECTIONS: usize>(
    queries: In![F; B, H, 1, D],
    keys: In![F; B, G, S, D],
    values: In![F; B, G, S, E],
    pads: In![i32; B],
    scale: f32,
    output: In![F; B, H, 1, E],
    log_sums: In![f32; B, H],
    d_output: In![F; B, H, 1, E],
    d_queries: Out![F; B, H, 1, D],
    d_keys: Out![F; B, G, S, D],
    d_values: Out![F; B, G, S, E],
) {
    let d_queries = if wants_d_queries {
        Some(one_query_gradient(
            stages,
            OneQueryGradientInputs { queries, keys, values, pads, output, log_sums, cotangent: d_output, scale },
        )?)
    } else {
        None
    };
    let (d_keys, d_values) = if wants_d_keys || wants_d_values {
        let both = cache_gradients(
            stages,
            CacheGradientsInputs { queries, keys, values, pads, output, log_sums, cotangent: d_output, scale },
        )?;
        (Some(both.of_keys), Some(both.of_values))
    } else {
        (None, None)
    };
    Ok(Outputs { d_queries, d_keys, d_values })
}

/// Attends with one threadgroup for each section of a head's keys, and returns the section's largest score and the sums
/// relative to it. A section that is the only one is divided by its sum, and `largest` is the logarithm of the denominator.
#[stage(
    grid = (256 * SECTIONS, B * H, 1),
    threads = (256, 1, 1),
    cases = [
        (B = 2, H = 3, G = 1, S = 37, D = 40, E = 33, SECTIONS = 3),
        (B = 1, H = 2, G = 1, S = 2, D = 16, E = 16, SECTIONS = 5),
        (B = 3, H = 4, G = 2, S = 11, D = 16, E = 8, SECTIONS = 1),
    ],
)]
fn attend_section<F: Float, const D: usize, const E: usize, const SECTIONS: usize>(
    queries: In![F; B, H, 1, D],
    keys: In![F; B, G, S, D],
    values: In![F; B, G, S, E],
    #[values(0..S)] pads: In![i32; B],
    scale: f32,
    sums: Out![f32; B, H, SECTIONS, E],
    largest: Out![f32; B, H, SECTIONS],
    totals: Out![f32; B, H, SECTIONS],
) {
    metal! {
        threadgroup float parts[8 * E];
        threadgroup float tops[8];
        threadgroup float of_simdgroups[8];
        int lane = int(thread_index_in_simdgroup);
        int simdgroup = int(simdgroup_index_in_threadgroup);
        int section = int(threadgroup_position_in_grid.x);
        int row = int(threadgroup_position_in_grid.y);
        int batch = row / H;
        ulong before = ulong(batch * G + row % H / (H / G)) * S;
        int count = (S - pads[batch] + SECTIONS - 1) / SECTIONS;
        int begin = pads[batch] + section * count;
        int end = min(begin + count, S);
        float query[(D + 31) / 32];
        #pragma unroll
        for (int w = 0; w < (D + 31) / 32; ++w) {
            int column = lane + 32 * w;
            query[w] = column < D ? float(queries[row * D + column]) * scale * M_LOG2E_F : 0.0f;
        }
        float sum[(E + 31) / 32] = {};
        float top = -INFINITY;
        float total = 0.0f;
        for (int key = begin + simdgroup; key < end; key += 8) {
            float score = 0.0f;
            #pragma unroll
            for (int w = 0; w < (D + 31) / 32; ++w) {
                int column = lane + 32 * w;
                if (column < D) score += query[w] * float(keys[(before + key) * D + column]);
            }
            score = simd_sum(score);
            float higher = max(top, score);
            float fading = exp2(top - higher);
            float weight = exp2(score - higher);
            top = higher;
            total = total * fading + weight;
            #pragma unroll
            for (int w = 0; w < (E + 31) / 32; ++w) {
                int column = lane + 32 * w;
                if (column < E) sum[w] = sum[w] * fading + weight * float(values[(before + key) * E + column]);
            }
        }
        #pragma unroll
        for (int w = 0; w < (E + 31) / 32; ++w) {
            int column = lane + 32 * w;
            if (column < E) parts[simdgroup * E + column] = sum[w];
        }
        if (lane == 0) {
            tops[simdgroup] = top;
            of_simdgroups[simdgroup] = total;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        float highest = tops[0];
        for (int i = 1; i < 8; ++i) highest = max(highest, tops[i]);
        float share[8];
        float whole = 0.0f;
        for (int i = 0; i < 8; ++i) {
            share[i] = of_simdgroups[i] > 0.0f ? exp2(tops[i] - highest) : 0.0f;
            whole += of_simdgroups[i] * share[i];
        }
        int place = row * SECTIONS + section;
        float factor = SECTIONS > 1 ? 1.0f : whole > 0.0f ? 1.0f / whole : 0.0f;
        for (int column = int(thread_index_in_threadgroup); column < E; column += 256) {
            float value = 0.0f;
            for (int i = 0; i < 8; ++i) value += parts[i * E + column] * share[i];
            sums[place * E + column] = value * factor;
        }
        if (thread_index_in_threadgroup == 0) {
            // An empty section gets a number that is lower than every score.
            largest[place] = SECTIONS == 1 ? (whole > 0.0f ? highest + log2(whole) : INFINITY) : whole > 0.0f ? highest : -3e38f;
            totals[place] = whole;
        }
    }
}

/// Joins the sections of a head.
#[stage(
    grid = (256 * B * H, 1, 1),
    threads = (256, 1, 1),
    cases = [(B = 2, H = 3, SECTIONS = 3, E = 33), (B = 1, H = 1, SECTIONS = 1, E = 300)],
)]
fn join_sections(
    sums: In![f32; B, H, SECTIONS, E],
    largest: In![f32; B, H, SECTIONS],
    #[values(1.0..2.0)] totals: In![f32; B, H, SECTIONS],
    output: Out![f32; B, H, 1, E],
    log_sums: Out![f32; B, H],
) {
    metal! {
        int row = int(threadgroup_position_in_grid.x);
        float highest = -INFINITY;
        for (int i = 0; i < SECTIONS; ++i) highest = max(highest, largest[row * SECTIONS + i]);
        float whole = 0.0f;
        for (int i = 0; i < SECTIONS; ++i) {
            float total = totals[row * SECTIONS + i];
            if (total > 0.0f) whole += total * exp2(largest[row * SECTIONS + i] - highest);
        }
        float inverse = whole > 0.0f ? 1.0f / whole : 0.0f;
        for (int column = int(thread_index_in_threadgroup); column < E; column += 256) {
            float value = 0.0f;
            for (int i = 0; i < SECTIONS; ++i) {
                int place = row * SECTIONS + i;
                if (totals[place] > 0.0f) value += sums[place * E + column] * exp2(largest[place] - highest);
            }
            output[row * E + column] = value * inverse;
        }
        if (thread_index_in_threadgroup == 0) log_sums[row] = whole > 0.0f ? highest + log2(whole) : INFINITY;
    }
}

/// dq: a threadgroup has a head, its simdgroups take turns at keys and meet at the end.
#[stage(
    grid = (256 * B * H, 1, 1),
    threads = (256, 1, 1),
    cases = [(B = 3, H = 4, G = 2, S = 11, D = 16, E = 8), (B = 2, H = 3, G = 1, S = 37, D = 40, E = 33)],
)]
fn one_query_gradient<F: Float, const D: usize, const E: usize>(
    queries: In![F; B, H, 1, D],
    keys: In![F; B, G, S, D],
    values: In![F; B, G, S, E],
    #[values(0..S)] pads: In![i32; B],
    output: In![F; B, H, 1, E],
    #[values(3.0..4.0)] log_sums: In![f32; B, H],
    cotangent: In![F; B, H, 1, E],
    scale: f32,
    gradient: Out![F; B, H, 1, D],
) {
    metal! {
        threadgroup float parts[8 * D];
        int lane = int(thread_index_in_simdgroup);
        int simdgroup = int(simdgroup_index_in_threadgroup);
        int row = int(threadgroup_position_in_grid.x);
        int batch = row / H;
        ulong before = ulong(batch * G + row % H / (H / G)) * S;
        float log_sum = log_sums[row];
        float product = 0.0f;
        for (int column = lane; column < E; column += 32) {
            product += float(output[row * E + column]) * float(cotangent[row * E + column]);
        }
        product = simd_sum(product);
        float sum[(D + 31) / 32] = {};
        for (int key = pads[batch] + simdgroup; key < S; key += 8) {
            float score = 0.0f;
            float along = 0.0f;
            for (int column = lane; column < D; column += 32) {
                score += float(queries[row * D + column]) * float(keys[(before + key) * D + column]);
            }
            for (int column = lane; column < E; column += 32) {
                along += float(cotangent[row * E + column]) * float(values[(before + key) * E + column]);
            }
            float weight = exp2(simd_sum(score) * scale * M_LOG2E_F - log_sum);
            float slope = weight * (simd_sum(along) - product) * scale;
            #pragma unroll
            for (int w = 0; w < (D + 31) / 32; ++w) {
                int column = lane + 32 * w;
                if (column < D) sum[w] += slope * float(keys[(before + key) * D + column]);
            }
        }
        #pragma unroll
        for (int w = 0; w < (D + 31) / 32; ++w) {
            int column = lane + 32 * w;
            if (column < D) parts[simdgroup * D + column] = sum[w];
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (int column = int(thread_index_in_threadgroup); column < D; column += 256) {
            float value = 0.0f;
            for (int i = 0; i < 8; ++i) value += parts[i * D + column];
            gradient[row * D + column] = F(value);
        }
    }
}

/// dk and dv: a simdgroup has a key, and sums over the query heads that read it, in their order.
#[stage(
    grid = (128 * ceil_div(S, 4), B * G, 1),
    threads = (128, 1, 1),
    cases = [(B = 3, H = 4, G = 2, S = 11, D = 16, E = 8), (B = 2, H = 3, G = 1, S = 37, D = 40, E = 33)],
)]
fn cache_gradients<F: Float, const D: usize, const E: usize>(
    queries: In![F; B, H, 1, D],
    keys: In![F; B, G, S, D],
    values: In![F; B, G, S, E],
    #[values(0..S)] pads: In![i32; B],
    output: In![F; B, H, 1, E],
    #[values(3.0..4.0)] log_sums: In![f32; B, H],
    cotangent: In![F; B, H, 1, E],
    scale: f32,
    of_keys: Out![F; B, G, S, D],
    of_values: Out![F; B, G, S, E],
) {
    metal! {
        int lane = int(thread_index_in_simdgroup);
        int key = int(threadgroup_position_in_grid.x) * 4 + int(simdgroup_index_in_threadgroup);
        if (key >= S) return;
        int batch = int(threadgroup_position_in_grid.y) / G;
        int group = int(threadgroup_position_in_grid.y) % G;
        ulong place = ulong(batch * G + group) * S + key;
        float key_sum[(D + 31) / 32] = {};
        float value_sum[(E + 31) / 32] = {};
        int heads = key >= pads[batch] ? H / G : 0;
        for (int i = 0; i < heads; ++i) {
            int row = batch * H + group * (H / G) + i;
            float score = 0.0f;
            float along = 0.0f;
            for (int column = lane; column < D; column += 32) {
                score += float(queries[row * D + column]) * float(keys[place * D + column]);
            }
            for (int column = lane; column < E; column += 32) {
                float slope = float(cotangent[row * E + column]);
                along += slope * (float(values[place * E + column]) - float(output[row * E + column]));
            }
            float weight = exp2(simd_sum(score) * scale * M_LOG2E_F - log_sums[row]);
            float slope = weight * simd_sum(along) * scale;
            #pragma unroll
            for (int w = 0; w < (D + 31) / 32; ++w) {
                int column = lane + 32 * w;
                if (column < D) key_sum[w] += slope * float(queries[row * D + column]);
            }
            #pragma unroll
            for (int w = 0; w < (E + 31) / 32; ++w) {
                int column = lane + 32 * w;
                if (column < E) value_sum[w] += weight * float(cotangent[row * E + column]);
            }
        }
        #pragma unroll
        for (int w = 0; w < (D + 31) / 32; ++w) {
            int column = lane + 32 * w;
            if (column < D) of_keys[place * D + column] = F(key_sum[w]);
        }
        #pragma unroll
        for (int w = 0; w < (E + 31) / 32; ++w) {
            int column = lane + 32 * w;
            if (column < E) of_values[place * E + column] = F(value_sum[w]);
        }
    }
}

/// Computes the same attention from differentiable operations, without sections: the fallback.
fn by_operations<M: Graph>(inputs: AttendOneQueryInputs<'_, M>) -> Result<Tensor<M>> {
    let AttendOneQueryInputs { queries, keys, values, pads, scale, .. } = inputs;
    let (&[rows, heads, _, width], &[_, groups, length, _]) = (queries.shape(), keys.shape()) else {
        unreachable!("four axes")
    };
    let grouped = queries.reshape(&[rows, groups, heads / groups, width])?;
    let scores = grouped.matmul(&keys.swap_axes(2, 3)?)?.cast(cotangent::Dtype::F32)?.multiply(scale)?;
    let places: Vec<f32> = (0..length).map(|key| key as f32 + 0.5).collect();
    let places = Constant::from_slice(&places, &[1, 1, 1, length])?.to_tensor::<M>();
    let pads = pads.to_constant("where a row begins is no float path")?.to_tensor::<M>().reshape(&[rows, 1, 1, 1])?;
    let seen = places.greater(&pads)?;
    // A row that sees nothing has no softmax. With a finite filling it has one, whose weights are then set to 0.
    let weights = scores.select(&seen, -1e30)?.softmax()?.select(&seen, 0.0)?;
    weights.cast(values.dtype())?.matmul(values)?.reshape(&[rows, heads, 1, values.dimension(3)])
}
