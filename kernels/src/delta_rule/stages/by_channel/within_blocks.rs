//! The gradients of a block's tokens: the part that comes from the block itself, added to that of the other blocks and
//! the states.

use cotangent::stage;

use crate::delta_rule::stages::LOWER_TILES;

/// Gradients in the dtype that they are wanted in.
const ROUNDED: &str = "
template <typename T> inline void round_to(device T* place, float value) { *place = T(value); }
";

/// The gradients of queries, keys and log gates, where each value head has a key head of its own. One thread computes one
/// channel of sixteen tokens of a value head.
#[stage(
    dims = [TILES = C / 16, PACKED = TILES * (TILES + 1) / 2 * 256],
    grid = (ceil_div(Dk, 128) * 128 * (L / 16), Hv, B),
    threads = (128, 1, 1),
    headers = [LOWER_TILES, ROUNDED],
    cases = [
        (B = 1, L = 16, Hk = 1, Hv = 1, Dk = 16, C = 16),
        (B = 2, L = 64, Hk = 3, Hv = 3, Dk = 32, C = 32),
        (B = 1, L = 64, Hk = 2, Hv = 2, Dk = 144, C = 64),
    ],
)]
pub(crate) fn gradients_by_channel<F: Float, const C: usize, const Dk: usize>(
    queries: In![F; B, L, Hk, Dk],
    keys: In![F; B, L, Hk, Dk],
    #[values(-2.0..0.0)] log_decay: In![f32; B, L, Hv, Dk],
    query_scores_cotangent: In![f32; B, Hv, L / C, PACKED],
    key_scores_cotangent: In![f32; B, Hv, L / C, PACKED],
    query_cotangents: In![f32; B, Hv, L, Dk],
    reader_cotangents: In![f32; B, Hv, L, Dk],
    writer_cotangents: In![f32; B, Hv, L, Dk],
    passing: In![f32; B, Hv, L / 16, Dk],
    query_gradient: Out![F; B, L, Hv, Dk],
    key_gradient: Out![F; B, L, Hv, Dk],
    log_decay_gradient: Out![f32; B, L, Hv, Dk],
) {
    metal_file!("within_blocks.metal")
}

/// Computes what [`gradients_by_channel`] does, for value heads that share key heads: the gradients of queries and keys
/// are those of one value head, and the caller sums them.
#[stage(
    dims = [TILES = C / 16, PACKED = TILES * (TILES + 1) / 2 * 256],
    grid = (ceil_div(Dk, 128) * 128 * (L / 16), Hv, B),
    threads = (128, 1, 1),
    headers = [LOWER_TILES, ROUNDED],
    cases = [
        (B = 1, L = 16, Hk = 1, Hv = 1, Dk = 16, C = 16),
        (B = 2, L = 64, Hk = 1, Hv = 3, Dk = 32, C = 32),
    ],
)]
pub(crate) fn gradients_by_channel_of_groups<F: Float, const C: usize, const Dk: usize>(
    queries: In![F; B, L, Hk, Dk],
    keys: In![F; B, L, Hk, Dk],
    #[values(-2.0..0.0)] log_decay: In![f32; B, L, Hv, Dk],
    query_scores_cotangent: In![f32; B, Hv, L / C, PACKED],
    key_scores_cotangent: In![f32; B, Hv, L / C, PACKED],
    query_cotangents: In![f32; B, Hv, L, Dk],
    reader_cotangents: In![f32; B, Hv, L, Dk],
    writer_cotangents: In![f32; B, Hv, L, Dk],
    passing: In![f32; B, Hv, L / 16, Dk],
    query_gradient: Out![f32; B, L, Hv, Dk],
    key_gradient: Out![f32; B, L, Hv, Dk],
    log_decay_gradient: Out![f32; B, L, Hv, Dk],
) {
    metal_file!("within_blocks.metal")
}
