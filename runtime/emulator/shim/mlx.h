// What MLX puts in front of every custom kernel and kernels in the wild lean on.

namespace metal {
METAL_INLINE float log1p(float x) { return METAL_LIBM(log1p)(x); }
METAL_INLINE float expm1f(float x) { return METAL_LIBM(expm1)(x); }
} // namespace metal

template <class T> struct Limits {
  METAL_STATIC T max() { return metal::numeric_limits<T>::max(); }
  METAL_STATIC T min() { return metal::numeric_limits<T>::lowest(); }
  METAL_STATIC T finite_max() { return metal::numeric_limits<T>::max(); }
  METAL_STATIC T finite_min() { return metal::numeric_limits<T>::lowest(); }
};
template <> struct Limits<float> {
  METAL_STATIC float max() { return metal::numeric_limits<float>::infinity(); }
  METAL_STATIC float min() { return -metal::numeric_limits<float>::infinity(); }
  METAL_STATIC float finite_max() { return FLT_MAX; }
  METAL_STATIC float finite_min() { return -FLT_MAX; }
};

// The offset of the element with row-major number `element` in an array of any strides.
template <class Index = long, class Element>
METAL_INLINE Index elem_to_loc(Element element, const int* shape, const long* strides, int ndim) {
  Index offset = 0;
  for (int axis = ndim - 1; axis >= 0; --axis) {
    offset += Index(element % shape[axis]) * Index(strides[axis]);
    element /= shape[axis];
  }
  return offset;
}
template <class T, class U> METAL_INLINE T ceildiv(T n, U by) { return (n + by - 1) / by; }
