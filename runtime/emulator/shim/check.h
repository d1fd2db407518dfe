// The static check: Metal's types and functions as declarations, with real address spaces. For clang 19 or newer, which
// has `_Float16` and `__bf16` arithmetic and extended vectors with swizzles. In C++ nothing here is ever run; in C++ for
// OpenCL, `opencl.h` adds definitions.
#pragma once

typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ ptrdiff_t;
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
#ifdef __OPENCL_CPP_VERSION__
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#define device __global
#define constant __constant
#define threadgroup __local
#define thread __private
#define METAL_THREADGROUP threadgroup
// Names that OpenCL has for types of its own.
#define atomic_int metal_atomic_int
#define atomic_uint metal_atomic_uint
#define atomic_float metal_atomic_float
#define atomic_ulong metal_atomic_ulong
#else
typedef _Float16 half;
#define device __attribute__((address_space(1)))
#define constant __attribute__((address_space(2)))
#define threadgroup __attribute__((address_space(3)))
#define thread
#define kernel
// Not `static`: clang would look for a constructor that works in this address space.
#define METAL_THREADGROUP extern threadgroup
#endif
typedef __bf16 bfloat;
typedef half float16_t;
typedef bfloat bfloat16_t;
#define METAL_FUNC inline
#define METAL_SPACES(F) F(device) F(threadgroup)

