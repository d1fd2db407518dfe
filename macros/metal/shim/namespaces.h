// Functions of `metal` that `fast` and `precise` have unchanged.
namespace metal {
#define METAL_ALSO_IN(SPACE)                                                                                          \
  namespace SPACE {                                                                                                   \
  using metal::fma; using metal::sincos; using metal::ldexp; using metal::modf; using metal::clamp; using metal::mix; \
  using metal::smoothstep; using metal::min; using metal::max; using metal::abs; using metal::min3; using metal::max3; \
  using metal::median3; using metal::fmin3; using metal::fmax3; using metal::fmedian3; using metal::dot;              \
  using metal::length; using metal::distance; using metal::normalize;                                                 \
  }
METAL_ALSO_IN(fast) METAL_ALSO_IN(precise)
#undef METAL_ALSO_IN
} // namespace metal
