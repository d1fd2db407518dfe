// Contraction of `half` and `bfloat`, which are classes here: a product stays one until something is added to it in the same
// expression, and is rounded with the sum. The rule is clang's for its own types: the left product first.
#include "once.h"

namespace metal {

template <class T> struct product {
  T a, b;
  METAL_INLINE T rounded() const { return T(float(a) * float(b)); }
  METAL_INLINE operator float() const { return float(rounded()); }
};

// a b + c. The product is exact in double.
template <class T> METAL_INLINE METAL_UNWATCHED T multiply_add(T a, T b, T c) {
  return T(to_odd(__builtin_fma(double(float(a)), double(float(b)), double(float(c)))));
}

template <class A, class B>
METAL_INLINE enable_if_t<is_small_float_v<A> && (is_same_v<A, B> || is_integral_v<B>), product<A>> operator*(A a, B b) {
  return product<A>{a, A(float(b))};
}
template <class A, class B> METAL_INLINE enable_if_t<is_integral_v<A> && is_small_float_v<B>, product<B>> operator*(A a, B b) {
  return product<B>{B(float(a)), b};
}

template <class T> METAL_INLINE T operator+(product<T> p, type_identity_t<T> c) { return multiply_add(p.a, p.b, c); }
template <class T> METAL_INLINE T operator+(type_identity_t<T> c, product<T> p) { return multiply_add(p.a, p.b, c); }
template <class T> METAL_INLINE T operator+(product<T> p, product<T> q) { return multiply_add(p.a, p.b, q.rounded()); }
template <class T> METAL_INLINE T operator-(product<T> p, type_identity_t<T> c) { return multiply_add(p.a, p.b, -c); }
template <class T> METAL_INLINE T operator-(type_identity_t<T> c, product<T> p) { return multiply_add(T(-p.a), p.b, c); }
template <class T> METAL_INLINE T operator-(product<T> p, product<T> q) { return multiply_add(p.a, p.b, -q.rounded()); }
template <class T> METAL_INLINE product<T> operator-(product<T> p) { return product<T>{-p.a, p.b}; }
// With a float a product is a float.
template <class T> METAL_INLINE float operator+(product<T> p, float c) { return float(p) + c; }
template <class T> METAL_INLINE float operator+(float c, product<T> p) { return c + float(p); }
template <class T> METAL_INLINE float operator-(product<T> p, float c) { return float(p) - c; }
template <class T> METAL_INLINE float operator-(float c, product<T> p) { return c - float(p); }
template <class T, class B> METAL_INLINE auto operator*(product<T> p, B b) { return p.rounded() * b; }
template <class T, class A> METAL_INLINE enable_if_t<is_scalar_v<A>, decltype(A() * T())> operator*(A a, product<T> p) { return a * p.rounded(); }
template <class T, class B> METAL_INLINE auto operator/(product<T> p, B b) { return p.rounded() / b; }
template <class T, class A> METAL_INLINE enable_if_t<is_scalar_v<A>, decltype(A() / T())> operator/(A a, product<T> p) { return a / p.rounded(); }

#define METAL_TAKES_PRODUCTS(T)                                                              \
  METAL_INLINE T::T(product<T> p) : bits(p.rounded().bits) {}                                \
  METAL_INLINE T& T::operator+=(product<T> p) { return *this = p + *this; }                  \
  METAL_INLINE T& T::operator-=(product<T> p) { return *this = *this - p; }
METAL_TAKES_PRODUCTS(half) METAL_TAKES_PRODUCTS(bfloat)
#undef METAL_TAKES_PRODUCTS

} // namespace metal
