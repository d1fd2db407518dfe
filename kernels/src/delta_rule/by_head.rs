//! The gated delta rule with a gate for each head, as in Gated DeltaNet.

use cotangent::{Dtype, Graph, Result, differentiable};

use super::geometry::Geometry;
use super::padding::Padding;
use super::portable::{GatedDeltaInOperationsInputs, gated_delta_in_operations};
use super::stages::by_head::{
    ChunkGradientsInputs, ChunkOutputsInputs, LocalCotangentsInputs, ScoreCotangentsInputs, SolveChunksInputs,
    SolveChunksOutputs, chunk_gradients, chunk_outputs, local_cotangents, score_cotangents, solve_chunks,
};
use super::stages::{
    ScanCotangentsInputs, ScanCotangentsOutputs, ScanStatesInputs, ScanStatesOutputs, scan_cotangents, scan_states,
};

/// The gated delta rule over `T` tokens, in chunks.
///
/// - `queries`, `keys`: l2-normalised, and the queries scaled, by the caller;
/// - `values`: of `Hv` heads, a multiple of `Hk`; head `h` reads key head `h / (Hv / Hk)`;
/// - `log_decay`: `ln g`, not positive;
/// - `chunk`: tokens of a chunk, a power of two from 8 on, of which GPUs take 16 to 64; [`chunk_length`](super::chunk_length) is a good one;
/// - `y` has the dtype of the values, `final_state` is the state after the last token.
///
/// For a single token [`gated_delta_step`](fn@super::gated_delta_step) is faster: its chunk would be mostly padding.
///
/// A token with `log_decay` and `beta` 0 does not change the state, and its `y` reads that state.
/// [`gated_delta_of_documents`](super::gated_delta_of_documents) masks padding and separates documents in this way.
///
/// # Errors
/// Shapes or dtypes that do not fit.
#[differentiable(
    backward = gated_delta_backward,
    fallback = in_operations,
    expensive,
    stages = [solve_chunks, scan_states, chunk_outputs],
    dims = [
        // The matrices of a longer chunk do not fit in the memory of a threadgroup.
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
    ],
)]
pub fn gated_delta<F: Float, G: Float, const CHUNK: usize>(
    queries: In![F; B, T, Hk, Dk],
    keys: In![F; B, T, Hk, Dk],
    values: In![F; B, T, Hv, Dv],
    #[values(-2.0..0.0)] log_decay: In![f32; B, T, Hv],
    #[values(0.0..1.0)] beta: In![G; B, T, Hv],
    initial_state: In![f32; B, Hv, Dv, Dk],
    y: Out![F; B, T, Hv, Dv],
    final_state: Out![f32; B, Hv, Dv, Dk],
    #[saved] gates: Out![f32; B, Hv, LENGTH, 2],
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
    let [log_decay, beta] = &[padding.tokens(log_decay)?, padding.tokens(beta)?];
    let initial_state = &padding.states(initial_state)?;
    let solved = solve_chunks(stages, SolveChunksInputs { keys, values, log_decay, beta, c })?;
    let SolveChunksOutputs { gates, solved_keys, solved_values, .. } = &solved;
    let scanned = scan_states(
        stages,
        ScanStatesInputs {
            keys,
            beta,
            gates: Some(gates),
            throughout: None,
            solved_keys,
            solved_values,
            initial_state,
            c,
        },
    )?;
    let ScanStatesOutputs { errors, chunk_states, final_state } = &scanned;
    let y = chunk_outputs(stages, ChunkOutputsInputs { queries, keys, beta, gates, errors, chunk_states, c })?;
    Ok(Outputs {
        y: padding.without_heads(&y, Dv)?,
        final_state: padding.without_states(final_state)?,
        gates: solved.gates,
        inverse: solved.inverse,
        solved_keys: solved.solved_keys,
        errors: scanned.errors,
        chunk_states: scanned.chunk_states,
    })
}

