//! Products of blocks that lie in threadgroup memory.

use cotangent::{Backend, Dtype};

/// The block sizes of a product: a threadgroup of four simdgroups, two by two, computes `rows` by `columns` of the
/// result, and takes `depth` of the inner length at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    /// The rows of the result in a block, a multiple of 32.
    pub rows: usize,
    /// The columns of the result in a block, a multiple of 32.
    pub columns: usize,
    /// The extent of a block along the inner length: a multiple of 16, or of 32 where codes are decoded.
    pub depth: usize,
}

impl Blocks {
    /// Returns the blocks that suit a backend for results of `width` columns. Two blocks of either factor are in
    /// threadgroup memory at once, of which Metal gives 32 KiB and CUDA 48.
    pub fn new(backend: Backend, dtype: Dtype, width: i32) -> Self {
        let (rows, columns) = (Blocks::widest(backend, dtype), Blocks::across(backend, dtype, width));
        Blocks { rows, columns, depth: Blocks::depth(backend, dtype) }
    }

    /// Returns blocks of the gradients of matrices `[outputs, inputs]`.
    pub(super) fn of_gradient(backend: Backend, dtype: Dtype, outputs: i32, inputs: i32) -> Self {
        let [rows, columns] = [outputs, inputs].map(|width| Blocks::across(backend, dtype, width));
        Blocks { rows, columns, depth: Blocks::depth(backend, dtype) }
    }

    /// Returns the most rows or columns that a block may have.
    fn widest(backend: Backend, dtype: Dtype) -> usize {
        match (backend, dtype) {
            (Backend::Cuda, Dtype::F16 | Dtype::BF16) => 128,
            (Backend::Cuda | Backend::Metal, _) => 64,
            (Backend::Cpu | Backend::Emulated, _) => 32,
        }
    }

    /// Returns the number of columns of a block, for results of `width` columns.
    fn across(backend: Backend, dtype: Dtype, width: i32) -> usize {
        match (width as usize).next_multiple_of(32).min(Blocks::widest(backend, dtype)) {
            96 => 128,
            columns => columns,
        }
    }

    fn depth(backend: Backend, dtype: Dtype) -> usize {
        if backend == Backend::Metal && dtype == Dtype::F32 { 16 } else { 32 }
    }

    /// Returns blocks for matrices that are decoded 32 columns at a time, in no more memory.
    pub(super) fn for_codes(self) -> Self {
        if self.depth < 32 { Blocks { rows: self.rows / 2, depth: 32, ..self } } else { self }
    }
}

/// Blocks in threadgroup memory, their products, and results on their way to the device.
///
/// Simdgroup `s` of four has every other sixteen rows of a block from `16 (s / 2)` on, so that what is left of an expert's rows
/// is shared by two of them, and one half of its columns.
pub(super) const BLOCKS: &str = "
// Elements between the rows of a block in threadgroup memory, which keep lanes out of each other's banks.
template <typename T> constexpr int padding() { return 16 / int(sizeof(T)); }

// Copies `rows` rows of `columns`, with zeros where the source has none. There is at least one valid column.
template <typename T>
inline void copy_block(
    threadgroup T* to, int to_stride, const device T* from, int from_stride, int rows, int columns, int valid_rows,
    int valid_columns, uint index) {
  uint copied = uint(min(columns, valid_columns));
  tile_copy_rows(to, uint(to_stride), from, uint(from_stride), uint(rows), copied, uint(valid_rows), index, 128u);
  if (valid_columns >= columns) return;
  for (int i = int(index); i < rows * columns; i += 128) {
    int column = i % columns;
    if (column >= valid_columns) { to[i / columns * to_stride + column] = T(0.0f); }
  }
}

