// The host build: a kernel as C++ that calls back into the emulator wherever threads meet or memory is touched.
// Address-space words are removed from the text before it gets here.
#pragma once

typedef __SIZE_TYPE__ size_t;
typedef __UINTPTR_TYPE__ uintptr_t;
typedef __INTPTR_TYPE__ intptr_t;
typedef __PTRDIFF_TYPE__ ptrdiff_t;
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;

// With `float` as `double`, `METAL_SINGLE` is what a `half` or `bfloat` is made from, bit by bit.
typedef float METAL_SINGLE;
#ifdef METAL_DOUBLE
#define float double
#endif

#define METAL_INLINE inline __attribute__((always_inline))
#define METAL_STATIC static METAL_INLINE
#define METAL_UNWATCHED __attribute__((no_sanitize("thread"), no_sanitize("undefined"), no_sanitize("float-cast-overflow")))
#define METAL_COPY __builtin_memcpy
#define METAL_FUNC inline __attribute__((always_inline))

// ---- the emulator's side --------------------------------------------------------------------------------------------

namespace emulator {

typedef void (*Combine)(void* const* operands, unsigned present);

enum Access : unsigned { READ = 0, WRITE = 1, ATOMIC_READ = 2, ATOMIC_WRITE = 3, ATOMIC_UPDATE = 7 };
enum Reason : unsigned {
  COMPONENT_OUT_OF_BOUNDS, ARRAY_OUT_OF_BOUNDS, DIVISION_BY_ZERO, WRAPPED_INDEX, ABSENT_LANE, NAN_OPERAND,
  SIGNED_OVERFLOW, MISALIGNED, UNSET_PRIVATE, HALF_INFINITE, SUM_STAYS, FLOAT_TO_INTEGER,
  PRIVATE_BOUNDS = 32
};

struct Region { unsigned long begin, end; unsigned long read_freely; };

// A private variable that was declared without a value.
struct Private { const void* at; unsigned long bytes; const char* name; };
constexpr unsigned PRIVATES = 8;

// Each thread has one, at a known place in its stack. The Rust side declares the same fields in the same order.
struct Context {
  const unsigned char* device_begin;
  unsigned long device_bytes;
  const Region* regions;
  const unsigned short* region_of_page;
  void (*access)(Context*, const void* address, unsigned long bytes, unsigned kind, const void* pc);
  void (*collective)(Context*, void* operand, Combine, unsigned site, unsigned width);
  void (*barrier)(Context*, unsigned site, unsigned flags, unsigned simdgroup_only);
  void* (*threadgroup_array)(Context*, unsigned id, unsigned long bytes, unsigned long element, unsigned dtype, const char* name);
  void (*fault)(Context*, unsigned reason, long found, long limit, unsigned site, const void* pc);
  void (*endless)(Context*, const void* pc);
  unsigned lane;
  // How many more turns of loops this thread may make.
  unsigned turns;
  // Which calls of helpers this thread is in.
  unsigned path;
  // Between these addresses of the stack there may be bytes that nothing has set. A bit for each byte of the stack lies
  // at its bottom.
  unsigned long unset_begin, unset_end;
  Private privates[PRIVATES];
};

constexpr unsigned long STACK_SHIFT = 18, COLOURS = 64, COLOUR_BYTES = 832, TOP_BYTES = 640;
constexpr unsigned long PAGE_SHIFT = 16;

METAL_INLINE METAL_UNWATCHED Context* context() {
  unsigned long stack = (unsigned long)__builtin_frame_address(0) >> STACK_SHIFT;
  return (Context*)(((stack + 1) << STACK_SHIFT) - TOP_BYTES - (stack % COLOURS) * COLOUR_BYTES);
}

// Out of line, so that the return address is the place in the kernel.
inline __attribute__((noinline, cold)) METAL_UNWATCHED void component_out_of_bounds(int index, int count) {
  Context* c = context();
  c->fault(c, COMPONENT_OUT_OF_BOUNDS, index, count, 0, __builtin_return_address(0));
}

inline __attribute__((noinline, cold)) METAL_UNWATCHED void turns_are_spent() {
  Context* c = context();
  c->endless(c, __builtin_return_address(0));
}
inline __attribute__((noinline)) METAL_UNWATCHED unsigned enter_call(unsigned number) {
  Context* c = context();
  unsigned before = c->path;
  c->path = before * 31 + number + 1;
  return before;
}
inline __attribute__((noinline)) METAL_UNWATCHED void leave_call(unsigned before) { context()->path = before; }
#ifndef __x86_64__
inline __attribute__((noinline)) METAL_UNWATCHED bool take_turn(Context* c) { return c->turns ? (--c->turns, true) : false; }
#endif

} // namespace emulator

