// Roundings from more than 24 bits to few, done once.

namespace metal {

// To the nearest float toward zero, its last bit set if anything is lost: a second rounding then gives the right result.
template <class T> METAL_UNWATCHED float to_odd(T value) {
  float near = float(value);
  if (!(near == near) || T(near) == value) return near;
  uint bits = as_type<uint>(near);
  if ((near < 0 ? -T(near) : T(near)) > (value < 0 ? -value : value)) --bits;
  return as_type<float>(bits | 1u);
}

} // namespace metal