namespace metal {
#ifndef __OPENCL_CPP_VERSION__
using ::half;
#endif
using ::bfloat;

template <class A, class B> constexpr bool is_same_v = __is_same(A, B);
template <class A, class B> struct is_same { static constexpr bool value = __is_same(A, B); };
template <bool, class T = void> struct enable_if {};
template <class T> struct enable_if<true, T> { typedef T type; };
template <bool B, class T = void> using enable_if_t = typename enable_if<B, T>::type;
template <bool, class A, class B> struct conditional { typedef A type; };
template <class A, class B> struct conditional<false, A, B> { typedef B type; };
template <bool C, class A, class B> using conditional_t = typename conditional<C, A, B>::type;
template <class T> struct type_identity { typedef T type; };
template <class T> using type_identity_t = typename type_identity<T>::type;
template <class T> constexpr bool is_integral_v = __is_integral(T);
template <class T> constexpr bool is_floating_point_v = __is_floating_point(T);
template <class T> constexpr bool is_scalar_v = __is_arithmetic(T);
template <class T> constexpr bool is_signed_v = __is_signed(T);

template <class T, int N> using vec = T __attribute__((ext_vector_type(N)));
#define METAL_VECTORS(T) typedef vec<T, 2> T##2; typedef vec<T, 3> T##3; typedef vec<T, 4> T##4;
METAL_VECTORS(char) METAL_VECTORS(uchar) METAL_VECTORS(short) METAL_VECTORS(ushort) METAL_VECTORS(int)
METAL_VECTORS(uint) METAL_VECTORS(long) METAL_VECTORS(ulong) METAL_VECTORS(half) METAL_VECTORS(bfloat) METAL_VECTORS(float)
// Packed vectors differ only in alignment.
#define METAL_PACKED(T) typedef vec<T, 2> packed_##T##2; typedef vec<T, 3> packed_##T##3; typedef vec<T, 4> packed_##T##4;
METAL_PACKED(char) METAL_PACKED(uchar) METAL_PACKED(short) METAL_PACKED(ushort) METAL_PACKED(int) METAL_PACKED(uint)
METAL_PACKED(long) METAL_PACKED(ulong) METAL_PACKED(half) METAL_PACKED(bfloat) METAL_PACKED(float)

// In clang the result of a comparison is a vector of integers.
template <int N> struct bool_vec {
  bool x, y, z, w;
  bool_vec() = default;
  constexpr bool_vec(bool);
  template <class T> constexpr bool_vec(vec<T, N>) {}
  bool& operator[](int);
  bool_vec operator!() const;
  bool_vec operator&&(bool_vec) const;
  bool_vec operator||(bool_vec) const;
  bool_vec operator&(bool_vec) const;
  bool_vec operator|(bool_vec) const;
  bool_vec operator==(bool_vec) const;
  bool_vec operator!=(bool_vec) const;
};
typedef bool_vec<2> bool2; typedef bool_vec<3> bool3; typedef bool_vec<4> bool4;
template <class T, size_t N> struct array {
  T elements[N];
  constexpr T& operator[](size_t i) { return elements[i]; }
  constexpr const T& operator[](size_t i) const { return elements[i]; }
  static constexpr size_t size() { return N; }
};

// `width` is how many components an argument of a vector's constructor contributes.
template <class T> struct width { static constexpr int value = 1; };
template <class T, int N> struct width<T __attribute__((ext_vector_type(N)))> { static constexpr int value = N; };
template <int N> struct width<bool_vec<N>> { static constexpr int value = N; };
template <class V, class A> constexpr void put(V& made, int& next, A a, int times) {
  if constexpr (width<A>::value == 1)
    for (int i = 0; i < times; ++i) made[next++] = a;
  else
    for (int i = 0; i < width<A>::value; ++i) made[next++] = a[i];
}
template <class T, int N, class... A> constexpr vec<T, N> make_vec(A... a) {
  constexpr int given = (width<A>::value + ... + 0);
  static_assert(given == N || (sizeof...(A) == 1 && given == 1), "a vector's constructor: the number of components does not fit");
  vec<T, N> made{};
  int next = 0;
  (put(made, next, a, given == 1 ? N : 1), ...);
  return made;
}

template <int N, class... A> constexpr bool_vec<N> make_bools(A... a) { return bool_vec<N>(make_vec<int, N>(a...)); }

// `(device T*)p` is rewritten to `cast_to<device T*>() % p`, which exists only within one address space.
template <class P> struct space { static constexpr int value = 0; };
#define METAL_SPACE(S, N)                                                   \
  template <class T> struct space<S T*> { static constexpr int value = N; }; \
  template <class T> struct space<const S T*> { static constexpr int value = N; };
METAL_SPACE(device, 1) METAL_SPACE(constant, 2) METAL_SPACE(threadgroup, 3)
template <class To> struct read_through {};
template <class To> struct cast_to { read_through<To> operator*() const; };
template <class To, class From> enable_if_t<space<To>::value == space<From*>::value, To> operator%(cast_to<To>, From* p);
template <class To, class From>
auto operator%(read_through<To>, From* p) -> enable_if_t<space<To>::value == space<From*>::value, decltype(*To())>;

template <class To, class From> To as_type(From from) {
  static_assert(sizeof(To) == sizeof(From), "as_type: the sizes differ");
  return __builtin_bit_cast(To, from);
}

#define METAL_1(N) float N(float); half N(half); bfloat N(bfloat); template <int K> vec<float, K> N(vec<float, K>); template <int K> vec<half, K> N(vec<half, K>);
#define METAL_2(N) float N(float, float); half N(half, half); bfloat N(bfloat, bfloat); template <int K> vec<float, K> N(vec<float, K>, vec<float, K>);
#define METAL_MATH                                                                                                       \
  METAL_1(exp) METAL_1(exp2) METAL_1(exp10) METAL_1(log) METAL_1(log2) METAL_1(log10) METAL_1(sqrt) METAL_1(rsqrt)        \
  METAL_1(sin) METAL_1(cos) METAL_1(tan) METAL_1(asin) METAL_1(acos) METAL_1(atan) METAL_1(sinh) METAL_1(cosh)            \
  METAL_1(tanh) METAL_1(asinh) METAL_1(acosh) METAL_1(atanh) METAL_1(ceil) METAL_1(floor) METAL_1(trunc) METAL_1(rint)    \
  METAL_1(round) METAL_1(fabs) METAL_1(sinpi) METAL_1(cospi) METAL_1(tanpi) METAL_1(sign) METAL_1(saturate) METAL_1(fract)               \
  METAL_2(pow) METAL_2(powr) METAL_2(atan2) METAL_2(fmod) METAL_2(divide) METAL_2(fdim) METAL_2(step)                     \
  METAL_2(copysign) METAL_2(fmin) METAL_2(fmax)
METAL_MATH
#undef METAL_1
#undef METAL_2
#define METAL_1(N) float N(float); template <int K> vec<float, K> N(vec<float, K>);
#define METAL_2(N) float N(float, float); template <int K> vec<float, K> N(vec<float, K>, vec<float, K>);
namespace precise { METAL_MATH }
namespace fast { METAL_MATH }
float fma(float, float, float); half fma(half, half, half); bfloat fma(bfloat, bfloat, bfloat);
template <int K> vec<float, K> fma(vec<float, K>, vec<float, K>, vec<float, K>);
float mad(float, float, float);
#define METAL_FLOATS(T)                                                                                                  \
  T ldexp(T, int); T sincos(T, T&); T modf(T, T&); T frexp(T, int&); T nextafter(T, T); int ilogb(T); T smoothstep(T, T, T);
METAL_FLOATS(float) METAL_FLOATS(half) METAL_FLOATS(bfloat)
#undef METAL_FLOATS
template <class T, int K> vec<T, K> ldexp(vec<T, K>, vec<int, K>); template <class T, int K> vec<T, K> sincos(vec<T, K>, vec<T, K>&);
template <class T, int K> vec<T, K> modf(vec<T, K>, vec<T, K>&); template <class T, int K> vec<T, K> frexp(vec<T, K>, vec<int, K>&);
template <class T, int K> vec<T, K> nextafter(vec<T, K>, vec<T, K>); template <class T, int K> vec<int, K> ilogb(vec<T, K>);
template <class T, int K> vec<T, K> smoothstep(vec<T, K>, vec<T, K>, vec<T, K>);
float log1p(float);
bfloat log1p(bfloat);
bool isordered(float, float); bool isunordered(float, float);
template <class T, int K> bool_vec<K> isordered(vec<T, K>, vec<T, K>); template <class T, int K> bool_vec<K> isunordered(vec<T, K>, vec<T, K>);
bool isnan(float); bool isinf(float); bool isfinite(float); bool isnormal(float); bool signbit(float);
#define METAL_PREDICATE(N) template <class T, int K> bool_vec<K> N(vec<T, K>);
METAL_PREDICATE(isnan) METAL_PREDICATE(isinf) METAL_PREDICATE(isfinite) METAL_PREDICATE(isnormal) METAL_PREDICATE(signbit)
bool any(bool); bool all(bool);
template <int K> bool any(bool_vec<K>); template <int K> bool all(bool_vec<K>); template <class T, int K> bool any(vec<T, K>); template <class T, int K> bool all(vec<T, K>);
template <class T> T min(T, T); template <class T> T max(T, T); template <class T> T min3(T, T, T); template <class T> T max3(T, T, T);
template <class T> T clamp(T, type_identity_t<T>, type_identity_t<T>);
template <class T> T abs(T); template <class T> T absdiff(T, T); template <class T> T mix(T, T, type_identity_t<T>);
template <class T> T select(T, T, bool); template <class T, class C, int K> vec<T, K> select(vec<T, K>, vec<T, K>, vec<C, K>);
template <class T, int K> vec<T, K> select(vec<T, K>, vec<T, K>, bool_vec<K>);
template <class T> T median3(T, T, T); template <class T> T fmin3(T, T, T); template <class T> T fmax3(T, T, T); template <class T> T fmedian3(T, T, T);
template <class T, int K> T dot(vec<T, K>, vec<T, K>); template <class T, int K> T length(vec<T, K>);
template <class T, int K> T length_squared(vec<T, K>); template <class T, int K> T distance(vec<T, K>, vec<T, K>);
template <class T, int K> vec<T, K> normalize(vec<T, K>); template <class T> vec<T, 3> cross(vec<T, 3>, vec<T, 3>);
template <class T> T popcount(T); template <class T> T clz(T); template <class T> T ctz(T); template <class T> T reverse_bits(T);
template <class T> T rotate(T, T); template <class T> T mulhi(T, T); template <class T> T extract_bits(T, uint, uint);
template <class T> T insert_bits(T, T, uint, uint); template <class T> T mul24(T, T); template <class T> T mad24(T, T, T);
template <class T> T hadd(T, T); template <class T> T rhadd(T, T); template <class T> T madhi(T, T, T); template <class T> T madsat(T, T, T);
template <class T> T addsat(T, T); template <class T> T subsat(T, T);
template <class T, int K> T distance_squared(vec<T, K>, vec<T, K>); template <class T, int K> vec<T, K> reflect(vec<T, K>, vec<T, K>);
template <class T, int K> vec<T, K> refract(vec<T, K>, vec<T, K>, type_identity_t<T>); template <class T, int K> vec<T, K> faceforward(vec<T, K>, vec<T, K>, vec<T, K>);

#define METAL_PACKING(T, N, FORMAT) vec<T, N> unpack_##FORMAT##_to_##T(uint); uint pack_##T##_to_##FORMAT(vec<T, N>);
#define METAL_PACKINGS(T)                                                                                                \
  METAL_PACKING(T, 4, unorm4x8) METAL_PACKING(T, 4, snorm4x8) METAL_PACKING(T, 2, unorm2x16) METAL_PACKING(T, 2, snorm2x16) \
  METAL_PACKING(T, 4, unorm10a2) vec<T, 4> unpack_unorm4x8_srgb_to_##T(uint); uint pack_##T##_to_srgb_unorm4x8(vec<T, 4>);
METAL_PACKINGS(float) METAL_PACKINGS(half)
template <class T> using uniform = T;
template <class T> constexpr T make_uniform(T);

template <class T> struct numeric_limits {
  static constexpr bool is_signed = is_signed_v<T>;
  static constexpr T max() { return is_signed ? T((ulong(1) << (8 * sizeof(T) - 1)) - 1) : T(~T(0)); }
  static constexpr T min() { return is_signed ? T(-max() - 1) : T(0); }
  static constexpr T lowest() { return min(); }
};
#define METAL_FLOAT_LIMITS(T, MAX, MIN, EPSILON)                            \
  template <> struct numeric_limits<T> {                                    \
    static constexpr T infinity() { return T(__builtin_inff()); }           \
    static constexpr T negative_infinity() { return T(-__builtin_inff()); } \
    static constexpr T quiet_NaN() { return T(__builtin_nanf("")); }        \
    static constexpr T max() { return T(MAX); }                             \
    static constexpr T min() { return T(MIN); }                             \
    static constexpr T lowest() { return T(-MAX); }                         \
    static constexpr T epsilon() { return T(EPSILON); }                     \
  };
METAL_FLOAT_LIMITS(float, 3.40282347e+38f, 1.17549435e-38f, 1.1920929e-7f)
METAL_FLOAT_LIMITS(half, 65504.0f, 6.103515625e-5f, 9.765625e-4f)
METAL_FLOAT_LIMITS(bfloat, 3.38953139e+38f, 1.17549435e-38f, 7.8125e-3f)

#define METAL_GROUP(G)                                                                                                   \
  template <class T> T G##_sum(T); template <class T> T G##_product(T); template <class T> T G##_min(T);                 \
  template <class T> T G##_max(T); template <class T> T G##_and(T); template <class T> T G##_or(T);                      \
  template <class T> T G##_xor(T); template <class T> T G##_broadcast_first(T);                                          \
  template <class T> T G##_prefix_inclusive_sum(T); template <class T> T G##_prefix_exclusive_sum(T);                    \
  template <class T> T G##_prefix_inclusive_product(T); template <class T> T G##_prefix_exclusive_product(T);            \
  template <class T> T G##_broadcast(T, ushort); template <class T> T G##_shuffle(T, ushort);                            \
  template <class T> T G##_shuffle_xor(T, ushort); template <class T> T G##_shuffle_up(T, ushort);                       \
  template <class T> T G##_shuffle_down(T, ushort); template <class T> T G##_shuffle_rotate_up(T, ushort);               \
  template <class T> T G##_shuffle_rotate_down(T, ushort);                                                               \
  template <class T> T G##_shuffle_and_fill_up(T, T, ushort); template <class T> T G##_shuffle_and_fill_down(T, T, ushort); \
  template <class T> T G##_shuffle_and_fill_up(T, T, ushort, ushort);                                                    \
  template <class T> T G##_shuffle_and_fill_down(T, T, ushort, ushort);                                                  \
  bool G##_any(bool); bool G##_all(bool); bool G##_is_first(); simd_vote G##_ballot(bool); simd_vote G##_active_threads_mask();
struct simd_vote {
  typedef ulong vote_t;
  explicit operator ulong() const;
  explicit operator uint() const;
  bool all() const;
  bool any() const;
};
METAL_GROUP(simd)
METAL_GROUP(quad)

enum class mem_flags : uint { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4 };
constexpr mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags(uint(a) | uint(b)); }
void threadgroup_barrier(mem_flags);
void simdgroup_barrier(mem_flags);