namespace metal {
// Lives as long as a call of a helper in which threads meet.
template <unsigned NUMBER> struct call_path {
  unsigned before;
  METAL_INLINE call_path() : before(emulator::enter_call(NUMBER)) {}
  METAL_INLINE ~call_path() { emulator::leave_call(before); }
};
// Counts each turn of a loop. It is assembly, because other code inlined into the kernel would be watched as its own access.
METAL_INLINE METAL_UNWATCHED bool turn() {
  emulator::Context* c = emulator::context();
#ifdef __x86_64__
  bool spent;
  __asm__ volatile("subl $1, %1" : "=@ccc"(spent), "+m"(c->turns));
#else
  bool spent = !emulator::take_turn(c);
#endif
  if (__builtin_expect(spent, 0)) emulator::turns_are_spent();
  return true;
}
} // namespace metal

extern "C" void metal_unset(void* place, unsigned long bytes, const char* name);
extern "C" void metal_leave(void* place, unsigned long bytes);
// Announces what code that is not watched has written, or is about to read.
extern "C" void __tsan_write_range(void*, unsigned long);
extern "C" void __tsan_read_range(void*, unsigned long);

// Notes something that is no defect but worth knowing: out of line, with the place in the kernel.
namespace emulator {
inline __attribute__((noinline, cold)) METAL_UNWATCHED void becomes_infinite() {
  Context* c = context();
  c->fault(c, HALF_INFINITE, 0, 0, 0, __builtin_return_address(0));
}
inline __attribute__((noinline, cold)) METAL_UNWATCHED void sum_stays(unsigned bits) {
  Context* c = context();
  c->fault(c, SUM_STAYS, long(bits), 0, 0, __builtin_return_address(0));
}
template <class T> METAL_INLINE METAL_UNWATCHED T sum_of(T before, float by, T after) {
  if (__builtin_expect(before.bits == after.bits && by != 0.0f, 0)) sum_stays(before.bits);
  return after;
}
} // namespace emulator
#define METAL_BECOMES_INFINITE(VALUE) emulator::becomes_infinite()
#define METAL_SUM(BEFORE, BY, AFTER) emulator::sum_of(BEFORE, BY, AFTER)

#define METAL_CHECK_COMPONENT(I, N) \
  if (unsigned(I) >= unsigned(N)) emulator::component_out_of_bounds(I, N)

#ifdef METAL_CONTRACTS
// The type that `contract.h` gives a product of two small floats.
namespace metal { template <class T> struct product; }
#define METAL_SMALL_MEMBERS(NAME)                  \
  METAL_INLINE NAME(product<NAME>);                \
  METAL_INLINE NAME& operator+=(product<NAME>);    \
  METAL_INLINE NAME& operator-=(product<NAME>);
#endif
#include "types.h"
#include "index.h"
#ifdef METAL_CONTRACTS
#include "contract.h"
#endif

// These are real calls: if a compiler folded them, results would depend on the compiler.
#ifdef METAL_DOUBLE
// The C library's functions of doubles have names here that differ from the kernel's own.
#ifdef __APPLE__
#define METAL_SYMBOL(N) __asm__("_" #N)
#else
#define METAL_SYMBOL(N) __asm__(#N)
#endif
#define METAL_LIBM(N) ::metal_double_##N
#else
#define METAL_LIBM(N) ::N##f
#endif
extern "C" {
#ifdef METAL_DOUBLE
#define METAL_FUNCTION(N, ...) double metal_double_##N(__VA_ARGS__) METAL_SYMBOL(N);
#else
#define METAL_FUNCTION(N, ...) float N##f(__VA_ARGS__);
#endif
#define METAL_DECLARE(N) METAL_FUNCTION(N, float)
METAL_DECLARE(exp) METAL_DECLARE(exp2) METAL_DECLARE(log) METAL_DECLARE(log2) METAL_DECLARE(log10) METAL_DECLARE(sqrt)
METAL_DECLARE(sin) METAL_DECLARE(cos) METAL_DECLARE(tan) METAL_DECLARE(asin) METAL_DECLARE(acos) METAL_DECLARE(atan)
METAL_DECLARE(sinh) METAL_DECLARE(cosh) METAL_DECLARE(tanh) METAL_DECLARE(asinh) METAL_DECLARE(acosh)
METAL_DECLARE(atanh) METAL_DECLARE(ceil) METAL_DECLARE(floor) METAL_DECLARE(trunc) METAL_DECLARE(rint)
METAL_DECLARE(round)
#undef METAL_DECLARE
METAL_FUNCTION(pow, float, float)
METAL_FUNCTION(atan2, float, float)
METAL_FUNCTION(fmod, float, float)
METAL_FUNCTION(fmin, float, float)
METAL_FUNCTION(fma, float, float, float)
METAL_FUNCTION(ldexp, float, int)
#undef METAL_FUNCTION
}
#define METAL_RSQRT(X) (1.0f / METAL_LIBM(sqrt)(X))

