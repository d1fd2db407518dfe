//! Products of a simdgroup's tiles with the tiles of its chunk, which several stages compute.

/// Products with the tiles of the chunk's tokens from number `first` to `last`.
pub(super) const PRODUCTS: &str = "
// Adds the products of one tile with the transposed tiles of other tokens, whose rows lie `stride` apart.
template <typename F, int TILES>
inline void add_scores(
    thread tile<float, 16, 16>* scores, tile<F, 16, 16> own, const device F* tokens, int stride, int first, int last) {
  #pragma unroll
  for (int i = 0; i < TILES; ++i) {
    if (i >= first && i <= last) {
      right_tile<F, 16, 16> other;
      tile_load_right_transposed(other, in_pairs(tokens + i * 16 * stride), stride / 2);
      tile_multiply_accumulate(scores[i], own, other);
    }
  }
}

// The sum of the products of a row of tiles with the tiles of other tokens, whose rows lie `stride` apart.
template <typename F, int TILES>
inline tile<float, 16, 16> sum_of_tokens(
    thread const tile<float, 16, 16>* factors, const device F* tokens, int stride, int first, int last) {
  tile<float, 16, 16> sum(0.0f);
  #pragma unroll
  for (int i = 0; i < TILES; ++i) {
    if (i >= first && i <= last) {
      right_tile<F, 16, 16> right;
      tile_load_right(right, tokens + i * 16 * stride, stride);
      tile_multiply_accumulate(sum, factors[i], right);
    }
  }
  return sum;
}
";

/// Products of floats that lie tile by tile, `stride` floats from one row of tiles to the next.
pub(super) const FLOAT_PRODUCTS: &str = "
// Adds the products of a row of tiles with the tiles of the tokens `first` to `last`.
template <typename F, int TILES>
inline void add_floats(
    thread tile<float, 16, 16>& sum, thread const tile<float, 16, 16>* factors, const device float* tokens, int stride, int first,
    int last) {
  #pragma unroll
  for (int i = 0; i < TILES; ++i) {
    if (i >= first && i <= last) {
      right_tile<float, 16, 16> right;
      tile_load_right(right, tokens + i * stride, 16);
      multiply_floats<F>(sum, factors[i], right);
    }
  }
}
";

/// The rows of `z`, and their products with those of `u`.
pub(super) const SOLVED: &str = "
// Stores the own rows of z (the gradient of the values), and computes the products of those of dY and of z with all earlier
// rows of u, and of the elements of u and dD.
template <typename F, int TILES>
inline void solve_cotangents(
    thread tile<float, 16, 16>* by_output, thread tile<float, 16, 16>* by_error, thread tile<float, 16, 16>& d_strength,
    const device float* inverse, const threadgroup float* strength, const device float* error, const device float* d_write,
    const device F* d_output, device float* solved, device F* value_gradient, int value_dim, int value_stride, int own) {
  tile<float, 16, 16> columns[TILES];
  #pragma unroll
  for (int i = 0; i < TILES; ++i) {
    by_output[i] = tile<float, 16, 16>(0.0f);
    by_error[i] = tile<float, 16, 16>(0.0f);
    if (i >= own) {
      tile_load_transposed(columns[i], inverse + lower_tile(i, own), 16);
      tile_for_each(columns[i], row, column, value) { value *= strength[i * 16 + column]; }
    }
  }
  d_strength = tile<float, 16, 16>(0.0f);
  for (int d = 0; d < value_dim; d += 16) {
    tile<float, 16, 16> z(0.0f);
    add_floats<F, TILES>(z, columns, d_write + d * 16, 16 * value_dim, own, TILES - 1);
    tile_store(z, in_pairs(solved + d * 16), 8);
    tile_store(z, in_pairs(value_gradient + d), value_stride / 2);
    tile<F, 16, 16> d_own;
    tile_load(d_own, in_pairs(d_output + d), value_stride / 2);
    #pragma unroll
    for (int j = 0; j < TILES; ++j) {
      if (j <= own) {
        right_tile<float, 16, 16> right;
        tile_load_right_transposed(right, in_pairs(error + j * 16 * value_dim + d * 16), 8);
        tile_multiply_accumulate(by_output[j], d_own, right);
        multiply_floats<F>(by_error[j], z, right);
      }
    }
    tile<float, 16, 16> own_error;
    tile<float, 16, 16> own_write;
    tile_load(own_error, in_pairs(error + own * 16 * value_dim + d * 16), 8);
    tile_load(own_write, in_pairs(d_write + own * 16 * value_dim + d * 16), 8);
    tile_multiply_accumulate_elements(d_strength, own_error, own_write);
  }
}
";

/// Products of the own tokens with the states around their chunk.
pub(super) const STATES: &str = "
// Computes the products of the own rows of dY and z with the state before the chunk, and of u with the cotangent of the state
// behind it, for the two tiles of channels from `channel` on: so each left factor is loaded and split once.
template <typename F>
inline void multiply_states(
    thread tile<float, 16, 16>* by_output, thread tile<float, 16, 16>* by_solved, thread tile<float, 16, 16>* by_error,
    const device F* d_output, int value_stride, const device float* solved, const device float* error, const device float* state,
    const device float* d_exit, int channel, int key_dim, int value_dim) {
  #pragma unroll
  for (int side = 0; side < 2; ++side) {
    by_output[side] = tile<float, 16, 16>(0.0f);
    by_solved[side] = tile<float, 16, 16>(0.0f);
    by_error[side] = tile<float, 16, 16>(0.0f);
  }
  for (int d = 0; d < value_dim; d += 16) {
    tile<F, 16, 16> d_own;
    tile<float, 16, 16> z;
    tile<float, 16, 16> own_error;
    tile_load(d_own, in_pairs(d_output + d), value_stride / 2);
    tile_load(z, in_pairs(solved + d * 16), 8);
    tile_load(own_error, in_pairs(error + d * 16), 8);
    #pragma unroll
    for (int side = 0; side < 2; ++side) {
      const int k = channel + side * 16;
      if (k < key_dim) {
        right_tile<float, 16, 16> entry;
        right_tile<float, 16, 16> exit;
        tile_load_right(entry, state + d * key_dim + k * 16, 16);
        tile_load_right(exit, d_exit + d * key_dim + k * 16, 16);
        tile_multiply_accumulate(by_output[side], d_own, entry);
        multiply_floats<F>(by_solved[side], z, entry);
        multiply_floats<F>(by_error[side], own_error, exit);
      }
    }
  }
}
";
