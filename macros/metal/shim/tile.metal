// tile<T, 16, 16> on Metal: two by two simdgroup matrices. The emulator has its own, with loops.
// The places of a lane's elements follow Apple's simdgroup_matrix layout, as `matrix.h` states it.

template <typename T, int ROWS, int COLUMNS> struct tile {
  static_assert(ROWS == 16 && COLUMNS == 16, "tile: 16 by 16 only");
  simdgroup_matrix<T, 8, 8> part[4];
  tile() = default;
  explicit tile(T value) {
    for (int p = 0; p < 4; ++p) part[p] = make_filled_simdgroup_matrix<T, 8, 8>(value);
  }
};

// A right factor. On Metal a tile is already one; other targets lay it out differently.
template <typename T, int ROWS, int COLUMNS> struct right_tile {
  tile<T, ROWS, COLUMNS> whole;
};

// In a helper the lane's number is not an argument, but it is the number of lanes in front of it.
inline ushort tile_lane() { return simd_prefix_exclusive_sum(ushort(1)); }
inline ushort tile_row(ushort lane, int element) {
  return ushort(element / 4 * 8 + (lane / 4 & 4) + (lane / 2) % 4);
}
inline ushort tile_column(ushort lane, int element) {
  return ushort(element / 2 % 2 * 8 + (lane / 4 & 2) * 2 + (lane % 2) * 2 + element % 2);
}

#define TILE_MEMORY(SPACE)                                                                                  \
  template <typename T> inline void tile_load(thread tile<T, 16, 16>& t, const SPACE T* from, uint stride) {   \
    for (int p = 0; p < 4; ++p) simdgroup_load(t.part[p], from + p / 2 * 8 * stride + p % 2 * 8, stride);      \
  }                                                                                                         \
  template <typename T>                                                                                     \
  inline void tile_load_transposed(thread tile<T, 16, 16>& t, const SPACE T* from, uint stride) {              \
    for (int p = 0; p < 4; ++p)                                                                             \
      simdgroup_load(t.part[p], from + p % 2 * 8 * stride + p / 2 * 8, stride, ulong2(0, 0), true);            \
  }                                                                                                         \
  template <typename T> inline void tile_store(tile<T, 16, 16> t, SPACE T* to, uint stride) {                  \
    for (int p = 0; p < 4; ++p) simdgroup_store(t.part[p], to + p / 2 * 8 * stride + p % 2 * 8, stride);       \
  }                                                                                                         \
  template <typename T, typename U>                                                                         \
  inline void tile_load(thread tile<T, 16, 16>& t, const SPACE U* from, uint stride) {                         \
    ushort lane = tile_lane();                                                                              \
    for (int e = 0; e < 8; ++e)                                                                             \
      t.part[e / 2].thread_elements()[e % 2] = static_cast<T>(from[tile_row(lane, e) * stride + tile_column(lane, e)]);   \
  }                                                                                                         \
  template <typename T, typename U>                                                                         \
  inline void tile_load_transposed(thread tile<T, 16, 16>& t, const SPACE U* from, uint stride) {              \
    ushort lane = tile_lane();                                                                              \
    for (int e = 0; e < 8; ++e)                                                                             \
      t.part[e / 2].thread_elements()[e % 2] = static_cast<T>(from[tile_column(lane, e) * stride + tile_row(lane, e)]);   \
  }                                                                                                         \
  template <typename T, typename U> inline void tile_store(tile<T, 16, 16> t, SPACE U* to, uint stride) {      \
    ushort lane = tile_lane();                                                                              \
    for (int e = 0; e < 8; ++e)                                                                             \
      to[tile_row(lane, e) * stride + tile_column(lane, e)] = static_cast<U>(t.part[e / 2].thread_elements()[e % 2]);     \
  }
#define TILE_RIGHT_MEMORY(SPACE)                                                                            \
  template <typename T, typename U>                                                                         \
  inline void tile_load_right(thread right_tile<T, 16, 16>& t, const SPACE U* from, uint stride) {             \
    tile_load(t.whole, from, stride);                                                                       \
  }                                                                                                         \
  template <typename T, typename U>                                                                         \
  inline void tile_load_right_transposed(thread right_tile<T, 16, 16>& t, const SPACE U* from, uint stride) {  \
    tile_load_transposed(t.whole, from, stride);                                                            \
  }