// sums += left right, for the rows below `used`. The block of a TRANSPOSED factor has the inner length down.
template <typename T, bool LEFT_TRANSPOSED, bool RIGHT_TRANSPOSED, bool WHOLE, int DOWN, int ACROSS, int DEPTH>
inline void multiply_block(
    thread tile<float, 16, 16>* sums, const threadgroup T* left, int left_stride, const threadgroup T* right, int right_stride,
    int used) {
  #pragma unroll
  for (int k = 0; k < DEPTH; k += 16) {
    right_tile<T, 16, 16> of_columns[ACROSS];
    #pragma unroll
    for (int j = 0; j < ACROSS; ++j) {
      if (RIGHT_TRANSPOSED) {
        tile_load_right(of_columns[j], right + (k * right_stride + 16 * j), right_stride);
      } else {
        tile_load_right_transposed(of_columns[j], right + (16 * j * right_stride + k), right_stride);
      }
    }
    #pragma unroll
    for (int i = 0; i < DOWN; ++i) {
      if (WHOLE || 32 * i < used) {
        tile<T, 16, 16> of_rows;
        if (LEFT_TRANSPOSED) {
          tile_load_transposed(of_rows, left + (k * left_stride + 32 * i), left_stride);
        } else {
          tile_load(of_rows, left + (32 * i * left_stride + k), left_stride);
        }
        #pragma unroll
        for (int j = 0; j < ACROSS; ++j) { tile_multiply_accumulate(sums[i * ACROSS + j], of_rows, of_columns[j]); }
      }
    }
  }
}

// Stores the rows below `used_rows` and the columns below `used_columns` of what a simdgroup has summed.
template <typename T, int DOWN, int ACROSS>
inline void store_block(thread tile<float, 16, 16>* sums, device T* to, int stride, int used_rows, int used_columns) {
  #pragma unroll
  for (int i = 0; i < DOWN; ++i) {
    #pragma unroll
    for (int j = 0; j < ACROSS; ++j) {
      if (32 * i < used_rows && 16 * j < used_columns) {
        device T* first = to + (ulong(32 * i) * ulong(stride) + ulong(16 * j));
        if (32 * i + 16 <= used_rows && 16 * j + 16 <= used_columns) {
          tile_store(tile_cast<T>(sums[i * ACROSS + j]), first, stride);
        } else {
          tile_for_each(sums[i * ACROSS + j], row, column, value) {
            if (32 * i + row < used_rows && 16 * j + column < used_columns) {
              first[ulong(row) * ulong(stride) + ulong(column)] = T(value);
            }
          }
        }
      }
    }
  }
}
";

/// The product of a threadgroup's rows with a block of their expert's matrix, the next blocks of both on their way meanwhile.
///
/// What a matrix is stored as has a type with three functions: `of_expert` finds the matrix, `ask_part` begins to bring a part
/// of it, `put_part` puts it into threadgroup memory where it is not there yet.
pub(super) const PRODUCT: &str = "
// Elements of threadgroup memory that one block of each factor takes.
template <typename T, bool TRANSPOSED, int ROWS, int COLUMNS, int DEPTH> constexpr int factors() {
  return ROWS * (DEPTH + padding<T>()) + (TRANSPOSED ? DEPTH * (COLUMNS + padding<T>()) : COLUMNS * (DEPTH + padding<T>()));
}

// Adds the product of two blocks at `here`, of which the inner length is TAKEN, to the sums of a simdgroup.
template <typename T, bool TRANSPOSED, int ROWS, int COLUMNS, int DEPTH, int TAKEN>
inline void multiply_own(
    thread tile<float, 16, 16>* sums, const threadgroup T* here, int used_rows, int used_columns, int simdgroup) {
  constexpr int DOWN = ROWS / 32;
  constexpr int ACROSS = COLUMNS / 32;
  constexpr int LEFT_STRIDE = DEPTH + padding<T>();
  constexpr int RIGHT_STRIDE = (TRANSPOSED ? COLUMNS : DEPTH) + padding<T>();
  if (used_rows <= 0 || used_columns <= 0) return;
  const threadgroup T* left = here + simdgroup / 2 * 16 * LEFT_STRIDE;
  const threadgroup T* right = here + ROWS * LEFT_STRIDE + simdgroup % 2 * (COLUMNS / 2) * (TRANSPOSED ? 1 : RIGHT_STRIDE);
  if (used_rows > ROWS - 32) {
    multiply_block<T, false, TRANSPOSED, true, DOWN, ACROSS, TAKEN>(sums, left, LEFT_STRIDE, right, RIGHT_STRIDE, used_rows);
  } else {
    multiply_block<T, false, TRANSPOSED, false, DOWN, ACROSS, TAKEN>(sums, left, LEFT_STRIDE, right, RIGHT_STRIDE, used_rows);
  }
}

