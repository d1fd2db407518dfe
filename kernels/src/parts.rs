//! Rows that a simdgroup reads four columns at a time.

/// The columns that a lane reads at once: four if the length of a row is a multiple of four, else one.
pub(crate) const PARTS: &str = "
template <typename T, int W> using part_of = conditional_t<W % 4 == 0, vec<T, 4>, T>;
template <int W> using floats_of_part = conditional_t<W % 4 == 0, float4, float>;
template <int W> constexpr int parts_of_row() { return W % 4 == 0 ? W / 4 : W; }
template <typename T> inline float4 part_as_floats(vec<T, 4> part) {
  return float4(float(part.x), float(part.y), float(part.z), float(part.w));
}
template <typename T> inline float part_as_floats(T part) { return float(part); }
template <typename T> inline vec<T, 4> rounded_part(float4 part) { return vec<T, 4>(T(part.x), T(part.y), T(part.z), T(part.w)); }
template <typename T> inline T rounded_part(float part) { return T(part); }
inline float sum_of_part(float4 part) { return (part.x + part.y) + (part.z + part.w); }
inline float sum_of_part(float part) { return part; }
";
