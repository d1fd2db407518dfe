// MLX's functions of `bfloat`, under names that only Apple's compiler knows: they compute in float and round once.
// Those of namespace `metal` are in `math.h` and `simd.h`.
#define METAL_BFLOAT_ONE(NAME) inline bfloat NAME(bfloat x) { return bfloat(NAME(float(x))); }
#define METAL_BFLOAT_TWO(NAME) inline bfloat NAME(bfloat x, bfloat y) { return bfloat(NAME(float(x), float(y))); }
#define METAL_BFLOAT_FUNCTIONS                                                                                            \
  METAL_BFLOAT_ONE(acos) METAL_BFLOAT_ONE(acosh) METAL_BFLOAT_ONE(asin) METAL_BFLOAT_ONE(asinh) METAL_BFLOAT_ONE(atan)    \
  METAL_BFLOAT_ONE(atanh) METAL_BFLOAT_ONE(ceil) METAL_BFLOAT_ONE(cos) METAL_BFLOAT_ONE(cosh) METAL_BFLOAT_ONE(exp)       \
  METAL_BFLOAT_ONE(exp2) METAL_BFLOAT_ONE(fabs) METAL_BFLOAT_ONE(floor) METAL_BFLOAT_ONE(log) METAL_BFLOAT_ONE(log10)     \
  METAL_BFLOAT_ONE(log2) METAL_BFLOAT_ONE(rint) METAL_BFLOAT_ONE(round) METAL_BFLOAT_ONE(rsqrt) METAL_BFLOAT_ONE(sin)     \
  METAL_BFLOAT_ONE(sinh) METAL_BFLOAT_ONE(sqrt) METAL_BFLOAT_ONE(tan) METAL_BFLOAT_ONE(tanh) METAL_BFLOAT_ONE(trunc)      \
  METAL_BFLOAT_TWO(atan2) METAL_BFLOAT_TWO(fmax) METAL_BFLOAT_TWO(fmin) METAL_BFLOAT_TWO(fmod) METAL_BFLOAT_TWO(pow)
namespace metal {
namespace fast { METAL_BFLOAT_FUNCTIONS }
namespace precise { METAL_BFLOAT_FUNCTIONS }
}
// In Metal a `half` prefers a function of floats to one of complex numbers. Here both would convert a class.
inline float log1p(float x);
inline float log1p(half x) { return log1p(float(x)); }
