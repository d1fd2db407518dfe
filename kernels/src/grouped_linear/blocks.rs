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
        let widest = match (backend, dtype) {
            (Backend::Cuda, Dtype::F16 | Dtype::BF16) => 128,
            (Backend::Cuda | Backend::Metal, _) => 64,
            (Backend::Cpu | Backend::Emulated, _) => 32,
        };
        let columns = (width as usize).next_multiple_of(32).min(widest);
        let depth = if backend == Backend::Metal && dtype == Dtype::F32 { 16 } else { 32 };
        Blocks { rows: widest, columns: if columns == 96 { 128 } else { columns }, depth }
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

// Copies `rows` rows of `columns`, with zeros where the source has none.
template <typename T>
inline void copy_block(
    threadgroup T* to, int to_stride, const device T* from, int from_stride, int rows, int columns, int valid_rows,
    int valid_columns, uint index) {
  if (valid_columns >= columns) {
    tile_copy_rows(to, uint(to_stride), from, uint(from_stride), uint(rows), uint(columns), uint(valid_rows), index, 128u);
    return;
  }
  for (int i = int(index); i < rows * columns; i += 128) {
    int row = i / columns;
    int column = i % columns;
    bool there = row < valid_rows && column < valid_columns;
    to[row * to_stride + column] = there ? from[ulong(row) * ulong(from_stride) + ulong(column)] : T(0.0f);
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

// y = x W^T, or x W if TRANSPOSED: `inner` columns of x give `outer` columns of y.
template <typename T, bool TRANSPOSED, int ROWS, int COLUMNS, int DEPTH, typename Weight, typename Counts>
inline void multiply_rows(
    threadgroup T* memory, const device T* x, Weight weight, Counts counts, device T* y, int experts, int rows, int inner, int outer,
    int threadgroup_number, uint index, int lane, int simdgroup) {
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
      }
      if (used_rows > 0 && used_columns > 0) {
        const threadgroup T* left = here + simdgroup / 2 * 16 * LEFT_STRIDE;
        const threadgroup T* right = here + RIGHT + simdgroup % 2 * (COLUMNS / 2) * (TRANSPOSED ? 1 : RIGHT_STRIDE);
        if (used_rows > ROWS - 32) {
          multiply_block<T, false, TRANSPOSED, true, DOWN, ACROSS, DEPTH>(sums, left, LEFT_STRIDE, right, RIGHT_STRIDE, used_rows);
        } else {
          multiply_block<T, false, TRANSPOSED, false, DOWN, ACROSS, DEPTH>(sums, left, LEFT_STRIDE, right, RIGHT_STRIDE, used_rows);
        }
      }
      if (next < inner) { put_part<TRANSPOSED, COLUMNS, DEPTH>(there + RIGHT, held, index); }
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
                for width in [1, 8, 33, 64, 70, 512, 2048] {
                    let dense = Blocks::new(backend, dtype, width);
                    for Blocks { rows, columns, depth } in [dense, dense.for_codes()] {
                        let padding = 16 / dtype.size();
                        let as_stored = (rows + columns) * (depth + padding);
                        let transposed = rows * (depth + padding) + depth * (columns + padding);
                        let gradient = depth * (rows + columns + 2 * padding);
                        let largest = as_stored.max(transposed).max(gradient);
                        assert!(
                            2 * largest * dtype.size() <= bytes,
                            "{backend} {dtype} {width}: {rows} {columns} {depth}"
                        );
                        assert!(rows % 32 == 0 && columns % 32 == 0 && depth % 16 == 0);
                    }
                }
            }
        }
    }
}
