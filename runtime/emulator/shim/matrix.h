// simdgroup_matrix and tile: matrices spread over the lanes of a simdgroup.

namespace metal {

// Apple's layout: a lane holds two neighbouring columns of one row. These give the row and the first column.
METAL_INLINE METAL_UNWATCHED uint matrix_row(uint lane) { return (lane / 4 & 4) + (lane / 2) % 4; }
METAL_INLINE METAL_UNWATCHED uint matrix_column(uint lane) { return (lane / 4 & 2) * 2 + (lane % 2) * 2; }

template <class T, int COLUMNS, int ROWS> struct simdgroup_matrix {
  static_assert(COLUMNS == 8 && ROWS == 8, "simdgroup_matrix: Metal has 8 by 8 only");
  vec<T, 2> mine;
  simdgroup_matrix() = default;
  METAL_INLINE explicit simdgroup_matrix(T diagonal) {
    uint lane = emulator::context()->lane, row = matrix_row(lane), column = matrix_column(lane);
    mine = vec<T, 2>(row == column ? diagonal : T(0), row == column + 1 ? diagonal : T(0));
  }
  METAL_INLINE vec<T, 2>& thread_elements() { return mine; }
  METAL_INLINE const vec<T, 2>& thread_elements() const { return mine; }
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;

template <class T, int C, int R = C> METAL_INLINE simdgroup_matrix<T, C, R> make_filled_simdgroup_matrix(T value) {
  simdgroup_matrix<T, C, R> m;
  m.mine = vec<T, 2>(value);
  return m;
}

struct Meet { template <class T> static METAL_UNWATCHED void run(Lanes<T>) {} };
template <uint SITE> METAL_INLINE METAL_UNWATCHED void meet() { collect<SITE>(uint(0), each_group<uint, Meet, 32>, SIMD); }

template <class T, uint SITE>
METAL_INLINE void simdgroup_load_at(simdgroup_matrix<T, 8, 8>& m, const T* from, ulong stride, vec<ulong, 2> origin, bool transpose, site<SITE>) {
  meet<SITE>();
  uint lane = emulator::context()->lane, row = matrix_row(lane), column = matrix_column(lane);
  from += origin.y * stride + origin.x;
  T first = transpose ? from[column * stride + row] : from[row * stride + column];
  T second = transpose ? from[(column + 1) * stride + row] : from[row * stride + column + 1];
  m.mine = vec<T, 2>(first, second);
}
template <class T, uint SITE>
METAL_INLINE void simdgroup_store_at(simdgroup_matrix<T, 8, 8> m, T* to, ulong stride, vec<ulong, 2> origin, bool transpose, site<SITE>) {
  meet<SITE>();
  uint lane = emulator::context()->lane, row = matrix_row(lane), column = matrix_column(lane);
  to += origin.y * stride + origin.x;
  to[transpose ? column * stride + row : row * stride + column] = m.mine.x;
  to[transpose ? (column + 1) * stride + row : row * stride + column + 1] = m.mine.y;
}
// Metal's default arguments, each in front of the site.
#define METAL_MATRIX_COPY(NAME, MATRIX, POINTER)                                                                        \
  template <class T, uint SITE> METAL_INLINE void NAME(MATRIX m, POINTER p, site<SITE> at) { NAME##_at(m, p, 8, vec<ulong, 2>(0ul), false, at); } \
  template <class T, uint SITE> METAL_INLINE void NAME(MATRIX m, POINTER p, ulong stride, site<SITE> at) { NAME##_at(m, p, stride, vec<ulong, 2>(0ul), false, at); } \
  template <class T, class I, uint SITE> METAL_INLINE void NAME(MATRIX m, POINTER p, ulong stride, vec<I, 2> origin, site<SITE> at) { NAME##_at(m, p, stride, vec<ulong, 2>(origin), false, at); } \
  template <class T, class I, uint SITE> METAL_INLINE void NAME(MATRIX m, POINTER p, ulong stride, vec<I, 2> origin, bool transpose, site<SITE> at) { NAME##_at(m, p, stride, vec<ulong, 2>(origin), transpose, at); } \
  template <class T, uint SITE> METAL_INLINE void NAME(MATRIX m, POINTER p, ulong stride, int, bool transpose, site<SITE> at) { NAME##_at(m, p, stride, vec<ulong, 2>(0ul), transpose, at); }
#define METAL_MATRIX simdgroup_matrix<T, 8, 8>
METAL_MATRIX_COPY(simdgroup_load, METAL_MATRIX&, const T*)
METAL_MATRIX_COPY(simdgroup_store, METAL_MATRIX, T*)
#undef METAL_MATRIX
#undef METAL_MATRIX_COPY

// D = A B + C, accumulated in float in the order of the inner index, rounded once to D's type.
template <class D, class A, class B, class C> struct MatrixOperand {
  D* d;
  vec<A, 2> a;
  vec<B, 2> b;
  vec<C, 2> c;
};
template <class D, class A, class B, class C> METAL_UNWATCHED void matrix_multiply(void* const* operands, uint present) {
  typedef MatrixOperand<D, A, B, C> Mine;
  float a[8][8] = {}, b[8][8] = {};
  for (uint lane = 0; lane < 32; ++lane)
    if (present >> lane & 1u) {
      Mine& m = *(Mine*)operands[lane];
      uint row = matrix_row(lane), column = matrix_column(lane);
      a[row][column] = float(m.a.x), a[row][column + 1] = float(m.a.y);
      b[row][column] = float(m.b.x), b[row][column + 1] = float(m.b.y);
    }
  for (uint lane = 0; lane < 32; ++lane)
    if (present >> lane & 1u) {
      Mine& m = *(Mine*)operands[lane];
      uint row = matrix_row(lane), column = matrix_column(lane);
      float x = float(m.c.x), y = float(m.c.y);
      for (uint k = 0; k < 8; ++k) x += a[row][k] * b[k][column], y += a[row][k] * b[k][column + 1];
      m.d[0] = D(x), m.d[1] = D(y);
    }
}
template <class D, class A, class B, class C, uint SITE>
METAL_INLINE METAL_UNWATCHED void simdgroup_multiply_accumulate(
    simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a, simdgroup_matrix<B, 8, 8> b, simdgroup_matrix<C, 8, 8> c, site<SITE>) {
  D result[2];
  MatrixOperand<D, A, B, C> mine{result, a.mine, b.mine, c.mine};
  emulator::Context* context = emulator::context();
  __tsan_write_range(result, sizeof result);
  context->collective(context, &mine, matrix_multiply<D, A, B, C>, distinct<SITE>(), SIMD);
  d.mine = vec<D, 2>(result[0], result[1]);
}
template <class D, class A, class B, uint SITE>
METAL_INLINE void simdgroup_multiply(simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a, simdgroup_matrix<B, 8, 8> b, site<SITE> at) {
  simdgroup_matrix<D, 8, 8> zero;
  zero.mine = vec<D, 2>(D(0));
  simdgroup_multiply_accumulate(d, a, b, zero, at);
}

// ---- tile -----------------------------------------------------------------------------------------------------------

// The tile has 16 by 16 elements, eight for each lane; only `tile_for_each` knows where they lie.
template <class T, int ROWS, int COLUMNS> struct tile {
  static_assert(ROWS == 16 && COLUMNS == 16, "tile: 16 by 16 only");
  static constexpr int elements = 8;
  T at[elements];
  tile() = default;
  METAL_INLINE explicit tile(T value) { for (int i = 0; i < elements; ++i) at[i] = value; }
  METAL_INLINE static ushort row(int i) { return ushort(i / 4 * 8 + matrix_row(emulator::context()->lane)); }
  METAL_INLINE static ushort column(int i) { return ushort(i / 2 % 2 * 8 + matrix_column(emulator::context()->lane) + i % 2); }
};

#define METAL_SPACELESS_LOAD(NAME, INDEX)                                                                            \
  template <class T, class U, uint SITE>                                                                             \
  METAL_INLINE void NAME(tile<T, 16, 16>& t, const U* from, uint row_stride, site<SITE>) {                           \
    meet<SITE>();                                                                                                    \
    for (int i = 0; i < 8; ++i) t.at[i] = T(from[INDEX]);                                                            \
  }
METAL_SPACELESS_LOAD(tile_load, t.row(i) * row_stride + t.column(i))
METAL_SPACELESS_LOAD(tile_load_transposed, t.column(i) * row_stride + t.row(i))

// A right factor is the same matrix in the layout that the target multiplies fastest. Only products read it.
template <class T, int ROWS, int COLUMNS> struct right_tile {
  tile<T, ROWS, COLUMNS> whole;
};
METAL_SPACELESS_LOAD(tile_load_into_right, t.row(i) * row_stride + t.column(i))
METAL_SPACELESS_LOAD(tile_load_into_right_transposed, t.column(i) * row_stride + t.row(i))
#undef METAL_SPACELESS_LOAD
template <class T, class U, uint SITE>
METAL_INLINE void tile_load_right(right_tile<T, 16, 16>& t, const U* from, uint row_stride, site<SITE> at) {
  tile_load_into_right(t.whole, from, row_stride, at);
}
template <class T, class U, uint SITE>
METAL_INLINE void tile_load_right_transposed(right_tile<T, 16, 16>& t, const U* from, uint row_stride, site<SITE> at) {
  tile_load_into_right_transposed(t.whole, from, row_stride, at);
}
template <class T, class U, uint SITE>
METAL_INLINE void tile_store(tile<T, 16, 16> t, U* to, uint row_stride, site<SITE>) {
  meet<SITE>();
  for (int i = 0; i < 8; ++i) to[t.row(i) * row_stride + t.column(i)] = U(t.at[i]);
}

// With pointers to pairs, each row begins at a whole pair; strides count pairs.
template <class T, class U, uint SITE>
METAL_INLINE void tile_load(tile<T, 16, 16>& t, const vec<U, 2>* from, uint row_stride, site<SITE> at) {
  tile_load(t, (const U*)from, 2 * row_stride, at);
}
template <class T, class U, uint SITE>
METAL_INLINE void tile_load_right_transposed(right_tile<T, 16, 16>& t, const vec<U, 2>* from, uint row_stride, site<SITE> at) {
  tile_load_right_transposed(t, (const U*)from, 2 * row_stride, at);
}
template <class T, class U, uint SITE>
METAL_INLINE void tile_store(tile<T, 16, 16> t, vec<U, 2>* to, uint row_stride, site<SITE> at) {
  tile_store(t, (U*)to, 2 * row_stride, at);
}

METAL_INLINE METAL_UNWATCHED uint tile_element_row(uint lane, int i) { return uint(i / 4 * 8) + matrix_row(lane); }
METAL_INLINE METAL_UNWATCHED uint tile_element_column(uint lane, int i) { return uint(i / 2 % 2 * 8 + i % 2) + matrix_column(lane); }

template <class D, class A, class B> struct TileOperand {
  D* d;
  const A* a;
  const B* b;
};
template <class D, class A, class B> METAL_UNWATCHED void tile_multiply(void* const* operands, uint present) {
  typedef TileOperand<D, A, B> Mine;
  float a[16][16] = {}, b[16][16] = {};
  for (uint lane = 0; lane < 32; ++lane)
    if (present >> lane & 1u)
      for (int i = 0; i < 8; ++i) {
        Mine& m = *(Mine*)operands[lane];
        a[tile_element_row(lane, i)][tile_element_column(lane, i)] = float(m.a[i]);
        b[tile_element_row(lane, i)][tile_element_column(lane, i)] = float(m.b[i]);
      }
  for (uint lane = 0; lane < 32; ++lane)
    if (present >> lane & 1u)
      for (int i = 0; i < 8; ++i) {
        Mine& m = *(Mine*)operands[lane];
        uint row = tile_element_row(lane, i), column = tile_element_column(lane, i);
        float sum = float(m.d[i]);
        for (uint k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
        m.d[i] = D(sum);
      }
}
// d += a b
template <class D, class A, class B, uint SITE>
METAL_INLINE METAL_UNWATCHED void tile_multiply_accumulate(tile<D, 16, 16>& d, const tile<A, 16, 16>& a, const tile<B, 16, 16>& b, site<SITE>) {
  TileOperand<D, A, B> mine{d.at, a.at, b.at};
  __tsan_read_range((void*)&a, sizeof a), __tsan_read_range((void*)&b, sizeof b), __tsan_read_range(&d, sizeof d);
  emulator::Context* c = emulator::context();
  c->collective(c, &mine, tile_multiply<D, A, B>, distinct<SITE>(), SIMD);
}

// d += a b, element by element.
template <class D, class A, class B>
METAL_INLINE void tile_multiply_accumulate_elements(tile<D, 16, 16>& d, const tile<A, 16, 16>& a, const tile<B, 16, 16>& b) {
  for (int i = 0; i < 8; ++i) d.at[i] = D(float(d.at[i]) + float(a.at[i]) * float(b.at[i]));
}

template <class T> struct TransposeOperand {
  const T* from;
  T* to;
};
template <class T> METAL_UNWATCHED void transpose_tile(void* const* operands, uint present) {
  T whole[16][16];
  __builtin_memset(whole, 0xff, sizeof whole);
  for (uint lane = 0; lane < 32; ++lane)
    if (present >> lane & 1u)
      for (int i = 0; i < 8; ++i)
        whole[tile_element_row(lane, i)][tile_element_column(lane, i)] = ((TransposeOperand<T>*)operands[lane])->from[i];
  for (uint lane = 0; lane < 32; ++lane)
    if (present >> lane & 1u)
      for (int i = 0; i < 8; ++i)
        ((TransposeOperand<T>*)operands[lane])->to[i] = whole[tile_element_column(lane, i)][tile_element_row(lane, i)];
}
template <class T, uint SITE> METAL_INLINE METAL_UNWATCHED tile<T, 16, 16> tile_transpose(const tile<T, 16, 16>& t, site<SITE>) {
  tile<T, 16, 16> result;
  TransposeOperand<T> mine{t.at, result.at};
  __tsan_write_range(&result, sizeof result), __tsan_read_range((void*)&t, sizeof t);
  emulator::Context* c = emulator::context();
  c->collective(c, &mine, transpose_tile<T>, distinct<SITE>(), SIMD);
  return result;
}

template <class T, uint SITE> METAL_INLINE right_tile<T, 16, 16> tile_as_right(const tile<T, 16, 16>& t, site<SITE>) {
  meet<SITE>();
  return right_tile<T, 16, 16>{t};
}
template <class T, uint SITE> METAL_INLINE right_tile<T, 16, 16> tile_as_right_transposed(const tile<T, 16, 16>& t, site<SITE> at) {
  return right_tile<T, 16, 16>{tile_transpose(t, at)};
}
template <class D, class A, class B, uint SITE>
METAL_INLINE METAL_UNWATCHED void tile_multiply_accumulate(tile<D, 16, 16>& d, const tile<A, 16, 16>& a, const right_tile<B, 16, 16>& b, site<SITE> at) {
  tile_multiply_accumulate(d, a, b.whole, at);
}
template <uint SITE>
METAL_INLINE METAL_UNWATCHED void tile_multiply_accumulate_sixteen_bits(
    tile<float, 16, 16>& d, const tile<float, 16, 16>& a, const right_tile<float, 16, 16>& b, site<SITE> at) {
  tile_multiply_accumulate(d, a, b.whole, at);
}

template <class U, class T> METAL_INLINE tile<U, 16, 16> tile_cast(const tile<T, 16, 16>& t) {
  tile<U, 16, 16> result;
  for (int i = 0; i < 8; ++i) result.at[i] = U(t.at[i]);
  return result;
}

// Holds one value for each row, in each lane that holds a part of it: `at[i]` is that of `row(i)`.
template <class T> struct tile_rows {
  T at[2];
  tile_rows() = default;
  METAL_INLINE explicit tile_rows(T value) { at[0] = at[1] = value; }
  METAL_INLINE static ushort row(int i) { return tile<T, 16, 16>::row(4 * i); }
};
METAL_INLINE int tile_row_of(int element) { return element / 4; }
struct RowSum { template <class T> static T of(T a, T b) { return T(a + b); } };
struct RowMax { template <class T> static T of(T a, T b) { return a > b ? a : b; } };
// The sum has the order of Metal's text: first the four elements of each lane, then the lanes whose numbers differ in the
// first bit, then those that differ in the fourth.
template <class T, class F> METAL_UNWATCHED void reduce_rows(void* const* operands, uint present) {
  typedef TransposeOperand<T> Mine;
  T part[16][4];
  bool begun[16][4] = {};
  auto add = [](T& sum, bool& there, T value) METAL_UNWATCHED {
    sum = there ? F::of(sum, value) : value;
    there = true;
  };
  for (uint lane = 0; lane < 32; ++lane)
    if (present >> lane & 1u)
      for (int i = 0; i < 8; ++i) {
        uint row = tile_element_row(lane, i), of_lane = (lane & 1u) | (lane >> 2 & 2u);
        add(part[row][of_lane], begun[row][of_lane], ((Mine*)operands[lane])->from[i]);
      }
  for (uint row = 0; row < 16; ++row)
    for (uint step = 1; step < 4; ++step) {
      uint to = step == 2 ? 2 : 0, from = step == 1 ? 1 : step == 2 ? 3 : 2;
      if (begun[row][from]) add(part[row][to], begun[row][to], part[row][from]);
    }
  for (uint lane = 0; lane < 32; ++lane)
    if (present >> lane & 1u)
      for (int i = 0; i < 2; ++i) ((Mine*)operands[lane])->to[i] = part[tile_element_row(lane, 4 * i)][0];
}
#define METAL_ROWS(NAME, F)                                                                                          \
  template <class T, uint SITE> METAL_INLINE METAL_UNWATCHED tile_rows<T> NAME(const tile<T, 16, 16>& t, site<SITE>) {  \
    tile_rows<T> result;                                                                                             \
    TransposeOperand<T> mine{t.at, result.at};                                                                       \
    __tsan_write_range(&result, sizeof result), __tsan_read_range((void*)&t, sizeof t);                              \
    emulator::Context* c = emulator::context();                                                                      \
    c->collective(c, &mine, reduce_rows<T, F>, distinct<SITE>(), SIMD);                                              \
    return result;                                                                                                   \
  }
METAL_ROWS(tile_row_sum, RowSum)
METAL_ROWS(tile_row_max, RowMax)
#undef METAL_ROWS

// Copies `columns` of `rows` rows, with zeros from row `valid` on. `threads` threads take part, of which this is number
// `index`. The elements are there behind the next `threadgroup_barrier`.
template <class T>
METAL_INLINE void tile_copy_rows(
    T* to, uint to_stride, const T* from, uint from_stride, uint rows, uint columns, uint valid, uint index, uint threads) {
  for (uint i = index; i < rows * columns; i += threads) {
    uint row = i / columns, column = i % columns;
    to[row * to_stride + column] = row < valid ? from[row * from_stride + column] : T(0.0f);
  }
}

// A hint that rows of elements will soon be read.
template <class T> METAL_INLINE void tile_prefetch_rows(const T*, uint, uint, uint, uint, uint) {}

} // namespace metal

// `tile_for_each(t, row, column, value) { … }` runs once for each element that this lane holds, and stores what `value`
// is at the end. `continue` goes to the next element; `break` must not be used.
#define tile_for_each(TILE, ROW, COLUMN, VALUE)                                                            \
  for (int element_ = 0; element_ < 8; ++element_)                                                         \
    for (bool once_ = true; once_;)                                                                        \
      for (const ushort ROW = (TILE).row(element_), COLUMN = (TILE).column(element_); once_;)              \
        for (auto VALUE = (TILE).at[element_]; once_; (TILE).at[element_] = VALUE, once_ = false)
// Does the same with `of_row`, the row's value in `rows`, beside each element.
#define tile_with_rows(TILE, ROWS, ROW, COLUMN, VALUE, OF_ROW)                                             \
  for (int element_ = 0; element_ < 8; ++element_)                                                         \
    for (bool once_ = true; once_;)                                                                        \
      for (const ushort ROW = (TILE).row(element_), COLUMN = (TILE).column(element_); once_;)              \
        for (const auto OF_ROW = (ROWS).at[metal::tile_row_of(element_)]; once_;)                          \
          for (auto VALUE = (TILE).at[element_]; once_; (TILE).at[element_] = VALUE, once_ = false)
