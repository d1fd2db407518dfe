// Metal's functions in C++ for OpenCL, as Apple's compiler has them: calls of the functions of AIR, or a few operations. What
// has no definition here is declared in `check.h`, and refused by its name where compiled code is lowered.
#pragma once
#include "check.h"

// Functions of AIR, and `own.*`, which take a matrix's two elements of a lane from memory.
namespace air {
#define AIR_ONE(N) float N(float) __asm__("air." #N ".f32");
AIR_ONE(exp) AIR_ONE(exp2) AIR_ONE(log) AIR_ONE(log2) AIR_ONE(log10) AIR_ONE(sqrt) AIR_ONE(rsqrt) AIR_ONE(sin) AIR_ONE(cos)
AIR_ONE(tan) AIR_ONE(asin) AIR_ONE(acos) AIR_ONE(atan) AIR_ONE(sinh) AIR_ONE(cosh) AIR_ONE(tanh) AIR_ONE(asinh) AIR_ONE(acosh)
AIR_ONE(atanh) AIR_ONE(ceil) AIR_ONE(floor) AIR_ONE(trunc) AIR_ONE(rint) AIR_ONE(round) AIR_ONE(fabs)
#define AIR_TWO(N) float N(float, float) __asm__("air." #N ".f32");
AIR_TWO(pow) AIR_TWO(atan2) AIR_TWO(fmod) AIR_TWO(fmin) AIR_TWO(fmax)
float fma(float, float, float) __asm__("air.fma.f32");
float ldexp(float, int) __asm__("air.ldexp.f32");

#define AIR_REDUCTION(N, T, NAME) T N(T) __asm__("air.simd_" #N "." NAME);
#define AIR_MOVE(N, T, NAME) T N(T, ushort) __asm__("air.simd_" #N "." NAME);
#define AIR_OF_LANES(T, NAME)                                                                                        \
  AIR_REDUCTION(sum, T, NAME) AIR_REDUCTION(product, T, NAME) AIR_REDUCTION(min, T, NAME) AIR_REDUCTION(max, T, NAME) \
  AIR_REDUCTION(prefix_inclusive_sum, T, NAME) AIR_REDUCTION(prefix_exclusive_sum, T, NAME)                          \
  AIR_REDUCTION(prefix_inclusive_product, T, NAME) AIR_REDUCTION(prefix_exclusive_product, T, NAME)                  \
  AIR_MOVE(shuffle, T, NAME) AIR_MOVE(shuffle_xor, T, NAME) AIR_MOVE(shuffle_up, T, NAME) AIR_MOVE(shuffle_down, T, NAME)
AIR_OF_LANES(float, "f32") AIR_OF_LANES(half, "f16") AIR_OF_LANES(char, "s.i8") AIR_OF_LANES(short, "s.i16")
AIR_OF_LANES(int, "s.i32") AIR_OF_LANES(uchar, "u.i8") AIR_OF_LANES(ushort, "u.i16") AIR_OF_LANES(uint, "u.i32")
bool any(bool) __asm__("air.simd_any");
bool all(bool) __asm__("air.simd_all");
void threadgroup_barrier(uint, uint) __asm__("air.wg.barrier");
void simdgroup_barrier(uint, uint) __asm__("air.simdgroup.barrier");

#define AIR_MATRIX(S, SPACE)                                                                                          \
  void matrix_load(const S void*, ulong, ulong, ulong, uint, uint, void*) __asm__("air.own.matrix_load." SPACE); \
  void matrix_store(S void*, ulong, ulong, ulong, uint, uint, const void*) __asm__("air.own.matrix_store." SPACE);
AIR_MATRIX(device, "device") AIR_MATRIX(threadgroup, "threadgroup")
void matrix_multiply(uint, uint, const void*, const void*, const void*, void*) __asm__("air.own.matrix_multiply");
} // namespace air

#define METAL_INLINE inline __attribute__((always_inline))

