//! The chunked gated delta rule for GPUs: launches over tiles of 16 by 16.
//!
//! With rows as tokens of a chunk, `S` the state `[Dv, Dk]` it begins with, `g(j, i)` the product of the decays of tokens
//! j+1 to i, `G_i` that since the chunk's start, `E_i` that until its end, `B = diag(beta)`:
//!
//! ```text
//! X_ij = g(j, i) k_i.k_j  (j < i)      P_ij = g(j, i) q_i.k_j  (j <= i)      M = (I + X B)^-1
//! u  = M (V - G K S^T)                 what each token has to say that the state does not answer yet
//! Y  = G Q S^T + P B u                 S' = g S + (E B u)^T K
//! ```
//!
//! (Yang, Kautz & Hatamizadeh 2024, "Gated Delta Networks", section 3.3, with beta on the other side of the inverse, so
//! that nothing is ever divided by a beta.) Backwards, from the cotangents `dY` and `dS'`:
//!
//! ```text
//! dD = P^T dY + E K dS'^T              z = M^T B dD = dV
//! dS = g dS' + (G dY)^T Q - (B dD)^T M G K
//! dQ = G dY S + R K                    R_ij = g(j, i) (dY_i.u_j) beta_j       (j <= i)
//! dK = R^T Q - (N + N^T) K + E B u dS' - G z S
//!                                      N_ij = g(j, i) (z_i.u_j) beta_j        (j < i)
//! dbeta_j = u_j.dD_j - sum_i X_ij (z_i.u_j)
//! ```
//!
//! and each factor `g(j, i)` passes its cotangent on to the gates of tokens j+1 to i.
//!
//! The float32 arrays between launches lie tile by tile: sixteen rows, then the next sixteen, and in each the tiles
//! from left to right, 16 by 16 elements one after the other. A load of a tile then touches half the lines of memory.
//!
//! Every threadgroup owns what it writes, and sums run in one order, so each run gives the same bits. Rows of tokens
//! are whole chunks here; the caller pads them.

pub(super) mod by_channel;
pub(super) mod by_head;
mod products;
mod reverse_scan;
mod scan;

use products::{FLOAT_PRODUCTS, PRODUCTS, SOLVED, STATES};
pub(crate) use reverse_scan::{ScanCotangentsInputs, ScanCotangentsOutputs, scan_cotangents};
pub(crate) use scan::{ScanStatesInputs, ScanStatesOutputs, scan_states};

/// The chunk of `C` tokens of one value head that a threadgroup has, in rows of `L` tokens: its head, and the places of its
/// first token in `[B, L]` and in `[B, Hv, L]`, and of itself in `[B, Hv, L / C]`.
const CHUNK: &str = "
struct Chunk { int head; ulong token; ulong cell; ulong place; };
template <int C> inline Chunk find_chunk(uint3 group, int tokens, int value_heads) {
  const ulong heads = ulong(group.z) * value_heads + group.y;
  const ulong token = ulong(group.z) * tokens + group.x * C;
  return Chunk{int(group.y), token, heads * tokens + group.x * C, heads * (tokens / C) + group.x};
}
";

/// Rows of tiles begin at whole pairs here, as all extents are multiples of sixteen.
const PAIRS: &str = "
template <typename T> inline const device vec<T, 2>* in_pairs(const device T* p) { return (const device vec<T, 2>*)p; }
template <typename T> inline device vec<T, 2>* in_pairs(device T* p) { return (device vec<T, 2>*)p; }
";

/// Products of two floats where the tokens are of sixteen bits, and where they are not.
const FLOATS: &str = "
template <typename F>
inline void multiply_floats(thread tile<float, 16, 16>& d, tile<float, 16, 16> a, right_tile<float, 16, 16> b) {
  if (sizeof(F) == 2) { tile_multiply_accumulate_sixteen_bits(d, a, b); } else { tile_multiply_accumulate(d, a, b); }
}
";

/// Tiles on and below the diagonal of a chunk's matrix lie one after the other, row by row.
const LOWER_TILES: &str = "
inline int lower_tile(int row, int column) { return (row * (row + 1) / 2 + column) * 256; }
";

/// The inverse of a unit lower triangular matrix, tile by tile: blocks on the diagonal by substitution, a thread a column; then
/// block substitution, a simdgroup a column. `factor` is what lies below its diagonal; barriers are before and behind.
const INVERSE: &str = "
template <int TILES>
inline void invert_chunk(threadgroup float* factor, threadgroup float* inverted, int thread_index, int own) {
  if (thread_index < 16 * TILES) {
    const int block = lower_tile(thread_index / 16, thread_index / 16);
    const int column = thread_index % 16;
    float solved[16];
    #pragma unroll
    for (int i = 0; i < 16; ++i) {
      float sum = i == column ? 1.0f : 0.0f;
      #pragma unroll
      for (int k = 0; k < i; ++k) { sum -= factor[block + i * 16 + k] * solved[k]; }
      solved[i] = sum;
      inverted[block + i * 16 + column] = sum;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  right_tile<float, 16, 16> above[TILES];
  #pragma unroll
  for (int i = 0; i < TILES; ++i) {
    if (i == own) {
      tile_load_right(above[i], inverted + lower_tile(i, i), 16);
    } else if (i > own) {
      tile<float, 16, 16> sum(0.0f);
      #pragma unroll
      for (int k = 0; k < i; ++k) {
        if (k >= own) {
          tile<float, 16, 16> left;
          tile_load(left, factor + lower_tile(i, k), 16);
          tile_multiply_accumulate(sum, left, above[k]);
        }
      }
      tile_for_each(sum, row, column, value) { value = -value; }
      tile<float, 16, 16> diagonal;
      tile<float, 16, 16> block(0.0f);
      tile_load(diagonal, inverted + lower_tile(i, i), 16);
      tile_multiply_accumulate(block, diagonal, tile_as_right(sum));
      tile_store(block, inverted + lower_tile(i, own), 16);
      above[i] = tile_as_right(block);
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}
";

/// Log gates of a chunk summed from its start, each sum a float and what it lost to rounding: differences of two such sums
/// keep their digits however far the gates are shut.
const DECAY: &str = "
struct Gates { float sum; float rest; };
inline Gates add_gate(Gates gates, float gate) {
  float sum = gates.sum + gate;
  float added = sum - gates.sum;
  return Gates{sum, gates.rest + ((gates.sum - (sum - added)) + (gate - added))};
}
template <typename Sums> inline Gates gates_at(Sums gates, ulong cell) { return Gates{gates[2 * cell], gates[2 * cell + 1]}; }
inline float decay_since(Gates gates) { return exp(gates.sum + gates.rest); }
inline float decay_between(Gates earlier, Gates later) {
  return exp((later.sum - earlier.sum) + (later.rest - earlier.rest));
}
";