// Low-rank rows, and their factors `[outer, RANK]` of each expert, or `[RANK, outer]` if TRANSPOSED.
template <typename T, int RANK> struct LowRank { const device T* rows; const device T* factors; };

// Copies sixteen columns of the low-rank rows from `k` on, and what they are multiplied by.
template <bool TRANSPOSED, int ROWS, int COLUMNS, typename T, int RANK>
inline void copy_low_rank(
    threadgroup T* left, int left_stride, threadgroup T* right, int right_stride, LowRank<T, RANK> low, int k, int start, int outer,
    int valid, uint index) {
  copy_block(left, left_stride, low.rows + k, RANK, ROWS, 16, valid, RANK - k, index);
  if (TRANSPOSED) {
    const device T* from = low.factors + (ulong(k) * ulong(outer) + ulong(start));
    copy_block(right, right_stride, from, outer, 16, COLUMNS, RANK - k, outer - start, index);
  } else {
    const device T* from = low.factors + (ulong(start) * ulong(RANK) + ulong(k));
    copy_block(right, right_stride, from, RANK, COLUMNS, 16, outer - start, RANK - k, index);
  }
}

// y = x W^T + l F^T, or x W + l F if TRANSPOSED: `inner` columns of x, and RANK of the low-rank rows l, give `outer` columns
// of y.
template <typename T, bool TRANSPOSED, int ROWS, int COLUMNS, int DEPTH, int RANK, typename Weight, typename Counts>
inline void multiply_rows(
    threadgroup T* memory, const device T* x, Weight weight, LowRank<T, RANK> low, Counts counts, device T* y, int experts, int rows,
    int inner, int outer, int threadgroup_number, uint index, int lane, int simdgroup) {
  constexpr int DOWN = ROWS / 32;
  constexpr int ACROSS = COLUMNS / 32;
  constexpr int LEFT_STRIDE = DEPTH + padding<T>();
  constexpr int RIGHT_STRIDE = (TRANSPOSED ? COLUMNS : DEPTH) + padding<T>();
  constexpr int SIZE = factors<T, TRANSPOSED, ROWS, COLUMNS, DEPTH>();
  constexpr int RIGHT = ROWS * LEFT_STRIDE;
  int across = (outer + COLUMNS - 1) / COLUMNS;
  Share share = find_share<ROWS>(counts, experts, rows, threadgroup_number / across, lane);
  int valid = share.end - share.first;
  if (valid <= 0) return;
  int start = threadgroup_number % across * COLUMNS;
  int used_rows = valid - simdgroup / 2 * 16;
  int used_columns = outer - start - simdgroup % 2 * (COLUMNS / 2);
  tile<float, 16, 16> sums[DOWN * ACROSS];
  #pragma unroll
  for (int i = 0; i < DOWN * ACROSS; ++i) { sums[i] = tile<float, 16, 16>(0.0f); }

  if (share.expert < experts) {
    auto matrix = of_expert(weight, share.expert, inner, outer);
    const device T* from = x + ulong(share.first) * ulong(inner);
    copy_block(memory, LEFT_STRIDE, from, inner, ROWS, DEPTH, valid, inner, index);
    auto held = ask_part<TRANSPOSED, COLUMNS, DEPTH>(memory + RIGHT, matrix, 0, start, inner, outer, index);
    low.rows += ulong(share.first) * ulong(RANK);
    low.factors += ulong(share.expert) * ulong(outer) * ulong(RANK);
    put_part<TRANSPOSED, COLUMNS, DEPTH>(memory + RIGHT, held, index);
    int turn = 0;
    for (int k = 0; k < inner; k += DEPTH) {
      int next = k + DEPTH;
      threadgroup T* here = memory + turn * SIZE;
      threadgroup T* there = memory + (1 - turn) * SIZE;
      threadgroup_barrier(mem_flags::mem_threadgroup);
      if (next < inner) {
        copy_block(there, LEFT_STRIDE, from + next, inner, ROWS, DEPTH, valid, inner - next, index);
        held = ask_part<TRANSPOSED, COLUMNS, DEPTH>(there + RIGHT, matrix, next, start, inner, outer, index);
      } else if (RANK > 0) {
        copy_low_rank<TRANSPOSED, ROWS, COLUMNS>(
            there, LEFT_STRIDE, there + RIGHT, RIGHT_STRIDE, low, 0, start, outer, valid, index);
      }
      multiply_own<T, TRANSPOSED, ROWS, COLUMNS, DEPTH, DEPTH>(sums, here, used_rows, used_columns, simdgroup);
      if (next < inner) { put_part<TRANSPOSED, COLUMNS, DEPTH>(there + RIGHT, held, index); }
      turn = 1 - turn;
    }
    for (int k = 0; k < RANK; k += 16) {
      threadgroup T* here = memory + turn * SIZE;
      threadgroup T* there = memory + (1 - turn) * SIZE;
      threadgroup_barrier(mem_flags::mem_threadgroup);
      if (k + 16 < RANK) {
        copy_low_rank<TRANSPOSED, ROWS, COLUMNS>(
            there, LEFT_STRIDE, there + RIGHT, RIGHT_STRIDE, low, k + 16, start, outer, valid, index);
      }
      multiply_own<T, TRANSPOSED, ROWS, COLUMNS, DEPTH, 16>(sums, here, used_rows, used_columns, simdgroup);
      turn = 1 - turn;
    }
  }
  device T* to = y + (ulong(share.first + simdgroup / 2 * 16) * ulong(outer) + ulong(start + simdgroup % 2 * (COLUMNS / 2)));
  store_block<T, DOWN, ACROSS>(sums, to, outer, used_rows, used_columns);
}
";

