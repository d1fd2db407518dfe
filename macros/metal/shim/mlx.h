// Functions that MLX puts in front of every custom kernel, and that published kernels use.

namespace metal {
// ln(1 + x) from the rounded 1 + x, after Kahan.
METAL_INLINE float log1p(float x) {
  float one = 1.0f + x;
  if (isinf(one)) return one;
  return one == 1.0f ? x : x * (log(one) / (one - 1.0f));
}
METAL_INLINE bfloat log1p(bfloat x) { return bfloat(log1p(float(x))); }
} // namespace metal

template <class T> struct Limits {
  static constexpr T max = metal::numeric_limits<T>::max(), min = metal::numeric_limits<T>::lowest();
  static constexpr T finite_max = max, finite_min = min;
};
#define METAL_LIMITS(T)                                                                                               \
  template <> struct Limits<T> {                                                                                      \
    static constexpr T max = metal::numeric_limits<T>::infinity(), min = metal::numeric_limits<T>::negative_infinity(); \
    static constexpr T finite_max = metal::numeric_limits<T>::max(), finite_min = metal::numeric_limits<T>::lowest(); \
  };
METAL_LIMITS(float) METAL_LIMITS(metal::half) METAL_LIMITS(metal::bfloat)
#undef METAL_LIMITS

// The offset of the element with row-major number `element` in an array of any strides, in the type of that number: where it
// is unsigned, so is the arithmetic.
template <class Index = long>
METAL_INLINE Index elem_to_loc(Index element, const int* shape, const long* strides, int ndim) {
  Index offset = 0;
  for (int axis = ndim - 1; axis >= 0; --axis) {
    offset += Index(element % shape[axis]) * Index(strides[axis]);
    element /= shape[axis];
  }
  return offset;
}
// Returns the offset of a position: x and y along the last two axes, z along all others.
template <class Index = long>
METAL_INLINE Index elem_to_loc(metal::uint3 element, const int* shape, const long* strides, int ndim) {
  Index offset = Index(element.x) * Index(strides[ndim - 1]) + Index(element.y) * Index(strides[ndim - 2]);
  for (int axis = ndim - 3; axis >= 0; --axis) {
    offset += Index(element.z % shape[axis]) * Index(strides[axis]);
    element.z /= shape[axis];
  }
  return offset;
}
template <class T, class U> METAL_INLINE T ceildiv(T n, U by) { return (n + by - 1) / by; }
