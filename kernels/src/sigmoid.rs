//! The sigmoid in kernel sources.

/// `1 / (1 + exp(-x))` without a division, which costs a GPU ten instructions and a branch: the sum is at least 1, so that
/// a reciprocal root, which is one instruction, and its square are right to a few units in the last place.
pub(crate) const SIGMOID: &str = "
inline float sigmoid_of(float x) {
  float root = rsqrt(1.0f + exp(-x));
  return root * root;
}
";