/// The gradient of [`gated_delta`](fn@gated_delta), from what each chunk solved and the state it began with.
#[differentiable(
    backward_of = gated_delta,
    stages = [local_cotangents, scan_cotangents, score_cotangents, chunk_gradients],
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
pub fn gated_delta_backward<F: Float, G: Float, const CHUNK: usize>(
    queries: In![F; B, T, Hk, Dk],
    keys: In![F; B, T, Hk, Dk],
    beta: In![G; B, T, Hv],
    gates: In![f32; B, Hv, LENGTH, 2],
    inverse: In![f32; B, Hv, CHUNKS, PACKED],
    solved_keys: In![f32; B, Hv, LENGTH, KEY_DIM],
    errors: In![f32; B, Hv, LENGTH, VALUE_DIM],
    chunk_states: In![f32; B, Hv, CHUNKS, VALUE_DIM, KEY_DIM],
    d_y: In![F; B, T, Hv, Dv],
    d_final_state: In![f32; B, Hv, Dv, Dk],
    d_queries: Out![F; B, T, Hk, Dk],
    d_keys: Out![F; B, T, Hk, Dk],
    d_values: Out![F; B, T, Hv, Dv],
    d_log_decay: Out![f32; B, T, Hv],
    d_beta: Out![G; B, T, Hv],
    d_initial_state: Out![f32; B, Hv, Dv, Dk],
) {
    let geometry =
        Geometry { batch: B, time: T, key_heads: Hk, value_heads: Hv, key_dim: Dk, value_dim: Dv, chunk: CHUNK as i32 };
    let padding = Padding::new(geometry, C);
    let c = C as usize;
    let [queries, keys] = &[padding.heads(queries)?, padding.heads(keys)?];
    let [beta, y_cotangent] = &[padding.tokens(beta)?, padding.heads(d_y)?];
    let final_cotangent = &padding.states(d_final_state)?;

    let here = local_cotangents(stages, LocalCotangentsInputs { queries, keys, gates, y_cotangent, c })?;
    let scanned = scan_cotangents(
        stages,
        ScanCotangentsInputs {
            queries,
            keys,
            beta,
            gates: Some(gates),
            throughout: None,
            solved_keys,
            y_cotangent,
            written_cotangent_here: &here,
            final_cotangent,
            c,
        },
    )?;
    let ScanCotangentsOutputs { written_cotangent, exit_cotangents, initial_cotangent } = &scanned;
    let scores = score_cotangents(
        stages,
        ScoreCotangentsInputs { queries, keys, beta, gates, inverse, errors, y_cotangent, written_cotangent, c },
    )?;
    let gradients = chunk_gradients(
        stages,
        ChunkGradientsInputs {
            queries,
            keys,
            beta,
            gates,
            errors,
            chunk_states,
            y_cotangent,
            solved_cotangent: &scores.solved_cotangent,
            query_scores_cotangent: &scores.query_scores_cotangent,
            key_scores_cotangent: &scores.key_scores_cotangent,
            exit_cotangents,
            log_decay_gradient_of_scores: &scores.log_decay_gradient,
            c,
            // Gradients of value heads that share a key head are summed before they are rounded.
            gradient: if Hk == Hv { F } else { Dtype::F32 },
        },
    )?;
    Ok(Outputs {
        d_queries: Some(padding.of_key_heads(&gradients.query_gradient, queries.dtype())?),
        d_keys: Some(padding.of_key_heads(&gradients.key_gradient, keys.dtype())?),
        d_values: Some(padding.without_heads(&scores.value_gradient, Dv)?),
        d_log_decay: Some(padding.without_tokens(&gradients.log_decay_gradient)?),
        d_beta: Some(padding.without_tokens(&scores.beta_gradient)?),
        d_initial_state: Some(padding.without_states(initial_cotangent)?),
    })
}

/// Computes the same chunks from differentiable operations: the fallback.
fn in_operations<M: Graph>(inputs: GatedDeltaInputs<'_, M>) -> Result<GatedDeltaOutputs<M>> {
    let GatedDeltaInputs { queries, keys, values, log_decay, beta, initial_state, chunk } = inputs;
    let outputs = gated_delta_in_operations(GatedDeltaInOperationsInputs {
        queries,
        keys,
        values,
        log_decay: &log_decay.expand_dims(3)?,
        beta,
        initial_state,
        chunk,
    })?;
    Ok(GatedDeltaOutputs { y: outputs.y, final_state: outputs.final_state })
}

cotangent::calls! { "gated_delta": gated_delta_in_operations }
