//! The gated delta rule with a gate for each channel of the keys, as in Kimi Delta Attention.

use cotangent::kernel::Stages;
use cotangent::{Dtype, Graph, Infer, Result, Tensor, differentiable};

use super::geometry::Geometry;
use super::padding::Padding;
use super::portable::{GatedDeltaInOperationsInputs, gated_delta_in_operations};
use super::stages::by_channel::{
    ChannelScoresInputs, ChannelScoresOutputs, ChunkOutputsByChannelInputs, CotangentsAcrossBlocksInputs,
    CotangentsAcrossBlocksOutputs, DecayChannelsOutputs, GradientsByChannelInputs, ScoreCotangentsByChannelInputs,
    ScoreCotangentsByChannelOutputs, SolveChunksByChannelInputs, SolveChunksByChannelOutputs, channel_scores,
    chunk_outputs_by_channel, cotangents_across_blocks, decay_channels, gradients_by_channel,
    local_cotangents_by_channel, score_cotangents_by_channel, solve_chunks_by_channel,
};
use super::stages::{
    ScanCotangentsInputs, ScanCotangentsOutputs, ScanStatesInputs, ScanStatesOutputs, scan_cotangents, scan_states,
};

/// The gated delta rule with a gate for each channel of the keys: `S~_t = S_{t-1} diag(g_t)`, `log_decay` `[B, T, Hv, Dk]`.
/// All else is as in [`gated_delta`](fn@crate::gated_delta) (Kimi Team 2025, "Kimi Linear", section 3).
///
/// For a single token [`gated_delta_by_channel_step`](fn@crate::gated_delta_by_channel_step) is faster.
///
/// # Errors
/// Shapes or dtypes that do not fit.
#[differentiable(
    backward = gated_delta_by_channel_backward,
    fallback = in_operations,
    expensive,
    stages = [decay_channels, channel_scores, solve_chunks_by_channel, scan_states, chunk_outputs_by_channel],
    dims = [
        C = max(16, min(CHUNK, 64)),
        TILES = C / 16,
        PACKED = TILES * (TILES + 1) / 2 * 256,
        CHUNKS = ceil_div(T, C),
        LENGTH = CHUNKS * C,
        KEY_DIM = ceil_div(Dk, 16) * 16,
        VALUE_DIM = ceil_div(Dv, 16) * 16,
    ],
    cases = [
        (B = 2, T = 1, Hk = 1, Hv = 1, Dk = 4, Dv = 5, CHUNK = 32),
        (B = 2, T = 7, Hk = 1, Hv = 3, Dk = 16, Dv = 5, CHUNK = 8),
        (B = 1, T = 20, Hk = 2, Hv = 2, Dk = 4, Dv = 17, CHUNK = 16),
        (B = 1, T = 70, Hk = 1, Hv = 2, Dk = 5, Dv = 3, CHUNK = 64),
    ],
)]
pub fn gated_delta_by_channel<F: Float, G: Float, const CHUNK: usize>(
    queries: In![F; B, T, Hk, Dk],
    keys: In![F; B, T, Hk, Dk],
    values: In![F; B, T, Hv, Dv],
    #[values(-2.0..0.0)] log_decay: In![f32; B, T, Hv, Dk],
    #[values(0.0..1.0)] beta: In![G; B, T, Hv],
    initial_state: In![f32; B, Hv, Dv, Dk],
    y: Out![F; B, T, Hv, Dv],
    final_state: Out![f32; B, Hv, Dv, Dk],
    #[saved] inverse: Out![f32; B, Hv, CHUNKS, PACKED],
    #[saved] solved_keys: Out![f32; B, Hv, LENGTH, KEY_DIM],
    #[saved] errors: Out![f32; B, Hv, LENGTH, VALUE_DIM],
    #[saved] chunk_states: Out![f32; B, Hv, CHUNKS, VALUE_DIM, KEY_DIM],
) {
    let geometry =
        Geometry { batch: B, time: T, key_heads: Hk, value_heads: Hv, key_dim: Dk, value_dim: Dv, chunk: CHUNK as i32 }
            .checked()?;
    let padding = Padding::new(geometry, C);
    let c = C as usize;
    let [queries, keys, values] = &[padding.heads(queries)?, padding.heads(keys)?, padding.heads(values)?];
    let [log_decay, beta] = &[padding.heads(log_decay)?, padding.tokens(beta)?];
    let initial_state = &padding.states(initial_state)?;
    let (decayed, scores) = decayed_scores(stages, [queries, keys, log_decay], c)?;
    let DecayChannelsOutputs { reading_queries, reading_keys, writing_keys, throughout, .. } = &decayed;
    let ChannelScoresOutputs { query_scores, key_scores } = &scores;
    let solved =
        solve_chunks_by_channel(stages, SolveChunksByChannelInputs { reading_keys, values, beta, key_scores, c })?;
    let SolveChunksByChannelOutputs { solved_keys, solved_values, .. } = &solved;
    let scanned = scan_states(
        stages,
        ScanStatesInputs {
            keys: writing_keys,
            beta,
            gates: None,
            throughout: Some(throughout),
            solved_keys,
            solved_values,
            initial_state,
            c,
        },
    )?;
    let ScanStatesOutputs { errors, chunk_states, final_state } = &scanned;
    let y = chunk_outputs_by_channel(
        stages,
        ChunkOutputsByChannelInputs { reading_queries, query_scores, beta, errors, chunk_states, c },
    )?;
    Ok(Outputs {
        y: padding.without_heads(&y, Dv)?,
        final_state: padding.without_states(final_state)?,
        inverse: solved.inverse,
        solved_keys: solved.solved_keys,
        errors: scanned.errors,
        chunk_states: scanned.chunk_states,
    })
}