namespace metal {

template <class To> METAL_INLINE read_through<To> cast_to<To>::operator*() const { return {}; }
template <class To, class From> METAL_INLINE enable_if_t<space<To>::value == space<From*>::value, To> operator%(cast_to<To>, From* p) {
  return (To)p;
}
template <class To, class From>
METAL_INLINE auto operator%(read_through<To>, From* p) -> enable_if_t<space<To>::value == space<From*>::value, decltype(*To())> {
  return *(To)p;
}

#define METAL_EACH(N, EXPRESSION)              \
  for (int i = 0; i < N; ++i) r[i] = EXPRESSION; \
  return r;
#define METAL_PLAIN1(NAME, EXPRESSION)                                              \
  METAL_INLINE float NAME(float x) { return EXPRESSION; }                           \
  template <int K> METAL_INLINE vec<float, K> NAME(vec<float, K> x) { vec<float, K> r; METAL_EACH(K, NAME(x[i])) }
#define METAL_PLAIN2(NAME, EXPRESSION)                                              \
  METAL_INLINE float NAME(float x, float y) { return EXPRESSION; }                  \
  template <int K> METAL_INLINE vec<float, K> NAME(vec<float, K> x, vec<float, K> y) { vec<float, K> r; METAL_EACH(K, NAME(x[i], y[i])) }
#define METAL_SMALL1(NAME, EXPRESSION)                                              \
  METAL_PLAIN1(NAME, EXPRESSION)                                                    \
  METAL_INLINE half NAME(half x) { return half(NAME(float(x))); }                   \
  METAL_INLINE bfloat NAME(bfloat x) { return bfloat(NAME(float(x))); }             \
  template <int K> METAL_INLINE vec<half, K> NAME(vec<half, K> x) { vec<half, K> r; METAL_EACH(K, NAME(x[i])) }
#define METAL_SMALL2(NAME, EXPRESSION)                                              \
  METAL_PLAIN2(NAME, EXPRESSION)                                                    \
  METAL_INLINE half NAME(half x, half y) { return half(NAME(float(x), float(y))); } \
  METAL_INLINE bfloat NAME(bfloat x, bfloat y) { return bfloat(NAME(float(x), float(y))); }
// The formulas are those of the emulator.
#define METAL_FLOAT_FUNCTIONS(ONE, TWO)                                                                               \
  ONE(exp, air::exp(x)) ONE(exp2, air::exp2(x)) ONE(log, air::log(x)) ONE(log2, air::log2(x)) ONE(log10, air::log10(x)) \
  ONE(sqrt, air::sqrt(x)) ONE(rsqrt, air::rsqrt(x)) ONE(sin, air::sin(x)) ONE(cos, air::cos(x)) ONE(tan, air::tan(x))  \
  ONE(asin, air::asin(x)) ONE(acos, air::acos(x)) ONE(atan, air::atan(x)) ONE(sinh, air::sinh(x)) ONE(cosh, air::cosh(x)) \
  ONE(tanh, air::tanh(x)) ONE(asinh, air::asinh(x)) ONE(acosh, air::acosh(x)) ONE(atanh, air::atanh(x))               \
  ONE(ceil, air::ceil(x)) ONE(floor, air::floor(x)) ONE(trunc, air::trunc(x)) ONE(rint, air::rint(x))                 \
  ONE(round, air::round(x)) ONE(fabs, air::fabs(x)) ONE(exp10, air::pow(10.0f, x))                                    \
  ONE(sign, x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x == 0.0f ? x : 0.0f)                                                \
  ONE(fract, air::fmin(x - air::floor(x), 0.99999994f))                                                               \
  ONE(sinpi, air::sin(x * 3.14159274f)) ONE(cospi, air::cos(x * 3.14159274f)) ONE(tanpi, air::tan(x * 3.14159274f))   \
  ONE(saturate, x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f)                                                              \
  TWO(pow, air::pow(x, y)) TWO(powr, air::pow(x, y)) TWO(atan2, air::atan2(x, y)) TWO(fmod, air::fmod(x, y))          \
  TWO(fmin, air::fmin(x, y)) TWO(fmax, air::fmax(x, y)) TWO(divide, x / y) TWO(step, y < x ? 0.0f : 1.0f)
METAL_FLOAT_FUNCTIONS(METAL_SMALL1, METAL_SMALL2)
namespace precise { METAL_FLOAT_FUNCTIONS(METAL_PLAIN1, METAL_PLAIN2) }
namespace fast { METAL_FLOAT_FUNCTIONS(METAL_PLAIN1, METAL_PLAIN2) }
METAL_INLINE float fma(float a, float b, float c) { return air::fma(a, b, c); }
METAL_INLINE float mad(float a, float b, float c) { return a * b + c; }
METAL_INLINE float ldexp(float x, int by) { return air::ldexp(x, by); }

METAL_INLINE bool isnan(float x) { return x != x; }
METAL_INLINE bool isinf(float x) { return air::fabs(x) == __builtin_inff(); }
METAL_INLINE bool isfinite(float x) { return air::fabs(x) < __builtin_inff(); }
METAL_INLINE float log1p(float x) {
  float one = 1.0f + x;
  if (isinf(one)) return one;
  return one == 1.0f ? x : x * (log(one) / (one - 1.0f));
}
METAL_INLINE bfloat log1p(bfloat x) { return bfloat(log1p(float(x))); }

template <class T> METAL_INLINE T min(T a, T b) {
  if constexpr (is_scalar_v<T>) return b < a || !(a == a) ? b : a;
  else { T r = a; for (int i = 0; i < width<T>::value; ++i) r[i] = min(a[i] + 0, b[i] + 0); return r; }
}
template <class T> METAL_INLINE T max(T a, T b) {
  if constexpr (is_scalar_v<T>) return a < b || !(a == a) ? b : a;
  else { T r = a; for (int i = 0; i < width<T>::value; ++i) r[i] = max(a[i] + 0, b[i] + 0); return r; }
}
template <class T> METAL_INLINE T min3(T a, T b, T c) { return min(a, min(b, c)); }
template <class T> METAL_INLINE T max3(T a, T b, T c) { return max(a, max(b, c)); }
template <class T> METAL_INLINE T clamp(T x, type_identity_t<T> low, type_identity_t<T> high) { return min(max(x, low), high); }
template <class T> METAL_INLINE T abs(T x) {
  if constexpr (is_floating_point_v<T>) return fabs(x);
  else return x < T(0) ? T(-x) : x;
}
template <class T> METAL_INLINE T absdiff(T a, T b) { return a < b ? T(b - a) : T(a - b); }
template <class T> METAL_INLINE T mix(T a, T b, type_identity_t<T> t) { return a + (b - a) * t; }
template <class T> METAL_INLINE T select(T a, T b, bool c) { return c ? b : a; }
template <class T, int K> METAL_INLINE T dot(vec<T, K> a, vec<T, K> b) {
  T sum = a[0] * b[0];
  for (int i = 1; i < K; ++i) sum = sum + a[i] * b[i];
  return sum;
}
template <class T> METAL_INLINE T popcount(T x) { return T(__builtin_popcountg((ulong)x)); }

// Reductions of `bfloat` are computed in float and rounded once, as MLX overloads them.
#define METAL_OF_LANES(N)                                                            \
  template <class T> METAL_INLINE T simd_##N(T x) {                                  \
    if constexpr (is_same_v<T, bfloat>) return T(air::N(float(x)));                  \
    else return air::N(x);                                                           \
  }