// With pointers to pairs, each row begins at a whole pair, which some targets load faster; strides count pairs.
#define TILE_PAIRS(SPACE)                                                                                   \
  template <typename T, typename U>                                                                         \
  inline void tile_load(thread tile<T, 16, 16>& t, const SPACE vec<U, 2>* from, uint stride) {                 \
    tile_load(t, (const SPACE U*)from, 2 * stride);                                                         \
  }                                                                                                         \
  template <typename T, typename U>                                                                         \
  inline void tile_load_right_transposed(                                                                   \
      thread right_tile<T, 16, 16>& t, const SPACE vec<U, 2>* from, uint stride) {                             \
    tile_load_right_transposed(t, (const SPACE U*)from, 2 * stride);                                        \
  }                                                                                                         \
  template <typename T, typename U> inline void tile_store(tile<T, 16, 16> t, SPACE vec<U, 2>* to, uint stride) { \
    tile_store(t, (SPACE U*)to, 2 * stride);                                                                \
  }
TILE_MEMORY(device)
TILE_MEMORY(threadgroup)
TILE_RIGHT_MEMORY(device)
TILE_RIGHT_MEMORY(threadgroup)
TILE_PAIRS(device)
TILE_PAIRS(threadgroup)
#undef TILE_MEMORY
#undef TILE_RIGHT_MEMORY
#undef TILE_PAIRS

// Returns the same numbers in float.
inline tile<float, 16, 16> tile_in_float(tile<float, 16, 16> t) { return t; }
template <typename T> inline tile<float, 16, 16> tile_in_float(tile<T, 16, 16> t) {
  tile<float, 16, 16> result;
  for (int e = 0; e < 8; ++e) result.part[e / 2].thread_elements()[e % 2] = float(t.part[e / 2].thread_elements()[e % 2]);
  return result;
}

template <typename D, typename A>
inline void tile_add_product(thread tile<D, 16, 16>& d, tile<A, 16, 16> a, tile<A, 16, 16> b) {
  for (int row = 0; row < 2; ++row)
    for (int column = 0; column < 2; ++column)
      for (int k = 0; k < 2; ++k)
        simdgroup_multiply_accumulate(
            d.part[2 * row + column], a.part[2 * row + k], b.part[2 * k + column], d.part[2 * row + column]);
}

// d += a b. Factors of two types are multiplied in float.
template <typename D, typename A>
inline void tile_multiply_accumulate(thread tile<D, 16, 16>& d, tile<A, 16, 16> a, tile<A, 16, 16> b) {
  tile_add_product(d, a, b);
}
template <typename D, typename A, typename B>
inline void tile_multiply_accumulate(thread tile<D, 16, 16>& d, tile<A, 16, 16> a, tile<B, 16, 16> b) {
  tile_add_product(d, tile_in_float(a), tile_in_float(b));
}
template <typename D, typename A>
inline void tile_multiply_accumulate(thread tile<D, 16, 16>& d, tile<A, 16, 16> a, right_tile<A, 16, 16> b) {
  tile_add_product(d, a, b.whole);
}
template <typename D, typename A, typename B>
inline void tile_multiply_accumulate(thread tile<D, 16, 16>& d, tile<A, 16, 16> a, right_tile<B, 16, 16> b) {
  tile_add_product(d, tile_in_float(a), tile_in_float(b.whole));
}

// Does the same with at least 16 bits of each float.
inline void tile_multiply_accumulate_sixteen_bits(
    thread tile<float, 16, 16>& d, tile<float, 16, 16> a, right_tile<float, 16, 16> b) {
  tile_add_product(d, a, b.whole);
}

// d += a b, element by element.
template <typename D, typename A, typename B>
inline void tile_multiply_accumulate_elements(thread tile<D, 16, 16>& d, tile<A, 16, 16> a, tile<B, 16, 16> b) {
  for (int e = 0; e < 8; ++e)
    d.part[e / 2].thread_elements()[e % 2] =
        D(float(d.part[e / 2].thread_elements()[e % 2]) +
          float(a.part[e / 2].thread_elements()[e % 2]) * float(b.part[e / 2].thread_elements()[e % 2]));
}

// Element (row, column) comes from the lane that holds (column, row).
template <typename T> inline tile<T, 16, 16> tile_transpose(tile<T, 16, 16> t) {
  tile<T, 16, 16> result;
  ushort lane = tile_lane(), row = tile_row(lane, 0);
  for (int p = 0; p < 4; ++p)
    for (int e = 0; e < 2; ++e) {
      ushort from_row = tile_column(lane, e), from_column = row;
      ushort from = ushort((from_column >> 1 & 1) | (from_row & 3) << 1 | (from_column >> 2 & 1) << 3 | (from_row >> 2 & 1) << 4);
      int other = p % 2 * 2 + p / 2;
      T even = simd_shuffle(t.part[other].thread_elements()[0], from);
      T odd = simd_shuffle(t.part[other].thread_elements()[1], from);
      result.part[p].thread_elements()[e] = from_column % 2 ? odd : even;
    }
  return result;
}