/// The gradient of [`gated_delta_by_channel`](fn@gated_delta_by_channel), from what each chunk solved and the state it began
/// with. Decays and scores are computed again.
#[differentiable(
    backward_of = gated_delta_by_channel,
    stages = [
        decay_channels, channel_scores, local_cotangents_by_channel, scan_cotangents,
        score_cotangents_by_channel, cotangents_across_blocks, gradients_by_channel,
    ],
    dims = [
        C = max(16, min(CHUNK, 64)),
        TILES = C / 16,
        PACKED = TILES * (TILES + 1) / 2 * 256,
        CHUNKS = ceil_div(T, C),
        LENGTH = CHUNKS * C,
        KEY_DIM = ceil_div(Dk, 16) * 16,
        VALUE_DIM = ceil_div(Dv, 16) * 16,
    ],
)]
pub fn gated_delta_by_channel_backward<F: Float, G: Float, const CHUNK: usize>(
    queries: In![F; B, T, Hk, Dk],
    keys: In![F; B, T, Hk, Dk],
    log_decay: In![f32; B, T, Hv, Dk],
    beta: In![G; B, T, Hv],
    inverse: In![f32; B, Hv, CHUNKS, PACKED],
    solved_keys: In![f32; B, Hv, LENGTH, KEY_DIM],
    errors: In![f32; B, Hv, LENGTH, VALUE_DIM],
    chunk_states: In![f32; B, Hv, CHUNKS, VALUE_DIM, KEY_DIM],
    d_y: In![F; B, T, Hv, Dv],
    d_final_state: In![f32; B, Hv, Dv, Dk],
    d_queries: Out![F; B, T, Hk, Dk],
    d_keys: Out![F; B, T, Hk, Dk],
    d_values: Out![F; B, T, Hv, Dv],
    d_log_decay: Out![f32; B, T, Hv, Dk],
    d_beta: Out![G; B, T, Hv],
    d_initial_state: Out![f32; B, Hv, Dv, Dk],
) {
    let geometry =
        Geometry { batch: B, time: T, key_heads: Hk, value_heads: Hv, key_dim: Dk, value_dim: Dv, chunk: CHUNK as i32 };
    let padding = Padding::new(geometry, C);
    let c = C as usize;
    let [queries, keys] = &[padding.heads(queries)?, padding.heads(keys)?];
    let [log_decay, beta] = &[padding.heads(log_decay)?, padding.tokens(beta)?];
    let y_cotangent = &padding.heads(d_y)?;
    let final_cotangent = &padding.states(d_final_state)?;

    let (decayed, scores) = decayed_scores(stages, [queries, keys, log_decay], c)?;
    let DecayChannelsOutputs { block_queries, block_readers, block_writers, block_decays, throughout, .. } = &decayed;
    let ChannelScoresOutputs { query_scores, key_scores } = &scores;
    let here = local_cotangents_by_channel(stages, query_scores, y_cotangent, c)?;
    let scanned = scan_cotangents(
        stages,
        ScanCotangentsInputs {
            queries: &decayed.reading_queries,
            keys: &decayed.writing_keys,
            beta,
            gates: None,
            throughout: Some(throughout),
            solved_keys,
            y_cotangent,
            written_cotangent_here: &here,
            final_cotangent,
            c,
        },
    )?;
    let ScanCotangentsOutputs { written_cotangent, exit_cotangents, initial_cotangent } = &scanned;
    let scores = score_cotangents_by_channel(
        stages,
        ScoreCotangentsByChannelInputs { beta, key_scores, inverse, errors, y_cotangent, written_cotangent, c },
    )?;
    let ScoreCotangentsByChannelOutputs { solved_cotangent, query_scores_cotangent, key_scores_cotangent, .. } =
        &scores;
    let CotangentsAcrossBlocksOutputs { query_cotangents, reader_cotangents, writer_cotangents, passing } =
        &cotangents_across_blocks(
            stages,
            CotangentsAcrossBlocksInputs {
                block_queries,
                block_readers,
                block_writers,
                block_decays,
                beta,
                errors,
                chunk_states,
                y_cotangent,
                solved_cotangent,
                query_scores_cotangent,
                key_scores_cotangent,
                exit_cotangents,
                c,
            },
        )?;
    let gradients = gradients_by_channel(
        stages,
        GradientsByChannelInputs {
            queries,
            keys,
            log_decay,
            query_scores_cotangent,
            key_scores_cotangent,
            query_cotangents,
            reader_cotangents,
            writer_cotangents,
            passing,
            c,
            // Gradients of value heads that share a key head are summed before they are rounded.
            gradient: if Hk == Hv { F } else { Dtype::F32 },
        },
    )?;
    Ok(Outputs {
        d_queries: Some(padding.of_key_heads(&gradients.query_gradient, queries.dtype())?),
        d_keys: Some(padding.of_key_heads(&gradients.key_gradient, keys.dtype())?),
        d_values: Some(padding.without_heads(&scores.value_gradient, Dv)?),
        d_log_decay: Some(padding.without_heads(&gradients.log_decay_gradient, Dk)?),
        d_beta: Some(padding.without_tokens(&scores.beta_gradient)?),
        d_initial_state: Some(padding.without_states(initial_cotangent)?),
    })
}

