// Metal's scalar and vector types as C++, shared by the host and the CUDA build. The including file defines
// METAL_INLINE, METAL_CHECK_COMPONENT, METAL_COPY and METAL_SINGLE.

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;

namespace metal {

// ---- type traits ----------------------------------------------------------------------------------------------------

template <class T, T V> struct integral_constant {
  static constexpr T value = V;
  typedef T value_type;
  METAL_INLINE constexpr operator T() const { return V; }
};
template <bool B> using bool_constant = integral_constant<bool, B>;
typedef bool_constant<true> true_type;
typedef bool_constant<false> false_type;
template <class A, class B> struct is_same : false_type {};
template <class A> struct is_same<A, A> : true_type {};
template <class A, class B> constexpr bool is_same_v = is_same<A, B>::value;
template <bool, class T = void> struct enable_if {};
template <class T> struct enable_if<true, T> { typedef T type; };
template <bool B, class T = void> using enable_if_t = typename enable_if<B, T>::type;
template <bool, class A, class B> struct conditional { typedef A type; };
template <class A, class B> struct conditional<false, A, B> { typedef B type; };
template <bool C, class A, class B> using conditional_t = typename conditional<C, A, B>::type;
template <class T> struct remove_const { typedef T type; };
template <class T> struct remove_const<const T> { typedef T type; };
template <class T> struct remove_reference { typedef T type; };
template <class T> struct remove_reference<T&> { typedef T type; };
template <class T> using remove_cvref_t = typename remove_const<typename remove_reference<T>::type>::type;
template <class T> struct type_identity { typedef T type; };
template <class T> using type_identity_t = typename type_identity<T>::type;

template <class T> struct is_integral : false_type {};
#define METAL_INTEGRAL(T) template <> struct is_integral<T> : true_type {};
METAL_INTEGRAL(bool) METAL_INTEGRAL(char) METAL_INTEGRAL(signed char) METAL_INTEGRAL(uchar)
METAL_INTEGRAL(short) METAL_INTEGRAL(ushort) METAL_INTEGRAL(int) METAL_INTEGRAL(uint)
METAL_INTEGRAL(long) METAL_INTEGRAL(ulong) METAL_INTEGRAL(long long) METAL_INTEGRAL(unsigned long long)
#undef METAL_INTEGRAL
template <class T> constexpr bool is_integral_v = is_integral<T>::value;
template <class T> constexpr bool is_unsigned_v = is_integral_v<T> && T(-1) > T(0);
template <class T> constexpr bool is_signed_v = !is_unsigned_v<T>;

// ---- shifts ---------------------------------------------------------------------------------------------------------

// `a << b` is rewritten to `a << shift() * b`: Metal takes the distance modulo the width of what is shifted.
template <class B> struct Distance { B value; };
struct shift {};
template <class B> METAL_INLINE constexpr Distance<B> operator*(shift, B by) { return Distance<B>{by}; }
#define METAL_DISTANCE(OP)                                                                 \
  template <class B, class C> METAL_INLINE constexpr auto operator OP(Distance<B> a, C b) { \
    return Distance<decltype(a.value OP b)>{a.value OP b};                                 \
  }
METAL_DISTANCE(+) METAL_DISTANCE(-) METAL_DISTANCE(*) METAL_DISTANCE(/) METAL_DISTANCE(%)
#undef METAL_DISTANCE
#define METAL_SHIFT(OP)                                                                                              \
  template <class A, class B> METAL_INLINE constexpr auto operator OP(const A& a, Distance<B> by) {                  \
    if constexpr (is_integral_v<A> && is_integral_v<B>) return a OP (uint(by.value) & uint(8 * sizeof(+a) - 1));     \
    else return a OP by.value;                                                                                       \
  }                                                                                                                  \
  template <class A, class B> METAL_INLINE A& operator OP##=(A& a, Distance<B> by) { return a = A(a OP by); }
METAL_SHIFT(<<) METAL_SHIFT(>>)
#undef METAL_SHIFT

// ---- half and bfloat ------------------------------------------------------------------------------------------------

#ifdef __CUDACC__
#define METAL_CONSTANT
template <class To, class From> METAL_INLINE To as_type(From from) {
  static_assert(sizeof(To) == sizeof(From), "as_type: the sizes differ");
  To to;
  METAL_COPY(&to, &from, sizeof to);
  return to;
}
#else
// Constants may be made with these.
#define METAL_CONSTANT constexpr
template <class To, class From> METAL_INLINE constexpr To as_type(From from) {
  static_assert(sizeof(To) == sizeof(From), "as_type: the sizes differ");
  if constexpr (__is_trivially_copyable(To) && __is_trivially_copyable(From)) {
    return __builtin_bit_cast(To, from);
  } else {
    To to{};
    METAL_COPY(&to, &from, sizeof to);
    return to;
  }
}
#endif

#ifdef __CUDACC__
METAL_INLINE ushort half_bits(float value) {
  ushort bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
METAL_INLINE float half_value(ushort bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}
METAL_INLINE ushort bfloat_bits(float value) {
  ushort bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
#else
// Rounds to nearest, ties to even, in integers, so that the result is the same on every host.
METAL_INLINE METAL_CONSTANT ushort half_bits(METAL_SINGLE value) {
  uint bits = as_type<uint>(value), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x7f800000u) return ushort(sign | (magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u));
  if (magnitude >= 0x477ff000u) {
    METAL_BECOMES_INFINITE(value);
    return ushort(sign | 0x7c00u);
  }
  if (magnitude <= 0x33000000u) return ushort(sign);
  int exponent = int(magnitude >> 23) - 127;
  uint significand = (magnitude & 0x7fffffu) | 0x800000u;
  int shift = exponent < -14 ? -1 - exponent : 13;
  uint kept = significand >> shift, rest = significand & ((1u << shift) - 1u), tie = 1u << (shift - 1);
  kept += uint(rest > tie || (rest == tie && (kept & 1u)));
  return ushort(sign | (exponent < -14 ? kept : kept + (uint(exponent + 14) << 10)));
}
METAL_INLINE METAL_CONSTANT METAL_SINGLE half_value(ushort bits) {
  uint sign = uint(bits & 0x8000u) << 16, exponent = (bits >> 10) & 31u, fraction = bits & 0x3ffu;
  if (exponent == 31) return as_type<METAL_SINGLE>(sign | 0x7f800000u | (fraction << 13));
  if (exponent == 0) return as_type<METAL_SINGLE>(sign | as_type<uint>(METAL_SINGLE(fraction) * 5.9604644775390625e-8f));
  return as_type<METAL_SINGLE>(sign | ((exponent + 112u) << 23) | (fraction << 13));
}
METAL_INLINE METAL_CONSTANT ushort bfloat_bits(METAL_SINGLE value) {
  uint bits = as_type<uint>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return ushort((bits >> 16) | 0x40u);
  return ushort((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
#endif
METAL_INLINE METAL_CONSTANT METAL_SINGLE bfloat_value(ushort bits) { return as_type<METAL_SINGLE>(uint(bits) << 16); }

struct from_bits {};
// `half` converts a float implicitly; `bfloat` needs a cast for everything but integers.
#define METAL_FROM_FLOAT(NAME, ENCODE) METAL_INLINE METAL_CONSTANT NAME(float value) : bits(ENCODE(METAL_SINGLE(value))) {}
#define METAL_FROM_CAST(NAME, ENCODE)                                                                                 \
  METAL_INLINE METAL_CONSTANT explicit NAME(float value) : bits(ENCODE(METAL_SINGLE(value))) {}                                                    \
  template <class I, class = enable_if_t<is_integral_v<I>>> METAL_INLINE METAL_CONSTANT NAME(I value) : bits(ENCODE(METAL_SINGLE(value))) {}
#ifndef METAL_SMALL_MEMBERS
#define METAL_SMALL_MEMBERS(NAME)
#endif
#define METAL_SMALL_FLOAT(NAME, ENCODE, DECODE, CONVERT)                                   \
  struct NAME {                                                                            \
    ushort bits;                                                                           \
    METAL_SMALL_MEMBERS(NAME)                                                              \
    NAME() = default;                                                                      \
    METAL_INLINE constexpr NAME(from_bits, ushort bits) : bits(bits) {}                    \
    CONVERT(NAME, ENCODE)                                                                  \
    METAL_INLINE METAL_CONSTANT operator float() const { return DECODE(bits); }                           \
    METAL_INLINE NAME& operator+=(float b) { return *this = METAL_SUM(*this, b, NAME(float(*this) + b)); } \
    METAL_INLINE NAME& operator-=(float b) { return *this = METAL_SUM(*this, b, NAME(float(*this) - b)); } \
    METAL_INLINE NAME& operator*=(float b) { return *this = NAME(float(*this) * b); }      \
    METAL_INLINE NAME& operator/=(float b) { return *this = NAME(float(*this) / b); }      \
  };
METAL_SMALL_FLOAT(half, half_bits, half_value, METAL_FROM_FLOAT)
METAL_SMALL_FLOAT(bfloat, bfloat_bits, bfloat_value, METAL_FROM_CAST)
#undef METAL_SMALL_FLOAT

template <class T> constexpr bool is_small_float_v = is_same_v<T, half> || is_same_v<T, bfloat>;
template <class T> constexpr bool is_floating_point_v = is_same_v<T, float> || is_small_float_v<T>;
template <class T> struct is_floating_point : bool_constant<is_floating_point_v<T>> {};
template <class T> constexpr bool is_scalar_v = is_integral_v<T> || is_floating_point_v<T>;
template <class T> constexpr bool is_arithmetic_v = is_scalar_v<T>;

template <class T> METAL_INLINE constexpr enable_if_t<is_small_float_v<T>, T> operator-(T a) { return T(from_bits(), ushort(a.bits ^ 0x8000)); }
// Two of one small type, or one with an integer, give that type, rounded at each step; with a float they give float.
#define METAL_SMALL_OPERATOR(OP, ROUNDED)                                                                         \
  template <class A, class B>                                                                                     \
  METAL_INLINE enable_if_t<is_small_float_v<A> && (is_same_v<A, B> || is_integral_v<B>), A> operator OP(A a, B b) { \
    return ROUNDED(a, float(b), A(float(a) OP float(A(float(b)))));                                               \
  }                                                                                                               \
  template <class A, class B>                                                                                     \
  METAL_INLINE enable_if_t<is_integral_v<A> && is_small_float_v<B>, B> operator OP(A a, B b) {                    \
    return B(float(B(float(a))) OP float(b));                                                                     \
  }
#define METAL_ROUNDED(A, B, RESULT) RESULT
METAL_SMALL_OPERATOR(+, METAL_SUM) METAL_SMALL_OPERATOR(-, METAL_SUM)
METAL_SMALL_OPERATOR(/, METAL_ROUNDED)
#ifndef METAL_CONTRACTS
METAL_SMALL_OPERATOR(*, METAL_ROUNDED)
#endif
#undef METAL_SMALL_OPERATOR

// The arms of `c ? a : b` if one is a small float and the other is another number.
template <class A, class B> struct arms { static constexpr bool differ = false; typedef A type; };
template <> struct arms<half, float> { static constexpr bool differ = true; typedef float type; };
template <> struct arms<half, bfloat> : arms<half, float> {};
template <class A, class B> struct mixed_arms
    : conditional_t<is_small_float_v<A> && is_integral_v<B>, arms<half, float>, arms<A, B>> {
  typedef conditional_t<is_small_float_v<A> && is_integral_v<B>, A, typename arms<A, B>::type> type;
};
template <class A, class B, class T> METAL_INLINE constexpr decltype(auto) arm(T&& value) {
  typedef remove_cvref_t<A> P;
  typedef remove_cvref_t<B> Q;
  if constexpr (mixed_arms<P, Q>::differ) return typename mixed_arms<P, Q>::type(value);
  else if constexpr (mixed_arms<Q, P>::differ) return typename mixed_arms<Q, P>::type(value);
  else return static_cast<T&&>(value);
}

// ---- vectors --------------------------------------------------------------------------------------------------------

// What `.xyz` in a kernel is rewritten to: `.swizzle(components<0, 1, 2>())` where it is read,
// `.lanes(components<0, 1, 2>())` where it is assigned.
template <int... I> struct components {};
template <class V, int... I> struct lanes_of;

template <class T, int N> struct vec;

#define METAL_VECTOR_COMMON(N)                                                                                   \
  typedef T component;                                                                                           \
  static constexpr int width = N;                                                                                \
  vec() = default;                                                                                               \
  METAL_INLINE T& operator[](int i) { METAL_CHECK_COMPONENT(i, N); return reinterpret_cast<T*>(this)[i]; }        \
  METAL_INLINE const T& operator[](int i) const {                                                                \
    METAL_CHECK_COMPONENT(i, N);                                                                                 \
    return reinterpret_cast<const T*>(this)[i];                                                                  \
  }                                                                                                              \
  template <int... I> METAL_INLINE vec<T, int(sizeof...(I))> swizzle(components<I...>) const {                   \
    return vec<T, int(sizeof...(I))>((*this)[I]...);                                                             \
  }                                                                                                              \
  template <int... I> METAL_INLINE lanes_of<vec, I...> lanes(components<I...>) { return lanes_of<vec, I...>{*this}; }

// The scalars of a vector's constructor, each converted.
#define METAL_ONE template <class A, class = enable_if_t<is_scalar_v<A>>>
#define METAL_TWO template <class A, class B, class = enable_if_t<is_scalar_v<A> && is_scalar_v<B>>>
#define METAL_THREE template <class A, class B, class C, class = enable_if_t<is_scalar_v<A> && is_scalar_v<B> && is_scalar_v<C>>>
#define METAL_FOUR                          \
  template <class A, class B, class C, class D, \
            class = enable_if_t<is_scalar_v<A> && is_scalar_v<B> && is_scalar_v<C> && is_scalar_v<D>>>
// Clang checks the alignment of members only, so a whole vector must be copied member by member.
#if defined(__clang__) && defined(METAL_CASTS)
#define METAL_COPIES(...)                                                \
  METAL_INLINE vec(const vec& o) : __VA_ARGS__ {}                        \
  METAL_INLINE vec& operator=(const vec& o) {                            \
    for (int i = 0; i < width; ++i) (&x)[i] = (&o.x)[i];                 \
    return *this;                                                        \
  }
#else
#define METAL_COPIES(...)
#endif
template <class T> struct alignas(2 * sizeof(T)) vec<T, 2> {
  union { T x, r; };
  union { T y, g; };
  METAL_COPIES(x(o.x), y(o.y))
  METAL_VECTOR_COMMON(2)
  METAL_ONE METAL_INLINE vec(A s) : x(T(s)), y(T(s)) {}
  METAL_TWO METAL_INLINE vec(A a, B b) : x(T(a)), y(T(b)) {}
  template <class U> METAL_INLINE explicit vec(vec<U, 2> o) : x(T(o.x)), y(T(o.y)) {}
};
template <class T> struct alignas(4 * sizeof(T)) vec<T, 3> {
  union { T x, r; };
  union { T y, g; };
  union { T z, b; };
  METAL_COPIES(x(o.x), y(o.y), z(o.z))
  METAL_VECTOR_COMMON(3)
  METAL_ONE METAL_INLINE vec(A s) : x(T(s)), y(T(s)), z(T(s)) {}
  METAL_THREE METAL_INLINE vec(A a, B b, C c) : x(T(a)), y(T(b)), z(T(c)) {}
  METAL_ONE METAL_INLINE vec(vec<T, 2> a, A b) : x(a.x), y(a.y), z(T(b)) {}
  METAL_ONE METAL_INLINE vec(A a, vec<T, 2> b) : x(T(a)), y(b.x), z(b.y) {}
  template <class U> METAL_INLINE explicit vec(vec<U, 3> o) : x(T(o.x)), y(T(o.y)), z(T(o.z)) {}
};
template <class T> struct alignas(4 * sizeof(T)) vec<T, 4> {
  union { T x, r; };
  union { T y, g; };
  union { T z, b; };
  union { T w, a; };
  METAL_COPIES(x(o.x), y(o.y), z(o.z), w(o.w))
  METAL_VECTOR_COMMON(4)
  METAL_ONE METAL_INLINE vec(A s) : x(T(s)), y(T(s)), z(T(s)), w(T(s)) {}
  METAL_FOUR METAL_INLINE vec(A a, B b, C c, D d) : x(T(a)), y(T(b)), z(T(c)), w(T(d)) {}
  METAL_TWO METAL_INLINE vec(vec<T, 2> a, A b, B c) : x(a.x), y(a.y), z(T(b)), w(T(c)) {}
  METAL_TWO METAL_INLINE vec(A a, vec<T, 2> b, B c) : x(T(a)), y(b.x), z(b.y), w(T(c)) {}
  METAL_TWO METAL_INLINE vec(A a, B b, vec<T, 2> c) : x(T(a)), y(T(b)), z(c.x), w(c.y) {}
  METAL_INLINE vec(vec<T, 2> a, vec<T, 2> b) : x(a.x), y(a.y), z(b.x), w(b.y) {}
  METAL_ONE METAL_INLINE vec(vec<T, 3> a, A b) : x(a.x), y(a.y), z(a.z), w(T(b)) {}
  METAL_ONE METAL_INLINE vec(A a, vec<T, 3> b) : x(T(a)), y(b.x), z(b.y), w(b.z) {}
  template <class U> METAL_INLINE explicit vec(vec<U, 4> o) : x(T(o.x)), y(T(o.y)), z(T(o.z)), w(T(o.w)) {}
};
#undef METAL_VECTOR_COMMON

#define METAL_EACH(N, EXPRESSION)              \
  for (int i = 0; i < N; ++i) r[i] = EXPRESSION; \
  return r;

#define METAL_VECTOR_OPERATOR(OP, ...)                                                                          \
  template <class T, int N> METAL_INLINE vec<T, N> operator OP(vec<T, N> a, vec<T, N> b) {                      \
    vec<T, N> r; METAL_EACH(N, T(a[i] OP __VA_ARGS__ b[i]))                                                     \
  }                                                                                                             \
  template <class T, int N, class S>                                                                            \
  METAL_INLINE enable_if_t<is_scalar_v<S>, vec<T, N>> operator OP(vec<T, N> a, S b) { return a OP vec<T, N>(T(b)); } \
  template <class T, int N, class S>                                                                            \
  METAL_INLINE enable_if_t<is_scalar_v<S>, vec<T, N>> operator OP(S a, vec<T, N> b) { return vec<T, N>(T(a)) OP b; } \
  template <class T, int N> METAL_INLINE vec<T, N>& operator OP##=(vec<T, N>& a, type_identity_t<vec<T, N>> b) { \
    return a = a OP b;                                                                                          \
  }
METAL_VECTOR_OPERATOR(+) METAL_VECTOR_OPERATOR(-) METAL_VECTOR_OPERATOR(*) METAL_VECTOR_OPERATOR(/)
METAL_VECTOR_OPERATOR(%) METAL_VECTOR_OPERATOR(&) METAL_VECTOR_OPERATOR(|) METAL_VECTOR_OPERATOR(^)
METAL_VECTOR_OPERATOR(<<, shift() *) METAL_VECTOR_OPERATOR(>>, shift() *)
#undef METAL_VECTOR_OPERATOR

#define METAL_VECTOR_COMPARISON(OP)                                                                                \
  template <class T, int N> METAL_INLINE vec<bool, N> operator OP(vec<T, N> a, vec<T, N> b) {                      \
    vec<bool, N> r; METAL_EACH(N, a[i] OP b[i])                                                                    \
  }                                                                                                                \
  template <class T, int N, class S>                                                                               \
  METAL_INLINE enable_if_t<is_scalar_v<S>, vec<bool, N>> operator OP(vec<T, N> a, S b) { return a OP vec<T, N>(T(b)); } \
  template <class T, int N, class S>                                                                               \
  METAL_INLINE enable_if_t<is_scalar_v<S>, vec<bool, N>> operator OP(S a, vec<T, N> b) { return vec<T, N>(T(a)) OP b; }
METAL_VECTOR_COMPARISON(==) METAL_VECTOR_COMPARISON(!=) METAL_VECTOR_COMPARISON(<)
METAL_VECTOR_COMPARISON(<=) METAL_VECTOR_COMPARISON(>) METAL_VECTOR_COMPARISON(>=)
METAL_VECTOR_COMPARISON(&&) METAL_VECTOR_COMPARISON(||)
#undef METAL_VECTOR_COMPARISON

template <class T, int N> METAL_INLINE vec<T, N> operator-(vec<T, N> a) { vec<T, N> r; METAL_EACH(N, T(-a[i])) }
template <class T, int N> METAL_INLINE vec<T, N> operator~(vec<T, N> a) { vec<T, N> r; METAL_EACH(N, T(~a[i])) }
template <class T, int N> METAL_INLINE vec<T, N> operator+(vec<T, N> a) { return a; }
#define METAL_STEP(OP, BY)                                                                                       \
  template <class T, int N> METAL_INLINE vec<T, N>& operator OP(vec<T, N>& a) { return a BY T(1); }               \
  template <class T, int N> METAL_INLINE vec<T, N> operator OP(vec<T, N>& a, int) { vec<T, N> before = a; a BY T(1); return before; }
METAL_STEP(++, +=)
METAL_STEP(--, -=)
#undef METAL_STEP
template <int N> METAL_INLINE vec<bool, N> operator!(vec<bool, N> a) { vec<bool, N> r; METAL_EACH(N, !a[i]) }

template <class V, int... I> struct lanes_of {
  static constexpr int count = int(sizeof...(I));
  typedef vec<typename V::component, count> chosen;
  V& target;
  METAL_INLINE chosen value() const { return target.swizzle(components<I...>()); }
  METAL_INLINE void operator=(chosen from) {
    int next = 0;
    ((target[I] = from[next++]), ...);
  }
  METAL_INLINE void operator+=(chosen b) { *this = value() + b; }
  METAL_INLINE void operator-=(chosen b) { *this = value() - b; }
  METAL_INLINE void operator*=(chosen b) { *this = value() * b; }
  METAL_INLINE void operator/=(chosen b) { *this = value() / b; }
};

// Packed vectors have the alignment of their component. Arithmetic converts to the plain vector.
template <class T, int N> struct packed_vec;
#define METAL_PACKED(N, ...)                                                                                         \
  template <class T> struct packed_vec<T, N> {                                                                       \
    typedef T component;                                                                                             \
    __VA_ARGS__                                                                                                      \
    packed_vec() = default;                                                                                          \
    METAL_INLINE packed_vec(vec<T, N> v) { for (int i = 0; i < N; ++i) (*this)[i] = v[i]; }                          \
    template <class... A> METAL_INLINE explicit packed_vec(A... from) : packed_vec(vec<T, N>(from...)) {}            \
    METAL_INLINE operator vec<T, N>() const { vec<T, N> r; METAL_EACH(N, (*this)[i]) }                               \
    METAL_INLINE T& operator[](int i) { METAL_CHECK_COMPONENT(i, N); return reinterpret_cast<T*>(this)[i]; }          \
    METAL_INLINE const T& operator[](int i) const { METAL_CHECK_COMPONENT(i, N); return reinterpret_cast<const T*>(this)[i]; } \
    template <int... I> METAL_INLINE vec<T, int(sizeof...(I))> swizzle(components<I...>) const {                     \
      return vec<T, int(sizeof...(I))>((*this)[I]...);                                                               \
    }                                                                                                                \
    template <int... I> METAL_INLINE lanes_of<packed_vec, I...> lanes(components<I...>) { return lanes_of<packed_vec, I...>{*this}; } \
  };
METAL_PACKED(2, union { T x, r; }; union { T y, g; };)
METAL_PACKED(3, union { T x, r; }; union { T y, g; }; union { T z, b; };)
METAL_PACKED(4, union { T x, r; }; union { T y, g; }; union { T z, b; }; union { T w, a; };)
#undef METAL_PACKED
#define METAL_PACKED_OPERATOR(OP)                                                                                    \
  template <class T, int N> METAL_INLINE vec<T, N> operator OP(packed_vec<T, N> a, type_identity_t<vec<T, N>> b) { return vec<T, N>(a) OP b; } \
  template <class T, int N> METAL_INLINE vec<T, N> operator OP(vec<T, N> a, packed_vec<T, N> b) { return a OP vec<T, N>(b); } \
  template <class T, int N> METAL_INLINE vec<T, N> operator OP(packed_vec<T, N> a, packed_vec<T, N> b) { return vec<T, N>(a) OP vec<T, N>(b); } \
  template <class T, int N, class S>                                                                                 \
  METAL_INLINE enable_if_t<is_scalar_v<S>, vec<T, N>> operator OP(S a, packed_vec<T, N> b) { return a OP vec<T, N>(b); } \
  template <class T, int N> METAL_INLINE packed_vec<T, N>& operator OP##=(packed_vec<T, N>& a, type_identity_t<vec<T, N>> b) { \
    return a = packed_vec<T, N>(vec<T, N>(a) OP b);                                                                  \
  }
METAL_PACKED_OPERATOR(+) METAL_PACKED_OPERATOR(-) METAL_PACKED_OPERATOR(*) METAL_PACKED_OPERATOR(/)
#undef METAL_PACKED_OPERATOR

// Metal's `array`.
template <class T, size_t N> struct array {
  T elements[N];
  METAL_INLINE constexpr T& operator[](size_t i) { return elements[i]; }
  METAL_INLINE constexpr const T& operator[](size_t i) const { return elements[i]; }
  METAL_INLINE static constexpr size_t size() { return N; }
};

#define METAL_VECTORS(T)                                                                 \
  typedef vec<T, 2> T##2; typedef vec<T, 3> T##3; typedef vec<T, 4> T##4;                \
  typedef packed_vec<T, 2> packed_##T##2; typedef packed_vec<T, 3> packed_##T##3; typedef packed_vec<T, 4> packed_##T##4;
METAL_VECTORS(bool) METAL_VECTORS(char) METAL_VECTORS(uchar) METAL_VECTORS(short) METAL_VECTORS(ushort)
METAL_VECTORS(int) METAL_VECTORS(uint) METAL_VECTORS(long) METAL_VECTORS(ulong)
METAL_VECTORS(half) METAL_VECTORS(bfloat) METAL_VECTORS(float)
#undef METAL_VECTORS

// The component type of a scalar or vector.
template <class T> struct component_of { typedef T type; };
template <class T, int N> struct component_of<vec<T, N>> { typedef T type; };
template <class T, int N> struct component_of<packed_vec<T, N>> { typedef T type; };
template <class T> using component_of_t = typename component_of<T>::type;

typedef half float16_t;
typedef bfloat bfloat16_t;

} // namespace metal