enum memory_order { memory_order_relaxed };
template <class T> struct atomic { T value; };
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<float> atomic_float;
typedef atomic<bool> atomic_bool;
typedef atomic<ulong> atomic_ulong;
#define METAL_UPDATE(S, N) template <class T> T N(volatile S atomic<T>*, type_identity_t<T>, memory_order);
#define METAL_ATOMICS(S)                                                                                                 \
  METAL_UPDATE(S, atomic_fetch_add_explicit) METAL_UPDATE(S, atomic_fetch_sub_explicit) METAL_UPDATE(S, atomic_fetch_max_explicit) \
  METAL_UPDATE(S, atomic_fetch_min_explicit) METAL_UPDATE(S, atomic_fetch_and_explicit) METAL_UPDATE(S, atomic_fetch_or_explicit) \
  METAL_UPDATE(S, atomic_fetch_xor_explicit) METAL_UPDATE(S, atomic_exchange_explicit)                                   \
  void atomic_max_explicit(volatile S atomic<ulong>*, ulong, memory_order); void atomic_min_explicit(volatile S atomic<ulong>*, ulong, memory_order); \
  template <class T> void atomic_store_explicit(volatile S atomic<T>*, type_identity_t<T>, memory_order);                \
  template <class T> T atomic_load_explicit(const volatile S atomic<T>*, memory_order);                                  \
  template <class T> bool atomic_compare_exchange_weak_explicit(volatile S atomic<T>*, T*, type_identity_t<T>, memory_order, memory_order);
