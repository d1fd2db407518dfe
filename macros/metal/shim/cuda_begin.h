// The CUDA build: the same types and functions as device code, for MLX's `cuda_kernel`, compiled by NVRTC.
#define METAL_INLINE __device__ __forceinline__
#define METAL_STATIC static __device__ __forceinline__
#define METAL_FUNC __device__ __forceinline__
#define METAL_COPY memcpy
#define METAL_SINGLE float
#define METAL_LIBM(N) ::N##f
#define METAL_RSQRT(X) ::rsqrtf(X)
#define METAL_CHECK_COMPONENT(I, N) ((void)0)

// They are in the namespace, because CUDA's own headers use these names differently from version to version.
namespace metal {
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
} // namespace metal
#define METAL_BECOMES_INFINITE(VALUE)
#define METAL_SUM(BEFORE, BY, AFTER) AFTER