template <typename T> inline right_tile<T, 16, 16> tile_as_right(tile<T, 16, 16> t) {
  right_tile<T, 16, 16> result;
  result.whole = t;
  return result;
}
template <typename T> inline right_tile<T, 16, 16> tile_as_right_transposed(tile<T, 16, 16> t) {
  return tile_as_right(tile_transpose(t));
}

template <typename U, typename T> inline tile<U, 16, 16> tile_cast(tile<T, 16, 16> t) {
  tile<U, 16, 16> result;
  for (int e = 0; e < 8; ++e)
    result.part[e / 2].thread_elements()[e % 2] = static_cast<U>(t.part[e / 2].thread_elements()[e % 2]);
  return result;
}

// Holds one value for each row, in each lane that holds a part of it: `at[i]` is that of `row(i)`.
template <typename T> struct tile_rows {
  T at[2];
  tile_rows() = default;
  explicit tile_rows(T value) { at[0] = at[1] = value; }
  ushort row(int i) const { return tile_row(tile_lane(), 4 * i); }
};
inline int tile_row_of(int element) { return element / 4; }

// The lanes of a row differ in the first and in the fourth bit of their numbers.
template <typename T> inline tile_rows<T> tile_row_sum(tile<T, 16, 16> t) {
  tile_rows<T> result;
  for (int i = 0; i < 2; ++i) {
    T value = 0;
    for (int e = 4 * i; e < 4 * i + 4; ++e) value += t.part[e / 2].thread_elements()[e % 2];
    value += simd_shuffle_xor(value, ushort(1));
    result.at[i] = value + simd_shuffle_xor(value, ushort(8));
  }
  return result;
}
template <typename T> inline tile_rows<T> tile_row_max(tile<T, 16, 16> t) {
  tile_rows<T> result;
  for (int i = 0; i < 2; ++i) {
    T value = t.part[2 * i].thread_elements()[0];
    for (int e = 4 * i + 1; e < 4 * i + 4; ++e) value = max(value, T(t.part[e / 2].thread_elements()[e % 2]));
    value = max(value, simd_shuffle_xor(value, ushort(1)));
    result.at[i] = max(value, simd_shuffle_xor(value, ushort(8)));
  }
  return result;
}

// Copies `columns` of `rows` rows, with zeros from row `valid` on. `threads` threads take part, of which this is number
// `index`. The elements are there behind the next `threadgroup_barrier`.
template <typename T>
inline void tile_copy_rows(
    threadgroup T* to, uint to_stride, const device T* from, uint from_stride, uint rows, uint columns, uint valid, uint index,
    uint threads) {
  for (uint i = index; i < rows * columns; i += threads) {
    uint row = i / columns, column = i % columns;
    to[row * to_stride + column] = row < valid ? from[row * from_stride + column] : T(0.0f);
  }
}

// Prefetches `columns` of `rows` rows: `threads` threads take part, of which this is number `index`.
template <typename T>
inline void tile_prefetch_rows(const device T* from, uint stride, uint rows, uint columns, uint index, uint threads) {}

// This copies and stores, because no reference can be bound to a component of a vector.
template <typename T> inline T tile_get(thread tile<T, 16, 16>& t, int element) {
  return t.part[element / 2].thread_elements()[element % 2];
}
template <typename T> inline void tile_set(thread tile<T, 16, 16>& t, int element, T value) {
  t.part[element / 2].thread_elements()[element % 2] = value;
}

// `tile_for_each(t, row, column, value) { … }` runs once for each element that this lane holds, and stores what `value`
// is at the end. `continue` goes to the next element; `break` must not be used.
#define tile_for_each(TILE, ROW, COLUMN, VALUE)                                                                  \
  for (ushort lane_ = tile_lane(), element_ = 0; element_ < 8; ++element_)                                       \
    for (bool once_ = true; once_;)                                                                              \
      for (const ushort ROW = tile_row(lane_, element_), COLUMN = tile_column(lane_, element_); once_;)          \
        for (auto VALUE = tile_get(TILE, element_); once_; tile_set(TILE, element_, VALUE), once_ = false)
// Does the same with `of_row`, the row's value in `rows`, beside each element.
#define tile_with_rows(TILE, ROWS, ROW, COLUMN, VALUE, OF_ROW)                                                   \
  for (ushort lane_ = tile_lane(), element_ = 0; element_ < 8; ++element_)                                       \
    for (bool once_ = true; once_;)                                                                              \
      for (const ushort ROW = tile_row(lane_, element_), COLUMN = tile_column(lane_, element_); once_;)          \
        for (const auto OF_ROW = (ROWS).at[tile_row_of(element_)]; once_;)                                       \
          for (auto VALUE = tile_get(TILE, element_); once_; tile_set(TILE, element_, VALUE), once_ = false)