METAL_SPACES(METAL_ATOMICS)

template <class T, int C, int R> struct simdgroup_matrix {
  vec<T, 2> elements;
  simdgroup_matrix() = default;
  explicit simdgroup_matrix(T);
  vec<T, 2>& thread_elements();
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;
template <class T, int C, int R> simdgroup_matrix<T, C, R> make_filled_simdgroup_matrix(T);
#define METAL_MATRICES(S)                                                                                                \
  template <class T> void simdgroup_load(simdgroup_matrix<T, 8, 8>&, const S T*, ulong = 8, vec<ulong, 2> = 0, bool = false); \
  template <class T> void simdgroup_store(simdgroup_matrix<T, 8, 8>, S T*, ulong = 8, vec<ulong, 2> = 0, bool = false);
METAL_SPACES(METAL_MATRICES)
template <class D, class A, class B, class C>
void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8>&, simdgroup_matrix<A, 8, 8>, simdgroup_matrix<B, 8, 8>, simdgroup_matrix<C, 8, 8>);
template <class D, class A, class B> void simdgroup_multiply(simdgroup_matrix<D, 8, 8>&, simdgroup_matrix<A, 8, 8>, simdgroup_matrix<B, 8, 8>);
} // namespace metal
#include "namespaces.h"

template <class T> struct Limits {
  static constexpr T max = metal::numeric_limits<T>::max(), min = metal::numeric_limits<T>::lowest();
  static constexpr T finite_max = max, finite_min = min;
};
#define METAL_LIMITS(T)                                                                                               \
  template <> struct Limits<T> {                                                                                      \
    static constexpr T max = metal::numeric_limits<T>::infinity(), min = metal::numeric_limits<T>::negative_infinity(); \
    static constexpr T finite_max = metal::numeric_limits<T>::max(), finite_min = metal::numeric_limits<T>::lowest(); \
  };