METAL_OF_LANES(sum) METAL_OF_LANES(product) METAL_OF_LANES(min) METAL_OF_LANES(max) METAL_OF_LANES(prefix_inclusive_sum)
METAL_OF_LANES(prefix_exclusive_sum) METAL_OF_LANES(prefix_inclusive_product) METAL_OF_LANES(prefix_exclusive_product)
#define METAL_MOVE(N)                                                                                                 \
  template <class T> METAL_INLINE T simd_##N(T x, ushort by) {                                                       \
    if constexpr (is_same_v<T, bfloat>) return as_type<T>(air::N(as_type<ushort>(x), by));                           \
    else return air::N(x, by);                                                                                       \
  }
METAL_MOVE(shuffle) METAL_MOVE(shuffle_xor) METAL_MOVE(shuffle_up) METAL_MOVE(shuffle_down)
template <class T> METAL_INLINE T simd_broadcast(T x, ushort from) { return simd_shuffle(x, from); }
METAL_INLINE bool simd_any(bool x) { return air::any(x); }
METAL_INLINE bool simd_all(bool x) { return air::all(x); }
METAL_INLINE void threadgroup_barrier(mem_flags flags) { air::threadgroup_barrier(uint(flags), 1u); }
METAL_INLINE void simdgroup_barrier(mem_flags flags) { air::simdgroup_barrier(uint(flags), 4u); }