// This code is not the kernel's, so its products and sums are not contracted.
#ifdef METAL_CONTRACTS
#pragma clang fp contract(off)
#endif
#include "math.h"
#include "namespaces.h"
#include "simd.h"
#include "atomic.h"
#include "matrix.h"
#ifdef METAL_CONTRACTS
#pragma clang fp contract(on)
#endif
#ifndef METAL_WHOLE
#include "mlx.h"
#endif

namespace metal {

// ---- threadgroup memory ---------------------------------------------------------------------------------------------

// The numbers agree with `Dtype::ALL`; 255 is anything else.
template <class T> struct dtype_number { static constexpr unsigned value = 255; };
#define METAL_DTYPE(T, N) template <> struct dtype_number<T> { static constexpr unsigned value = N; };
METAL_DTYPE(bool, 0) METAL_DTYPE(signed char, 1) METAL_DTYPE(char, 1) METAL_DTYPE(short, 2) METAL_DTYPE(int, 3)
METAL_DTYPE(long, 4) METAL_DTYPE(uchar, 5) METAL_DTYPE(ushort, 6) METAL_DTYPE(uint, 7) METAL_DTYPE(ulong, 8)
METAL_DTYPE(half, 9) METAL_DTYPE(bfloat, 10)
#ifdef METAL_DOUBLE
METAL_DTYPE(float, 12)
#else
METAL_DTYPE(float, 11)
#endif
#undef METAL_DTYPE
template <class T> struct dtype_number<atomic<T>> : dtype_number<T> {};

template <class Array> struct element_of { typedef Array type; };
template <class T, unsigned long N> struct element_of<T[N]> : element_of<T> {};

template <class Array> METAL_INLINE METAL_UNWATCHED Array& threadgroup_array(unsigned id, const char* name) {
  typedef component_of_t<typename element_of<Array>::type> scalar;
  emulator::Context* c = emulator::context();
  return *(Array*)c->threadgroup_array(c, id, sizeof(Array), sizeof(scalar), dtype_number<scalar>::value, name);
}

// ---- private memory -------------------------------------------------------------------------------------------------

// Follows the declaration of a variable without a value. Compilers announce every access through a pointer that they
// cannot follow. A type with a constructor is set by it.
template <class T> METAL_INLINE METAL_UNWATCHED T& unset(T& variable, const char* name) {
  T* place = &variable;
  if constexpr (__is_trivially_constructible(T)) metal_unset((void*)place, sizeof(T), name);
  __asm__("" : "+r"(place));
  return *place;
}

// Ends with the variable's scope: its place on the stack may become that of a variable whose writes no compiler announces.
template <class T> struct scope_of {
  T& variable;
  METAL_INLINE METAL_UNWATCHED explicit scope_of(T& variable) : variable(variable) {}
  METAL_INLINE METAL_UNWATCHED ~scope_of() {
    if constexpr (__is_trivially_constructible(T)) metal_leave((void*)&variable, sizeof(T));
  }
};

// ---- barriers -------------------------------------------------------------------------------------------------------

enum class mem_flags : uint { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4, mem_threadgroup_imageblock = 8 };
METAL_INLINE constexpr mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags(uint(a) | uint(b)); }

template <uint SITE> METAL_INLINE METAL_UNWATCHED void threadgroup_barrier(mem_flags flags, site<SITE>) {
  emulator::Context* c = emulator::context();
  c->barrier(c, distinct<SITE>(), uint(flags), 0);
}
template <uint SITE> METAL_INLINE METAL_UNWATCHED void simdgroup_barrier(mem_flags flags, site<SITE>) {
  emulator::Context* c = emulator::context();
  c->barrier(c, distinct<SITE>(), uint(flags), 1);
}

} // namespace metal

// The order agrees with the Rust side.
struct Attributes {
  metal::uint3 thread_position_in_grid, thread_position_in_threadgroup, threadgroup_position_in_grid, threads_per_grid,
      threads_per_threadgroup, dispatch_threads_per_threadgroup, threadgroups_per_grid, grid_origin;
  uint thread_index_in_threadgroup, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, simdgroups_per_threadgroup,
      dispatch_simdgroups_per_threadgroup, thread_index_in_quadgroup, quadgroup_index_in_threadgroup,
      quadgroups_per_threadgroup, dispatch_quadgroups_per_threadgroup, threads_per_simdgroup;
};
#ifdef METAL_WHOLE
#include "whole.h"
#endif
