//! Queries and keys of a chunk, decayed channel by channel.

use cotangent::stage;

/// One thread computes one channel of one chunk of a value head, token after token.
///
/// - `block_queries`, `block_readers`: `s Q` and `s K`, tile by tile;
/// - `block_writers`: `e K`, tile by tile;
/// - `reading_queries`, `reading_keys`: `G Q` and `G K`;
/// - `writing_keys`: `E K`;
/// - `block_decays`: `t`;
/// - `throughout`: the decay over the whole chunk.
#[stage(
    grid = (ceil_div(Dk, 128) * 128 * (L / C), Hv, B),
    threads = (128, 1, 1),
    cases = [
        (B = 1, L = 16, Hk = 1, Hv = 1, Dk = 16, C = 16),
        (B = 2, L = 64, Hk = 1, Hv = 3, Dk = 32, C = 32),
        (B = 1, L = 64, Hk = 2, Hv = 2, Dk = 144, C = 64),
    ],
)]
pub(crate) fn decay_channels<F: Float, const C: usize, const Dk: usize>(
    queries: In![F; B, L, Hk, Dk],
    keys: In![F; B, L, Hk, Dk],
    #[values(-2.0..0.0)] log_decay: In![f32; B, L, Hv, Dk],
    block_queries: Out![F; B, Hv, L, Dk],
    block_readers: Out![F; B, Hv, L, Dk],
    block_writers: Out![F; B, Hv, L, Dk],
    reading_queries: Out![F; B, L, Hv, Dk],
    reading_keys: Out![F; B, L, Hv, Dk],
    writing_keys: Out![F; B, L, Hv, Dk],
    block_decays: Out![f32; B, Hv, L / 16, Dk],
    throughout: Out![f32; B, Hv, L / C, Dk],
) {
    metal! {
        constexpr int PARTS = (Dk + 127) / 128;
        constexpr int BLOCKS = C / 16;
        const int chunk = threadgroup_position_in_grid.x / PARTS;
        const int channel = threadgroup_position_in_grid.x % PARTS * 128 + thread_index_in_threadgroup;
        const int head = threadgroup_position_in_grid.y;
        const int batch = threadgroup_position_in_grid.z;
        const ulong heads = ulong(batch) * Hv + head;
        if (channel >= Dk) { return; }

        float since_start = 1.0f;
        for (int block = 0; block < BLOCKS; ++block) {
            const ulong first = ulong(chunk) * C + block * 16;
            float since = 1.0f;
            #pragma unroll
            for (int row = 0; row < 16; ++row) {
                const ulong token = ulong(batch) * L + first + row;
                const ulong here = (token * Hv + head) * Dk + channel;
                const ulong there = (token * Hk + head / (Hv / Hk)) * Dk + channel;
                const ulong in_tile = (heads * L + first) * Dk + channel / 16 * 256 + row * 16 + channel % 16;
                const float query = float(queries[there]);
                const float key = float(keys[there]);
                since *= exp(log_decay[here]);
                block_queries[in_tile] = F(since * query);
                block_readers[in_tile] = F(since * key);
                reading_queries[here] = F(since_start * since * query);
                reading_keys[here] = F(since_start * since * key);
            }
            block_decays[(heads * (L / 16) + first / 16) * Dk + channel] = since;
            since_start *= since;
        }
        throughout[(heads * (L / C) + chunk) * Dk + channel] = since_start;

        float until_end = 1.0f;
        for (int block = BLOCKS - 1; block >= 0; --block) {
            const ulong first = ulong(chunk) * C + block * 16;
            float until = 1.0f;
            #pragma unroll
            for (int row = 15; row >= 0; --row) {
                const ulong token = ulong(batch) * L + first + row;
                const ulong here = (token * Hv + head) * Dk + channel;
                const float key = float(keys[(token * Hk + head / (Hv / Hk)) * Dk + channel]);
                block_writers[(heads * L + first) * Dk + channel / 16 * 256 + row * 16 + channel % 16] = F(until * key);
                writing_keys[here] = F(until_end * until * key);
                until *= exp(log_decay[here]);
            }
            until_end *= until;
        }
    }
}
