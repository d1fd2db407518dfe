//! Rows of few or many columns, read by simdgroups.
//!
//! A GPU reads at the speed of its memory only while many independent loads are under way. So the width `D` of a row is a
//! compile-time constant. Each lane loads `parts_of_lane` columns, 32 apart, of `rows_of_simdgroup` rows before it uses any of them.
//! Narrow rows share a simdgroup. Rows too wide for the registers are read twice, a part of their columns at a time.

/// The functions with which a simdgroup reads rows of `D` columns. The grid of such a launch is `256 * ceil_div(rows, 8
/// * max(1, 512 / max(D, 128)))` threads, 256 in a threadgroup.
pub(crate) const ROWS: &str = "
template <int D> constexpr int rows_of_simdgroup() { return D > 512 ? 1 : 512 / (D > 128 ? D : 128); }
template <int D> constexpr int parts_of_lane() { return D > 1024 ? 16 : (D + 31) / 32; }

// Finds where the rows `first`, `first + 1`, .. begin; beyond the end the last row is repeated.
template <int COUNT>
inline void find_rows(thread ulong* starts, int first, int rows, int heads, long token_stride, long head_stride) {
  #pragma unroll
  for (int r = 0; r < COUNT; ++r) {
    uint row = uint(min(first + r, rows - 1));
    uint token = row / uint(heads);
    starts[r] = ulong(token) * ulong(token_stride) + ulong(row - token * uint(heads)) * ulong(head_stride);
  }
}

// Loads the columns `first`, `first + 32`, .. of each row, and 0 where there is none.
template <int COUNT, int PARTS, typename T, typename Rows>
inline void load_rows(thread T* values, Rows rows, thread const ulong* starts, long stride, int first, int width) {
  #pragma unroll
  for (int r = 0; r < COUNT; ++r) {
    auto next = rows + (starts[r] + ulong(first) * ulong(stride));
    #pragma unroll
    for (int part = 0; part < PARTS; ++part) {
      values[r * PARTS + part] = first + 32 * part < width ? *next : T(0.0f);
      next += 32 * stride;
    }
  }
}

// Loads the columns `first`, `first + 32`, .. of a weight, and adds `centre` to each.
template <int PARTS, typename Weight>
inline void load_weights(thread float* weights, Weight weight, long stride, int first, int width, float centre) {
  ulong start[1] = {0};
  load_rows<1, PARTS>(weights, weight, start, stride, first, width);
  #pragma unroll
  for (int part = 0; part < PARTS; ++part) { weights[part] += centre; }
}
";