template <class T, int C, int R> METAL_INLINE vec<T, 2>& simdgroup_matrix<T, C, R>::thread_elements() { return elements; }
template <class T, int C, int R> METAL_INLINE simdgroup_matrix<T, C, R> make_filled_simdgroup_matrix(T value) {
  simdgroup_matrix<T, C, R> m;
  m.elements = value;
  return m;
}
#define METAL_MATRIX_COPIES(S)                                                                                        \
  template <class T>                                                                                                 \
  METAL_INLINE void simdgroup_load(simdgroup_matrix<T, 8, 8>& m, const S T* from, ulong stride, vec<ulong, 2> origin, bool transposed) { \
    air::matrix_load(from, stride, origin[0], origin[1], transposed, sizeof(T), &m.elements);                         \
  }                                                                                                                  \
  template <class T>                                                                                                 \
  METAL_INLINE void simdgroup_store(simdgroup_matrix<T, 8, 8> m, S T* to, ulong stride, vec<ulong, 2> origin, bool transposed) { \
    air::matrix_store(to, stride, origin[0], origin[1], transposed, sizeof(T), &m.elements);                          \
  }
METAL_SPACES(METAL_MATRIX_COPIES)
// Numbers agree with `Type` of the functions that run them.
template <class T> struct number { static constexpr constant uint value = 0; };
template <> struct number<half> { static constexpr constant uint value = 1; };
template <> struct number<bfloat> { static constexpr constant uint value = 2; };
// The bits of two elements, each in 32.
template <class T> METAL_INLINE vec<uint, 2> matrix_bits(vec<T, 2> v) {
  vec<uint, 2> r;
  if constexpr (sizeof(T) == 4) { METAL_EACH(2, as_type<uint>(T(v[i]))) }
  else { METAL_EACH(2, as_type<ushort>(T(v[i]))) }
}
template <class D, class A, class B, class C>
METAL_INLINE void simdgroup_multiply_accumulate(
    simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a, simdgroup_matrix<B, 8, 8> b, simdgroup_matrix<C, 8, 8> c) {
  vec<uint, 2> left = matrix_bits(a.elements), right = matrix_bits(b.elements);
  vec<float, 2> before, after;
  before[0] = float(c.elements[0]), before[1] = float(c.elements[1]);
  air::matrix_multiply(number<A>::value, number<B>::value, &left, &right, &before, &after);
  d.elements[0] = D(after[0]), d.elements[1] = D(after[1]);
}
template <class D, class A, class B>
METAL_INLINE void simdgroup_multiply(simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a, simdgroup_matrix<B, 8, 8> b) {
  simdgroup_multiply_accumulate(d, a, b, make_filled_simdgroup_matrix<D, 8, 8>(D(0)));
}
} // namespace metal

template <class I> METAL_INLINE I elem_to_loc(I element, const constant int* shape, const constant long* strides, int ndim) {
  I offset = 0;
  for (int axis = ndim - 1; axis >= 0; --axis) {
    offset += I(element % shape[axis]) * I(strides[axis]);
    element /= shape[axis];
  }
  return offset;
}
template <class T, class U> METAL_INLINE T ceildiv(T n, U by) { return (n + by - 1) / by; }