/// Matrices that lie in memory as they are multiplied.
pub(super) const DENSE: &str = "
template <typename T> struct Dense { const device T* at; };
template <typename T> inline Dense<T> of_expert(Dense<T> weight, int expert, int inner, int outer) {
  return Dense<T>{weight.at + ulong(expert) * ulong(inner) * ulong(outer)};
}

// The copy runs by itself until the next barrier.
struct Copying {};
template <bool TRANSPOSED, int COLUMNS, int DEPTH, typename T>
inline Copying ask_part(threadgroup T* to, Dense<T> weight, int k, int start, int inner, int outer, uint index) {
  if (TRANSPOSED) {
    const device T* from = weight.at + (ulong(k) * ulong(outer) + ulong(start));
    copy_block(to, COLUMNS + padding<T>(), from, outer, DEPTH, COLUMNS, inner - k, outer - start, index);
  } else {
    const device T* from = weight.at + (ulong(start) * ulong(inner) + ulong(k));
    copy_block(to, DEPTH + padding<T>(), from, inner, COLUMNS, DEPTH, outer - start, inner - k, index);
  }
  return Copying{};
}
template <bool TRANSPOSED, int COLUMNS, int DEPTH, typename T> inline void put_part(threadgroup T* to, Copying, uint index) {}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_blocks_of_either_product_fit_into_threadgroup_memory() {
        for (backend, bytes) in [(Backend::Cuda, 48 << 10), (Backend::Metal, 32 << 10), (Backend::Emulated, 32 << 10)] {
            for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
                let padding = 16 / dtype.size();
                let fits = |Blocks { rows, columns, depth }: Blocks, elements: usize| {
                    assert!(2 * elements * dtype.size() <= bytes, "{backend} {dtype}: {rows} {columns} {depth}");
                    assert!(rows % 32 == 0 && columns % 32 == 0 && depth % 16 == 0);
                };
                let widths = [1, 8, 33, 64, 70, 512, 2048];
                for width in widths {
                    let dense = Blocks::new(backend, dtype, width);
                    for blocks @ Blocks { rows, columns, depth } in [dense, dense.for_codes()] {
                        fits(blocks, (rows + columns) * (depth + padding));
                        fits(blocks, rows * (depth + padding) + depth * (columns + padding));
                    }
                    for inputs in widths {
                        let blocks = Blocks::of_gradient(backend, dtype, width, inputs);
                        fits(blocks, blocks.depth * (blocks.rows + blocks.columns + 2 * padding));
                    }
                }
            }
        }
    }
}
