// Metal's math library, shared by the host and the CUDA build. `METAL_LIBM(f)` names the C library's function.
// `METAL_RSQRT(x)` is 1 / sqrt(x), which CUDA has an instruction for.
// half and bfloat are computed in float and rounded once. `fast::` and `precise::` are the same functions, of float alone.

namespace metal {

// The bits of a float: all but the sign, those of infinity, those of the smallest normal number.
#ifdef METAL_DOUBLE
#define METAL_MAGNITUDE 0x7ffffffffffffffful
#define METAL_INFINITE 0x7ff0000000000000ul
#define METAL_NORMAL 0x0010000000000000ul
#define METAL_BITS(X) as_type<ulong>(X)
#else
#define METAL_MAGNITUDE 0x7fffffffu
#define METAL_INFINITE 0x7f800000u
#define METAL_NORMAL 0x00800000u
#define METAL_BITS(X) as_type<uint>(X)
#endif

#define METAL_LIFT(NAME)                                                                            \
  METAL_INLINE half NAME(half x) { return half(NAME(float(x))); }                                   \
  METAL_INLINE bfloat NAME(bfloat x) { return bfloat(NAME(float(x))); }                             \
  template <class T, int N> METAL_INLINE vec<T, N> NAME(vec<T, N> x) { vec<T, N> r; METAL_EACH(N, NAME(x[i])) }
#define METAL_LIFT2(NAME)                                                                           \
  METAL_INLINE half NAME(half x, half y) { return half(NAME(float(x), float(y))); }                 \
  METAL_INLINE bfloat NAME(bfloat x, bfloat y) { return bfloat(NAME(float(x), float(y))); }         \
  template <class T, int N> METAL_INLINE vec<T, N> NAME(vec<T, N> x, type_identity_t<vec<T, N>> y) { \
    vec<T, N> r; METAL_EACH(N, NAME(x[i], y[i]))                                                    \
  }
#define METAL_FLOAT(NAME, EXPRESSION) METAL_INLINE float NAME(float x) { return EXPRESSION; } METAL_LIFT(NAME)
#define METAL_FLOAT2(NAME, EXPRESSION) METAL_INLINE float NAME(float x, float y) { return EXPRESSION; } METAL_LIFT2(NAME)
#define METAL_LIBRARY(NAME) METAL_FLOAT(NAME, METAL_LIBM(NAME)(x))

#define METAL_FLOAT_FUNCTIONS                                                                                \
  METAL_LIBRARY(exp) METAL_LIBRARY(exp2) METAL_LIBRARY(log) METAL_LIBRARY(log2) METAL_LIBRARY(log10)         \
  METAL_LIBRARY(sqrt) METAL_LIBRARY(sin) METAL_LIBRARY(cos) METAL_LIBRARY(tan) METAL_LIBRARY(asin)           \
  METAL_LIBRARY(acos) METAL_LIBRARY(atan) METAL_LIBRARY(sinh) METAL_LIBRARY(cosh) METAL_LIBRARY(tanh)        \
  METAL_LIBRARY(asinh) METAL_LIBRARY(acosh) METAL_LIBRARY(atanh) METAL_LIBRARY(ceil) METAL_LIBRARY(floor)    \
  METAL_LIBRARY(trunc) METAL_LIBRARY(rint) METAL_LIBRARY(round)                                              \
  METAL_FLOAT(fabs, as_type<float>(METAL_BITS(x) & METAL_MAGNITUDE))                                         \
  METAL_FLOAT(exp10, METAL_LIBM(pow)(10.0f, x))                                                              \
  METAL_FLOAT(rsqrt, METAL_RSQRT(x))                                                                         \
  METAL_FLOAT(sinpi, METAL_LIBM(sin)(x * 3.14159274f))                                                       \
  METAL_FLOAT(cospi, METAL_LIBM(cos)(x * 3.14159274f))                                                       \
  METAL_FLOAT(tanpi, METAL_LIBM(tan)(x * 3.14159274f))                                                       \
  METAL_FLOAT(sign, x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x == 0.0f ? x : 0.0f)                               \
  METAL_FLOAT(saturate, x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f)                                             \
  METAL_FLOAT(fract, METAL_LIBM(fmin)(x - METAL_LIBM(floor)(x), 0.99999994f))                                \
  METAL_FLOAT2(pow, METAL_LIBM(pow)(x, y))                                                                   \
  METAL_FLOAT2(powr, METAL_LIBM(pow)(x, y))                                                                  \
  METAL_FLOAT2(atan2, METAL_LIBM(atan2)(x, y))                                                               \
  METAL_FLOAT2(fmod, METAL_LIBM(fmod)(x, y))                                                                 \
  METAL_FLOAT2(divide, x / y)                                                                                \
  METAL_FLOAT2(fdim, x > y ? x - y : (x <= y ? 0.0f : x + y))                                                \
  METAL_FLOAT2(step, y < x ? 0.0f : 1.0f)                                                                    \
  METAL_FLOAT2(copysign, as_type<float>((METAL_BITS(x) & METAL_MAGNITUDE) | (METAL_BITS(y) & ~METAL_MAGNITUDE))) \
  METAL_FLOAT2(fmin, y < x || x != x ? y : x)                                                                \
  METAL_FLOAT2(fmax, x < y || x != x ? y : x)

METAL_FLOAT_FUNCTIONS
// These take only floats: a half is converted, and the result is a float.
#undef METAL_LIFT
#undef METAL_LIFT2
#define METAL_LIFT(NAME) template <int N> METAL_INLINE vec<float, N> NAME(vec<float, N> x) { vec<float, N> r; METAL_EACH(N, NAME(x[i])) }
#define METAL_LIFT2(NAME)                                                                           \
  template <int N> METAL_INLINE vec<float, N> NAME(vec<float, N> x, type_identity_t<vec<float, N>> y) { \
    vec<float, N> r; METAL_EACH(N, NAME(x[i], y[i]))                                                \
  }
namespace precise { METAL_FLOAT_FUNCTIONS }
namespace fast { METAL_FLOAT_FUNCTIONS }
#undef METAL_LIBRARY
#undef METAL_FLOAT
#undef METAL_FLOAT2

METAL_INLINE float fma(float a, float b, float c) { return METAL_LIBM(fma)(a, b, c); }
METAL_INLINE half fma(half a, half b, half c) { return half(fma(float(a), float(b), float(c))); }
METAL_INLINE bfloat fma(bfloat a, bfloat b, bfloat c) { return bfloat(fma(float(a), float(b), float(c))); }
template <class T, int N> METAL_INLINE vec<T, N> fma(vec<T, N> a, vec<T, N> b, vec<T, N> c) {
  vec<T, N> r; METAL_EACH(N, fma(a[i], b[i], c[i]))
}
METAL_INLINE float mad(float a, float b, float c) { return a * b + c; }
METAL_INLINE float ldexp(float x, int k) { return METAL_LIBM(ldexp)(x, k); }
METAL_INLINE float sincos(float x, float& cosine) { cosine = cos(x); return sin(x); }

// ---- classification -------------------------------------------------------------------------------------------------

#define METAL_PREDICATE(NAME, EXPRESSION)                                                                   \
  METAL_INLINE bool NAME(float x) { return EXPRESSION; }                                                    \
  template <class T, int N> METAL_INLINE vec<bool, N> NAME(vec<T, N> x) { vec<bool, N> r; METAL_EACH(N, NAME(float(x[i]))) }
METAL_PREDICATE(isnan, (METAL_BITS(x) & METAL_MAGNITUDE) > METAL_INFINITE)
METAL_PREDICATE(isinf, (METAL_BITS(x) & METAL_MAGNITUDE) == METAL_INFINITE)
METAL_PREDICATE(isfinite, (METAL_BITS(x) & METAL_MAGNITUDE) < METAL_INFINITE)
METAL_PREDICATE(isnormal, isfinite(x) && (METAL_BITS(x) & METAL_MAGNITUDE) >= METAL_NORMAL)
METAL_PREDICATE(signbit, (METAL_BITS(x) & ~METAL_MAGNITUDE) != 0u)
#undef METAL_PREDICATE
template <int N> METAL_INLINE bool any(vec<bool, N> v) { for (int i = 0; i < N; ++i) if (v[i]) return true; return false; }
template <int N> METAL_INLINE bool all(vec<bool, N> v) { for (int i = 0; i < N; ++i) if (!v[i]) return false; return true; }
METAL_INLINE bool any(bool v) { return v; }
METAL_INLINE bool all(bool v) { return v; }

// ---- min, max, clamp, mix -------------------------------------------------------------------------------------------

// The minimum or maximum of a number and a NaN is the number.
template <class T> METAL_INLINE enable_if_t<is_scalar_v<T>, T> min(T a, T b) { return b < a || !(a == a) ? b : a; }
template <class T> METAL_INLINE enable_if_t<is_scalar_v<T>, T> max(T a, T b) { return a < b || !(a == a) ? b : a; }
template <class T, int N> METAL_INLINE vec<T, N> min(vec<T, N> a, type_identity_t<vec<T, N>> b) {
  vec<T, N> r; METAL_EACH(N, min(a[i], b[i]))
}
template <class T, int N> METAL_INLINE vec<T, N> max(vec<T, N> a, type_identity_t<vec<T, N>> b) {
  vec<T, N> r; METAL_EACH(N, max(a[i], b[i]))
}
template <class T> METAL_INLINE T min3(T a, T b, T c) { return min(a, min(b, c)); }
template <class T> METAL_INLINE T max3(T a, T b, T c) { return max(a, max(b, c)); }
template <class T> METAL_INLINE enable_if_t<is_scalar_v<T>, T> clamp(T x, type_identity_t<T> low, type_identity_t<T> high) {
  return min(max(x, low), high);
}
template <class T, int N>
METAL_INLINE vec<T, N> clamp(vec<T, N> x, type_identity_t<vec<T, N>> low, type_identity_t<vec<T, N>> high) {
  return min(max(x, low), high);
}
template <class T> METAL_INLINE enable_if_t<is_integral_v<T>, T> abs(T x) { return x < T(0) ? T(-x) : x; }
template <class T> METAL_INLINE enable_if_t<is_floating_point_v<T>, T> abs(T x) { return fabs(x); }
template <class T, int N> METAL_INLINE vec<T, N> abs(vec<T, N> x) { vec<T, N> r; METAL_EACH(N, abs(x[i])) }
template <class T> METAL_INLINE T absdiff(T a, T b) { return a < b ? T(b - a) : T(a - b); }
template <class T> METAL_INLINE enable_if_t<is_scalar_v<T>, T> mix(T a, T b, type_identity_t<T> t) { return T(a + T(T(b - a) * t)); }
template <class T> METAL_INLINE T select(T a, T b, bool c) { return c ? b : a; }
template <class T, int N> METAL_INLINE vec<T, N> select(vec<T, N> a, vec<T, N> b, vec<bool, N> c) {
  vec<T, N> r; METAL_EACH(N, c[i] ? b[i] : a[i])
}
template <class T, int N> METAL_INLINE vec<T, N> mix(vec<T, N> a, vec<T, N> b, type_identity_t<vec<T, N>> t) { return a + (b - a) * t; }
METAL_INLINE float smoothstep(float low, float high, float x) {
  float t = saturate((x - low) / (high - low));
  return t * t * (3.0f - 2.0f * t);
}

template <class T> METAL_INLINE T median3(T a, T b, T c) { return max(min(a, b), min(max(a, b), c)); }
#define METAL_ALIAS3(NAME, OF) template <class T> METAL_INLINE T NAME(T a, T b, T c) { return OF(a, b, c); }
METAL_ALIAS3(fmin3, min3) METAL_ALIAS3(fmax3, max3) METAL_ALIAS3(fmedian3, median3)
#undef METAL_ALIAS3
METAL_INLINE bool isordered(float a, float b) { return !isnan(a) && !isnan(b); }
METAL_INLINE bool isunordered(float a, float b) { return isnan(a) || isnan(b); }
template <class T, int N> METAL_INLINE vec<bool, N> isordered(vec<T, N> a, vec<T, N> b) { return !isnan(a) && !isnan(b); }
template <class T, int N> METAL_INLINE vec<bool, N> isunordered(vec<T, N> a, vec<T, N> b) { return isnan(a) || isnan(b); }
METAL_INLINE float modf(float x, float& whole) { whole = trunc(x); return copysign(isinf(x) ? 0.0f : x - whole, x); }
METAL_INLINE int ilogb(float x) { return int(floor(METAL_LIBM(log2)(fabs(x)))); }
#ifndef METAL_DOUBLE
METAL_INLINE float frexp(float x, int& exponent) {
  uint bits = as_type<uint>(x), magnitude = bits & 0x7fffffffu;
  if (magnitude == 0 || magnitude >= 0x7f800000u) return exponent = 0, x;
  int scaled = magnitude < 0x00800000u ? 24 : 0;
  if (scaled) bits = as_type<uint>(x * 16777216.0f);
  exponent = int((bits >> 23) & 255u) - 126 - scaled;
  return as_type<float>((bits & 0x807fffffu) | 0x3f000000u);
}
METAL_INLINE float nextafter(float x, float to) {
  if (isnan(x) || isnan(to)) return x + to;
  if (x == to) return to;
  if (x == 0.0f) return as_type<float>((as_type<uint>(to) & 0x80000000u) | 1u);
  return as_type<float>(as_type<uint>(x) + ((x < to) == (x > 0.0f) ? 1u : 0xffffffffu));
}
#endif

// ---- geometry -------------------------------------------------------------------------------------------------------

template <class T, int N> METAL_INLINE T dot(vec<T, N> a, vec<T, N> b) {
  T sum = T(a[0] * b[0]);
  for (int i = 1; i < N; ++i) sum = T(sum + T(a[i] * b[i]));
  return sum;
}
template <class T, int N> METAL_INLINE T length_squared(vec<T, N> a) { return dot(a, a); }
template <class T, int N> METAL_INLINE T length(vec<T, N> a) { return sqrt(dot(a, a)); }
template <class T, int N> METAL_INLINE T distance(vec<T, N> a, vec<T, N> b) { return length(a - b); }
template <class T, int N> METAL_INLINE vec<T, N> normalize(vec<T, N> a) { return a * rsqrt(dot(a, a)); }
template <class T> METAL_INLINE vec<T, 3> cross(vec<T, 3> a, vec<T, 3> b) {
  return vec<T, 3>(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x);
}

template <class T, int N> METAL_INLINE T distance_squared(vec<T, N> a, vec<T, N> b) { return length_squared(a - b); }
template <class T, int N> METAL_INLINE vec<T, N> faceforward(vec<T, N> n, vec<T, N> i, vec<T, N> r) { return dot(r, i) < T(0) ? n : -n; }
template <class T, int N> METAL_INLINE vec<T, N> reflect(vec<T, N> i, vec<T, N> n) { return i - T(2) * dot(n, i) * n; }
template <class T, int N> METAL_INLINE vec<T, N> refract(vec<T, N> i, vec<T, N> n, type_identity_t<T> eta) {
  T along = dot(n, i), k = T(T(1) - eta * eta * (T(1) - along * along));
  return k < T(0) ? vec<T, N>(T(0)) : eta * i - T(eta * along + sqrt(k)) * n;
}

// ---- integers -------------------------------------------------------------------------------------------------------

template <class T> METAL_INLINE T popcount(T x) { T n = 0; for (uint i = 0; i < 8 * sizeof(T); ++i) n = T(n + T((x >> i) & 1)); return n; }
template <class T> METAL_INLINE T clz(T x) { T n = 0; for (int i = int(8 * sizeof(T)) - 1; i >= 0 && !((x >> i) & 1); --i) n = T(n + 1); return n; }
template <class T> METAL_INLINE T ctz(T x) { T n = 0; for (uint i = 0; i < 8 * sizeof(T) && !((x >> i) & 1); ++i) n = T(n + 1); return n; }
template <class T> METAL_INLINE T reverse_bits(T x) {
  T r = 0;
  for (uint i = 0; i < 8 * sizeof(T); ++i) r = T(r | T(T((x >> i) & 1) << (8 * sizeof(T) - 1 - i)));
  return r;
}
template <class T> METAL_INLINE T rotate(T x, T by) {
  static_assert(is_unsigned_v<T>, "rotate: use an unsigned type");
  uint bits = 8 * sizeof(T), n = uint(by) & (bits - 1);
  return n ? T(T(x << n) | T(x >> (bits - n))) : x;
}
METAL_INLINE ulong mulhi(ulong a, ulong b) {
  ulong low = (a & 0xffffffffu) * (b & 0xffffffffu), left = (a >> 32) * (b & 0xffffffffu), right = (a & 0xffffffffu) * (b >> 32);
  ulong middle = (low >> 32) + (left & 0xffffffffu) + (right & 0xffffffffu);
  return (a >> 32) * (b >> 32) + (left >> 32) + (right >> 32) + (middle >> 32);
}
METAL_INLINE long mulhi(long a, long b) {
  return long(mulhi(ulong(a), ulong(b)) - (a < 0 ? ulong(b) : 0ul) - (b < 0 ? ulong(a) : 0ul));
}
template <class T> METAL_INLINE enable_if_t<is_integral_v<T> && sizeof(T) <= 4, T> mulhi(T a, T b) {
  return T((long(a) * long(b)) >> (8 * sizeof(T)));
}
METAL_INLINE uint mulhi(uint a, uint b) { return uint((ulong(a) * ulong(b)) >> 32); }
METAL_INLINE int mul24(int a, int b) { return int(uint(a << 8 >> 8) * uint(b << 8 >> 8)); }
METAL_INLINE uint mul24(uint a, uint b) { return (a & 0xffffffu) * (b & 0xffffffu); }
template <class T> METAL_INLINE T mad24(T a, T b, T c) { return T(mul24(a, b) + c); }
template <class T> METAL_INLINE T hadd(T a, T b) { return T((a >> 1) + (b >> 1) + (a & b & 1)); }
template <class T> METAL_INLINE T rhadd(T a, T b) { return T((a >> 1) + (b >> 1) + ((a | b) & 1)); }
template <class T> METAL_INLINE T madhi(T a, T b, T c) { return T(mulhi(a, b) + c); }
template <class T> METAL_INLINE T addsat(T a, T b);
template <class T> METAL_INLINE T subsat(T a, T b);
template <class T> METAL_INLINE T madsat(T a, T b, T c) {
  static_assert(sizeof(T) <= 4, "madsat: use 32 bits at most");
  long r = long(a) * long(b) + long(c), low = is_unsigned_v<T> ? 0 : -(1l << (8 * sizeof(T) - 1));
  long high = (1l << (8 * sizeof(T) - (is_unsigned_v<T> ? 0 : 1))) - 1;
  return T(r < low ? low : r > high ? high : r);
}
template <class T> METAL_INLINE T insert_bits(T base, T insert, uint offset, uint bits) {
  if (!bits) return base;
  ulong mask = (bits >= 64 ? ~0ul : (1ul << bits) - 1) << offset;
  return T((ulong(base) & ~mask) | ((ulong(insert) << offset) & mask));
}
template <class T> METAL_INLINE T extract_bits(T x, uint offset, uint bits) {
  uint width = 8 * sizeof(T);
  return bits ? T(T(x << (width - bits - offset)) >> (width - bits)) : T(0);
}

// ---- the same of half and of vectors ---------------------------------------------------------------------------------

template <class T> METAL_INLINE enable_if_t<is_small_float_v<T>, T> ldexp(T x, int k) { return T(ldexp(float(x), k)); }
template <class T> METAL_INLINE enable_if_t<is_small_float_v<T>, T> sincos(T x, T& cosine) { cosine = cos(x); return sin(x); }
template <class T> METAL_INLINE enable_if_t<is_small_float_v<T>, T> modf(T x, T& whole) {
  whole = trunc(x);
  return copysign(isinf(x) ? T(0.0f) : T(x - whole), x);
}
template <class T> METAL_INLINE enable_if_t<is_small_float_v<T>, T> smoothstep(T low, T high, T x) {
  T t = saturate(T(T(x - low) / T(high - low)));
  return T(T(t * t) * T(T(3.0f) - T(T(2.0f) * t)));
}
#ifndef METAL_DOUBLE
template <class T> METAL_INLINE enable_if_t<is_small_float_v<T>, T> frexp(T x, int& exponent) { return T(frexp(float(x), exponent)); }
template <class T> METAL_INLINE enable_if_t<is_small_float_v<T>, T> nextafter(T x, T to) {
  if (isnan(x) || isnan(to)) return T(float(x) + float(to));
  if (float(x) == float(to)) return to;
  if (float(x) == 0.0f) return T(from_bits(), ushort((to.bits & 0x8000u) | 1u));
  return T(from_bits(), ushort(x.bits + ((float(x) < float(to)) == (float(x) > 0.0f) ? 1 : -1)));
}
#endif

#define METAL_OF_VECTORS1(NAME, RESULT) \
  template <class T, int N> METAL_INLINE vec<RESULT, N> NAME(vec<T, N> a) { vec<RESULT, N> r; METAL_EACH(N, NAME(a[i])) }
#define METAL_OF_VECTORS2(NAME) \
  template <class T, int N> METAL_INLINE vec<T, N> NAME(vec<T, N> a, vec<T, N> b) { vec<T, N> r; METAL_EACH(N, NAME(a[i], b[i])) }
#define METAL_OF_VECTORS3(NAME)                                                              \
  template <class T, int N> METAL_INLINE vec<T, N> NAME(vec<T, N> a, vec<T, N> b, vec<T, N> c) { \
    vec<T, N> r; METAL_EACH(N, NAME(a[i], b[i], c[i]))                                       \
  }
#define METAL_WITH_OUTPUT(NAME, OTHER)                                                            \
  template <class T, int N> METAL_INLINE vec<T, N> NAME(vec<T, N> x, vec<OTHER, N>& other) {      \
    vec<T, N> r; METAL_EACH(N, NAME(x[i], other[i]))                                              \
  }
METAL_OF_VECTORS1(popcount, T) METAL_OF_VECTORS1(clz, T) METAL_OF_VECTORS1(ctz, T) METAL_OF_VECTORS1(reverse_bits, T)
METAL_OF_VECTORS1(ilogb, int)
METAL_OF_VECTORS2(absdiff) METAL_OF_VECTORS2(addsat) METAL_OF_VECTORS2(subsat) METAL_OF_VECTORS2(hadd) METAL_OF_VECTORS2(rhadd)
METAL_OF_VECTORS2(rotate) METAL_OF_VECTORS2(mulhi) METAL_OF_VECTORS2(mul24)
METAL_OF_VECTORS3(mad24) METAL_OF_VECTORS3(madhi) METAL_OF_VECTORS3(madsat) METAL_OF_VECTORS3(smoothstep)
METAL_WITH_OUTPUT(sincos, T) METAL_WITH_OUTPUT(modf, T)
#ifndef METAL_DOUBLE
METAL_WITH_OUTPUT(frexp, int) METAL_OF_VECTORS2(nextafter)
#endif
template <class T, int N> METAL_INLINE vec<T, N> ldexp(vec<T, N> x, vec<int, N> k) { vec<T, N> r; METAL_EACH(N, ldexp(x[i], k[i])) }
template <class T, int N> METAL_INLINE vec<T, N> extract_bits(vec<T, N> x, uint offset, uint bits) {
  vec<T, N> r; METAL_EACH(N, extract_bits(x[i], offset, bits))
}
template <class T, int N> METAL_INLINE vec<T, N> insert_bits(vec<T, N> base, vec<T, N> insert, uint offset, uint bits) {
  vec<T, N> r; METAL_EACH(N, insert_bits(base[i], insert[i], offset, bits))
}
#undef METAL_OF_VECTORS1
#undef METAL_OF_VECTORS2
#undef METAL_OF_VECTORS3
#undef METAL_WITH_OUTPUT


// A value that all threads of a threadgroup share.
template <class T> using uniform = T;
template <class T> METAL_INLINE constexpr T make_uniform(T value) { return value; }

// ---- limits ---------------------------------------------------------------------------------------------------------

template <class T> struct numeric_limits {
  static_assert(is_integral_v<T>, "numeric_limits: not a scalar type");
  static constexpr bool is_signed = is_signed_v<T>;
  static constexpr int digits = int(8 * sizeof(T)) - int(is_signed);
  METAL_STATIC constexpr T max() { return is_signed ? T((ulong(1) << (digits % 64)) - 1) : T(~T(0)); }
  METAL_STATIC constexpr T min() { return is_signed ? T(-max() - 1) : T(0); }
  METAL_STATIC constexpr T lowest() { return min(); }
};
template <> struct numeric_limits<bool> {
  METAL_STATIC constexpr bool max() { return true; }
  METAL_STATIC constexpr bool min() { return false; }
  METAL_STATIC constexpr bool lowest() { return false; }
};
template <> struct numeric_limits<float> {
  METAL_STATIC constexpr float infinity() { return __builtin_bit_cast(float, METAL_INFINITE); }
  METAL_STATIC constexpr float negative_infinity() { return -infinity(); }
  METAL_STATIC constexpr float quiet_NaN() { return __builtin_bit_cast(float, METAL_INFINITE | METAL_INFINITE >> 1); }
  METAL_STATIC constexpr float max() { return 3.40282347e+38f; }
  METAL_STATIC constexpr float min() { return 1.17549435e-38f; }
  METAL_STATIC constexpr float lowest() { return -3.40282347e+38f; }
  METAL_STATIC constexpr float epsilon() { return 1.1920929e-7f; }
};
#define METAL_SMALL_LIMITS(T, MAX, MIN, EPSILON, INF, QNAN)                                        \
  template <> struct numeric_limits<T> {                                                           \
    METAL_STATIC constexpr T infinity() { return T(from_bits(), ushort(INF)); }                    \
    METAL_STATIC constexpr T negative_infinity() { return T(from_bits(), ushort(INF | 0x8000)); }  \
    METAL_STATIC constexpr T quiet_NaN() { return T(from_bits(), ushort(QNAN)); }                  \
    METAL_STATIC constexpr T max() { return T(from_bits(), ushort(MAX)); }                         \
    METAL_STATIC constexpr T min() { return T(from_bits(), ushort(MIN)); }                         \
    METAL_STATIC constexpr T lowest() { return T(from_bits(), ushort(MAX | 0x8000)); }             \
    METAL_STATIC constexpr T epsilon() { return T(from_bits(), ushort(EPSILON)); }                 \
  };
METAL_SMALL_LIMITS(half, 0x7bff, 0x0400, 0x1400, 0x7c00, 0x7e00)
METAL_SMALL_LIMITS(bfloat, 0x7f7f, 0x0080, 0x3c00, 0x7f80, 0x7fc0)
#undef METAL_SMALL_LIMITS

template <class T> METAL_INLINE T addsat(T a, T b) {
  T r;
  if (!__builtin_add_overflow(a, b, &r)) return r;
  return b < T(0) ? numeric_limits<T>::lowest() : numeric_limits<T>::max();
}
template <class T> METAL_INLINE T subsat(T a, T b) {
  T r;
  if (!__builtin_sub_overflow(a, b, &r)) return r;
  return is_unsigned_v<T> || b > T(0) ? numeric_limits<T>::lowest() : numeric_limits<T>::max();
}

} // namespace metal

#undef INFINITY
#undef NAN
#define INFINITY (metal::numeric_limits<float>::infinity())
#define NAN (metal::numeric_limits<float>::quiet_NaN())
#define HUGE_VALF INFINITY
#define MAXFLOAT 3.40282347e+38f
#define FLT_MAX 3.40282347e+38f
#define FLT_MIN 1.17549435e-38f
#define FLT_EPSILON 1.1920929e-7f
#define HALF_MAX (metal::numeric_limits<metal::half>::max())
#define INT_MAX 2147483647
#define INT_MIN (-2147483647 - 1)
#define UINT_MAX 4294967295u
#define M_E_F 2.71828183f
#define M_LOG2E_F 1.44269504f
#define M_LOG10E_F 0.434294482f
#define M_LN2_F 0.693147181f
#define M_LN10_F 2.30258509f
#define M_PI_F 3.14159265f
#define M_PI_2_F 1.57079633f
#define M_PI_4_F 0.785398163f
#define M_1_PI_F 0.318309886f
#define M_2_PI_F 0.636619772f
#define M_2_SQRTPI_F 1.12837917f
#define M_SQRT2_F 1.41421356f
#define M_SQRT1_2_F 0.707106781f
