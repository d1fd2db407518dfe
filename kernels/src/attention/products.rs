//! Products of the rows that a simdgroup of attention in blocks holds.

/// Functions that the launches of attention in blocks share.
pub(super) const PRODUCTS: &str = "
// Loads sixteen rows of each simdgroup's factors through threadgroup memory: a simdgroup of role 0 holds rows of `left`, one of
// role 1 rows of `right`. Of ROWS rows from `start` on, those below `count` are there.
template <typename F, int ROWS, int D, int E, int WIDE, int STRIDE>
inline void hold_rows(
    thread tile<F, 16, 16>* held, threadgroup F* block, const device F* left, const device F* right, int start, int count, int role,
    int pair, uint thread_index) {
  for (int part = 0; part < ROWS / 16; ++part) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    int row = start + 16 * part;
    if (row < count) {
      int valid = min(count - row, 16);
      tile_copy_rows(block, STRIDE, left + ulong(row) * D, D, 16, D, valid, thread_index, 256);
      tile_copy_rows(block + 16 * STRIDE, STRIDE, right + ulong(row) * E, E, 16, E, valid, thread_index, 256);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (row < count && part == pair) {
      #pragma unroll
      for (int c = 0; c < WIDE / 16; ++c) {
        if (16 * c < (role == 0 ? D : E)) tile_load(held[c], block + role * 16 * STRIDE + 16 * c, STRIDE);
      }
    }
  }
}

// Adds the products of rows that a simdgroup holds with sixteen rows in threadgroup memory, of which the first `width` columns
// count.
template <typename F, int WIDE, int STRIDE>
inline void multiply_held(
    thread tile<float, 16, 16>& scores, thread const tile<F, 16, 16>* held, const threadgroup F* rows, int width) {
  #pragma unroll
  for (int c = 0; c < WIDE / 16; ++c) {
    if (16 * c < width) {
      right_tile<F, 16, 16> right;
      tile_load_right_transposed(right, rows + 16 * c, STRIDE);
      tile_multiply_accumulate(scores, held[c], right);
    }
  }
}

// Stores the first `count` rows of a tile.
template <typename F> inline void store_rows(tile<float, 16, 16> sum, device F* to, int stride, int count) {
  if (count >= 16) {
    tile_store(tile_cast<F>(sum), to, stride);
  } else {
    tile_for_each(sum, row, column, value) {
      if (row < count) to[row * stride + column] = F(value);
    }
  }
}
";