METAL_LIMITS(float) METAL_LIMITS(half) METAL_LIMITS(bfloat)
template <class I = long> I elem_to_loc(I, const constant int*, const constant long*, int);
template <class I = long> I elem_to_loc(metal::uint3, const constant int*, const constant long*, int);
template <class T, class U> T ceildiv(T, U);

#define METAL_MAKE(T, N, ...) (metal::make_vec<T, N>(__VA_ARGS__))
#define float2(...) METAL_MAKE(float, 2, __VA_ARGS__)
#define float3(...) METAL_MAKE(float, 3, __VA_ARGS__)
#define float4(...) METAL_MAKE(float, 4, __VA_ARGS__)
#define half2(...) METAL_MAKE(half, 2, __VA_ARGS__)
#define half3(...) METAL_MAKE(half, 3, __VA_ARGS__)
#define half4(...) METAL_MAKE(half, 4, __VA_ARGS__)
#define bfloat2(...) METAL_MAKE(bfloat, 2, __VA_ARGS__)
#define bfloat3(...) METAL_MAKE(bfloat, 3, __VA_ARGS__)
#define bfloat4(...) METAL_MAKE(bfloat, 4, __VA_ARGS__)
#define int2(...) METAL_MAKE(int, 2, __VA_ARGS__)
#define int3(...) METAL_MAKE(int, 3, __VA_ARGS__)
#define int4(...) METAL_MAKE(int, 4, __VA_ARGS__)
#define uint2(...) METAL_MAKE(uint, 2, __VA_ARGS__)
#define uint3(...) METAL_MAKE(uint, 3, __VA_ARGS__)
#define uint4(...) METAL_MAKE(uint, 4, __VA_ARGS__)
#define short2(...) METAL_MAKE(short, 2, __VA_ARGS__)
#define short3(...) METAL_MAKE(short, 3, __VA_ARGS__)
#define short4(...) METAL_MAKE(short, 4, __VA_ARGS__)
#define ushort2(...) METAL_MAKE(ushort, 2, __VA_ARGS__)
#define ushort3(...) METAL_MAKE(ushort, 3, __VA_ARGS__)
#define ushort4(...) METAL_MAKE(ushort, 4, __VA_ARGS__)
#define char2(...) METAL_MAKE(char, 2, __VA_ARGS__)
#define char3(...) METAL_MAKE(char, 3, __VA_ARGS__)
#define char4(...) METAL_MAKE(char, 4, __VA_ARGS__)
#define uchar2(...) METAL_MAKE(uchar, 2, __VA_ARGS__)
#define uchar3(...) METAL_MAKE(uchar, 3, __VA_ARGS__)
#define uchar4(...) METAL_MAKE(uchar, 4, __VA_ARGS__)
#define long2(...) METAL_MAKE(long, 2, __VA_ARGS__)
#define long3(...) METAL_MAKE(long, 3, __VA_ARGS__)
#define long4(...) METAL_MAKE(long, 4, __VA_ARGS__)
#define ulong2(...) METAL_MAKE(ulong, 2, __VA_ARGS__)
#define ulong3(...) METAL_MAKE(ulong, 3, __VA_ARGS__)
#define ulong4(...) METAL_MAKE(ulong, 4, __VA_ARGS__)
#define bool2(...) (metal::make_bools<2>(__VA_ARGS__))
#define bool3(...) (metal::make_bools<3>(__VA_ARGS__))
#define bool4(...) (metal::make_bools<4>(__VA_ARGS__))
#define packed_float2(...) METAL_MAKE(float, 2, __VA_ARGS__)
#define packed_float3(...) METAL_MAKE(float, 3, __VA_ARGS__)
#define packed_float4(...) METAL_MAKE(float, 4, __VA_ARGS__)
#define packed_half2(...) METAL_MAKE(half, 2, __VA_ARGS__)
#define packed_half3(...) METAL_MAKE(half, 3, __VA_ARGS__)
#define packed_half4(...) METAL_MAKE(half, 4, __VA_ARGS__)
#define packed_int2(...) METAL_MAKE(int, 2, __VA_ARGS__)
#define packed_int3(...) METAL_MAKE(int, 3, __VA_ARGS__)
#define packed_int4(...) METAL_MAKE(int, 4, __VA_ARGS__)
#define packed_uint2(...) METAL_MAKE(uint, 2, __VA_ARGS__)
#define packed_uint3(...) METAL_MAKE(uint, 3, __VA_ARGS__)
#define packed_uint4(...) METAL_MAKE(uint, 4, __VA_ARGS__)
#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
#define HUGE_VALF __builtin_inff()
#define MAXFLOAT 3.40282347e+38f
#define FLT_MAX 3.40282347e+38f
#define FLT_MIN 1.17549435e-38f
#define FLT_EPSILON 1.1920929e-7f
#define INT_MAX 2147483647
#define INT_MIN (-2147483647 - 1)
#define UINT_MAX 4294967295u
#define M_E_F 2.71828183f
#define M_LOG2E_F 1.44269504f
#define M_LN2_F 0.693147181f
#define M_PI_F 3.14159265f
#define M_PI_2_F 1.57079633f
#define M_1_PI_F 0.318309886f
#define M_SQRT2_F 1.41421356f
#define M_2_SQRTPI_F 1.12837917f

#pragma GCC poison double goto new delete virtual try catch throw dynamic_cast typeid thread_local std printf assert malloc
