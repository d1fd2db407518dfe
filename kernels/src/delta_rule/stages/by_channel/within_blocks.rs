//! The gradients of a block's tokens: the part that comes from the block itself, added to that of the other blocks and
//! the states.

use cotangent::stage;

use crate::delta_rule::stages::LOWER_TILES;

/// The gradients of queries, keys and log gates. Those of queries and keys are of one value head; if value heads share a key
/// head, the caller sums them. One thread computes one channel of sixteen tokens of a value head.
#[stage(
    dims = [TILES = C / 16, PACKED = TILES * (TILES + 1) / 2 * 256],
    grid = (ceil_div(Dk, 128) * 128 * (L / 16), Hv, B),
    threads = (128, 1, 1),
    headers = [LOWER_TILES],
    cases = [
        (B = 1, L = 16, Hk = 1, Hv = 1, Dk = 16, C = 16),
        (B = 2, L = 64, Hk = 1, Hv = 3, Dk = 32, C = 32),
        (B = 1, L = 64, Hk = 2, Hv = 2, Dk = 144, C = 64),
    ],
)]
pub(crate) fn gradients_by_channel<F: Float, Gradient: Float, const C: usize, const Dk: usize>(
    queries: In![F; B, L, Hk, Dk],
    keys: In![F; B, L, Hk, Dk],
    #[values(-2.0..0.0)] log_decay: In![f32; B, L, Hv, Dk],
    query_scores_cotangent: In![f32; B, Hv, L / C, PACKED],
    key_scores_cotangent: In![f32; B, Hv, L / C, PACKED],
    query_cotangents: In![f32; B, Hv, L, Dk],
    reader_cotangents: In![f32; B, Hv, L, Dk],
    writer_cotangents: In![f32; B, Hv, L, Dk],
    passing: In![f32; B, Hv, L / 16, Dk],
    query_gradient: Out![Gradient; B, L, Hv, Dk],
    key_gradient: Out![Gradient; B, L, Hv, Dk],
    log_decay_gradient: Out![f32; B, L, Hv, Dk],
) {
    metal! {
        constexpr int PARTS = (Dk + 127) / 128;
        const int block = threadgroup_position_in_grid.x / PARTS;
        const int channel = threadgroup_position_in_grid.x % PARTS * 128 + thread_index_in_threadgroup;
        const int head = threadgroup_position_in_grid.y;
        const int batch = threadgroup_position_in_grid.z;
        const ulong heads = ulong(batch) * Hv + head;
        const ulong token = ulong(batch) * L + block * 16;
        const ulong diagonal = (heads * (L / C) + block / TILES) * PACKED + lower_tile(block % TILES, block % TILES);

        threadgroup float by_query_scores[256];
        threadgroup float by_key_scores[256];
        for (int i = thread_index_in_threadgroup; i < 256; i += 128) {
            by_query_scores[i] = query_scores_cotangent[diagonal + i];
            by_key_scores[i] = key_scores_cotangent[diagonal + i];
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (channel >= Dk) { return; }

        float query[16];
        float key[16];
        float decay[16];
        float d_query[16];
        float d_key[16];
        float d_decay[16];
        const ulong in_tiles = (heads * L + block * 16) * Dk + channel / 16 * 256 + channel % 16;
        // The tokens before and behind the block give gradients to its tokens, and to the gates between them.
        float factor = 1.0f;
        #pragma unroll
        for (int row = 0; row < 16; ++row) {
            const ulong there = ((token + row) * Hk + head / (Hv / Hk)) * Dk + channel;
            query[row] = float(queries[there]);
            key[row] = float(keys[there]);
            decay[row] = exp(log_decay[((token + row) * Hv + head) * Dk + channel]);
            factor *= decay[row];
            d_query[row] = factor * query_cotangents[in_tiles + row * 16];
            d_key[row] = factor * reader_cotangents[in_tiles + row * 16];
        }
        float sum = 0.0f;
        #pragma unroll
        for (int row = 15; row >= 0; --row) {
            sum += query[row] * d_query[row] + key[row] * d_key[row];
            d_decay[row] = sum;
        }
        float writes[16];
        factor = 1.0f;
        #pragma unroll
        for (int row = 15; row >= 0; --row) {
            const float d_writer = factor * writer_cotangents[in_tiles + row * 16];
            factor *= decay[row];
            writes[row] = key[row] * d_writer;
            d_query[row] += by_query_scores[row * 16 + row] * key[row];
            d_key[row] += by_query_scores[row * 16 + row] * query[row] + d_writer;
        }
        sum = 0.0f;
        #pragma unroll
        for (int row = 0; row < 16; ++row) {
            d_decay[row] += sum;
            sum += writes[row];
        }

        // The later tokens of the block read each token: one pass goes backwards for its gradient, one forwards.
        #pragma unroll
        for (int writer = 0; writer < 15; ++writer) {
            float back[16];
            float given = 0.0f;
            #pragma unroll
            for (int row = 15; row > writer; --row) {
                given += by_query_scores[row * 16 + writer] * query[row] + by_key_scores[row * 16 + writer] * key[row];
                back[row] = given;
                given *= decay[row];
            }
            float written = key[writer];
            d_key[writer] += given;
            #pragma unroll
            for (int row = writer + 1; row < 16; ++row) {
                written *= decay[row];
                d_query[row] += by_query_scores[row * 16 + writer] * written;
                d_key[row] += by_key_scores[row * 16 + writer] * written;
                d_decay[row] += written * back[row];
            }
        }

        const float passed = passing[(heads * (L / 16) + block) * Dk + channel];
        #pragma unroll
        for (int row = 0; row < 16; ++row) {
            const ulong here = ((token + row) * Hv + head) * Dk + channel;
            query_gradient[here] = Gradient(d_query[row]);
            key_gradient[here] = Gradient(d_key[row]);
            log_decay_gradient[here] = d_decay[row] + passed;
        }
    }
}