/// Queries and keys decayed, and their scores, from those and log gates.
fn decayed_scores(
    stages: &Stages,
    [queries, keys, log_decay]: [&Tensor<Infer>; 3],
    chunk: usize,
) -> Result<(DecayChannelsOutputs<Infer>, ChannelScoresOutputs<Infer>)> {
    let decayed = decay_channels(stages, queries, keys, log_decay, chunk)?;
    let DecayChannelsOutputs { block_queries, block_readers, block_writers, block_decays, .. } = &decayed;
    let scores = channel_scores(
        stages,
        ChannelScoresInputs {
            queries,
            keys,
            log_decay,
            block_queries,
            block_readers,
            block_writers,
            block_decays,
            c: chunk,
        },
    )?;
    Ok((decayed, scores))
}

/// Computes the same chunks from differentiable operations: the fallback.
fn in_operations<M: Graph>(inputs: GatedDeltaByChannelInputs<'_, M>) -> Result<GatedDeltaByChannelOutputs<M>> {
    let GatedDeltaByChannelInputs { queries, keys, values, log_decay, beta, initial_state, chunk } = inputs;
    let outputs = gated_delta_in_operations(GatedDeltaInOperationsInputs {
        queries,
        keys,
        values,
        log_decay,
        beta,
        initial_state,
        chunk,
    })?;
    Ok(GatedDeltaByChannelOutputs { y: outputs.y, final_state: outputs.final_state })
}

cotangent::calls! { "gated_delta_by_channel": gated_delta_in_operations }
