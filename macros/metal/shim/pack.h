// Vectors packed into integers (Metal Shading Language Specification, "Pack and Unpack Functions"): the first component lies in
// the lowest bits. `unorm` holds 0 to 1 as 0 to 2^bits - 1, `snorm` holds -1 to 1 as that of bits - 1 and its negative; to the
// nearest, ties to even. sRGB is IEC 61966-2-1, alpha excepted.

#ifndef METAL_PACK_FUNCTIONS
#define METAL_PACK_FUNCTIONS
namespace metal {

METAL_INLINE uint as_unorm(float x, float most) { return x > 0.0f ? uint(rint((x < 1.0f ? x : 1.0f) * most)) : 0u; }
METAL_INLINE uint as_snorm(float x, float most) { return isnan(x) ? 0u : uint(int(rint(fmin(fmax(x, -1.0f), 1.0f) * most))); }
METAL_INLINE float to_linear(float x) { return x <= 0.04045f ? x / 12.92f : pow((x + 0.055f) / 1.055f, 2.4f); }
METAL_INLINE float to_srgb(float x) { return !(x > 0.0f) ? 0.0f : x < 0.0031308f ? 12.92f * x : 1.055f * pow(x, float(1.0f / 2.4f)) - 0.055f; }

METAL_INLINE float4 unpack_unorm4x8_to_float(uint x) {
  return float4(x & 255u, (x >> 8) & 255u, (x >> 16) & 255u, x >> 24) / float(255);
}
METAL_INLINE float4 unpack_snorm4x8_to_float(uint x) {
  return max(float4(char(x & 255u), char((x >> 8) & 255u), char((x >> 16) & 255u), char(x >> 24)) / float(127), float4(float(-1)));
}
METAL_INLINE float4 unpack_unorm4x8_srgb_to_float(uint x) {
  float4 v = unpack_unorm4x8_to_float(x);
  return float4(to_linear(v.x), to_linear(v.y), to_linear(v.z), v.w);
}
METAL_INLINE float2 unpack_unorm2x16_to_float(uint x) { return float2(x & 65535u, x >> 16) / float(65535); }
METAL_INLINE float2 unpack_snorm2x16_to_float(uint x) { return max(float2(short(x & 65535u), short(x >> 16)) / float(32767), float2(float(-1))); }
METAL_INLINE float4 unpack_unorm10a2_to_float(uint x) {
  return float4((x & 1023u) / float(1023), ((x >> 10) & 1023u) / float(1023), ((x >> 20) & 1023u) / float(1023), (x >> 30) / float(3));
}

METAL_INLINE uint pack_float_to_unorm4x8(float4 v) {
  return as_unorm(v.x, 255.0f) | as_unorm(v.y, 255.0f) << 8 | as_unorm(v.z, 255.0f) << 16 | as_unorm(v.w, 255.0f) << 24;
}
METAL_INLINE uint pack_float_to_snorm4x8(float4 v) {
  uint4 bits(as_snorm(v.x, 127.0f), as_snorm(v.y, 127.0f), as_snorm(v.z, 127.0f), as_snorm(v.w, 127.0f));
  return (bits.x & 255u) | (bits.y & 255u) << 8 | (bits.z & 255u) << 16 | bits.w << 24;
}
METAL_INLINE uint pack_float_to_srgb_unorm4x8(float4 v) {
  return pack_float_to_unorm4x8(float4(to_srgb(v.x), to_srgb(v.y), to_srgb(v.z), v.w));
}
METAL_INLINE uint pack_float_to_unorm2x16(float2 v) { return as_unorm(v.x, 65535.0f) | as_unorm(v.y, 65535.0f) << 16; }
METAL_INLINE uint pack_float_to_snorm2x16(float2 v) { return (as_snorm(v.x, 32767.0f) & 65535u) | as_snorm(v.y, 32767.0f) << 16; }
METAL_INLINE uint pack_float_to_unorm10a2(float4 v) {
  return as_unorm(v.x, 1023.0f) | as_unorm(v.y, 1023.0f) << 10 | as_unorm(v.z, 1023.0f) << 20 | as_unorm(v.w, 3.0f) << 30;
}

// Does the same for half.
#define METAL_UNPACK(NAME, N) METAL_INLINE half##N NAME##_to_half(uint x) { return half##N(NAME##_to_float(x)); }
METAL_UNPACK(unpack_unorm4x8, 4) METAL_UNPACK(unpack_snorm4x8, 4) METAL_UNPACK(unpack_unorm4x8_srgb, 4)
METAL_UNPACK(unpack_unorm2x16, 2) METAL_UNPACK(unpack_snorm2x16, 2) METAL_UNPACK(unpack_unorm10a2, 4)
#undef METAL_UNPACK
#define METAL_PACK(NAME, N) METAL_INLINE uint pack_half_to_##NAME(half##N v) { return pack_float_to_##NAME(float##N(v)); }
METAL_PACK(unorm4x8, 4) METAL_PACK(snorm4x8, 4) METAL_PACK(srgb_unorm4x8, 4) METAL_PACK(unorm2x16, 2) METAL_PACK(snorm2x16, 2)
METAL_PACK(unorm10a2, 4)
#undef METAL_PACK

} // namespace metal
#endif
