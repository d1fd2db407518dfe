//! The gradients of a chunk's tokens, from the states and cotangents that the scans left and those of the scores.

use cotangent::stage;

use crate::delta_rule::stages::{CHUNK, DECAY, FLOATS, LOWER_TILES, PAIRS};

/// The gradients of queries, keys and log gates, where each value head has a key head of its own. One threadgroup computes
/// one chunk of one value head; each of its simdgroups sixteen tokens.
#[stage(
    dims = [TILES = C / 16, PACKED = TILES * (TILES + 1) / 2 * 256],
    grid = (2 * L, Hv, B),
    threads = (2 * C, 1, 1),
    headers = [CHUNK, PAIRS, FLOATS, LOWER_TILES, DECAY],
    cases = [
        (B = 1, L = 16, Hk = 1, Hv = 1, Dk = 16, Dv = 16, C = 16),
        (B = 2, L = 64, Hk = 3, Hv = 3, Dk = 32, Dv = 16, C = 32),
        (B = 1, L = 64, Hk = 2, Hv = 2, Dk = 48, Dv = 32, C = 64),
    ],
)]
pub(crate) fn chunk_gradients<F: Float, G: Float, const C: usize, const Dk: usize, const Dv: usize>(
    queries: In![F; B, L, Hk, Dk],
    keys: In![F; B, L, Hk, Dk],
    #[values(0.0..1.0)] beta: In![G; B, L, Hv],
    #[values(-2.0..0.0)] gates: In![f32; B, Hv, L, 2],
    errors: In![f32; B, Hv, L, Dv],
    chunk_states: In![f32; B, Hv, L / C, Dv, Dk],
    y_cotangent: In![F; B, L, Hv, Dv],
    solved_cotangent: In![f32; B, Hv, L, Dv],
    query_scores_cotangent: In![f32; B, Hv, L / C, PACKED],
    key_scores_cotangent: In![f32; B, Hv, L / C, PACKED],
    exit_cotangents: In![f32; B, Hv, L / C, Dv, Dk],
    log_decay_gradient_of_scores: In![f32; B, L, Hv],
    query_gradient: Out![F; B, L, Hv, Dk],
    key_gradient: Out![F; B, L, Hv, Dk],
    log_decay_gradient: Out![f32; B, L, Hv],
) {
    metal_file!("gradients.metal")
}

/// Computes what [`chunk_gradients`] does, for value heads that share key heads: the gradients of queries and keys are
/// those of one value head, and the caller sums them.
#[stage(
    dims = [TILES = C / 16, PACKED = TILES * (TILES + 1) / 2 * 256],
    grid = (2 * L, Hv, B),
    threads = (2 * C, 1, 1),
    headers = [CHUNK, PAIRS, FLOATS, LOWER_TILES, DECAY],
    cases = [
        (B = 1, L = 16, Hk = 1, Hv = 1, Dk = 16, Dv = 16, C = 16),
        (B = 2, L = 64, Hk = 1, Hv = 3, Dk = 32, Dv = 16, C = 32),
    ],
)]
pub(crate) fn chunk_gradients_of_groups<F: Float, G: Float, const C: usize, const Dk: usize, const Dv: usize>(
    queries: In![F; B, L, Hk, Dk],
    keys: In![F; B, L, Hk, Dk],
    #[values(0.0..1.0)] beta: In![G; B, L, Hv],
    #[values(-2.0..0.0)] gates: In![f32; B, Hv, L, 2],
    errors: In![f32; B, Hv, L, Dv],
    chunk_states: In![f32; B, Hv, L / C, Dv, Dk],
    y_cotangent: In![F; B, L, Hv, Dv],
    solved_cotangent: In![f32; B, Hv, L, Dv],
    query_scores_cotangent: In![f32; B, Hv, L / C, PACKED],
    key_scores_cotangent: In![f32; B, Hv, L / C, PACKED],
    exit_cotangents: In![f32; B, Hv, L / C, Dv, Dk],
    log_decay_gradient_of_scores: In![f32; B, L, Hv],
    query_gradient: Out![f32; B, L, Hv, Dk],
    key_gradient: Out![f32; B, L, Hv, Dk],
    log_decay_gradient: Out![f32; B, L, Hv],
) {
    metal_file!("gradients.metal")
}
