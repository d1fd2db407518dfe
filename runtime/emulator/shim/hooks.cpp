// The functions that the compiler's instrumentation calls: -fsanitize=thread for memory, -fsanitize=bounds and others
// for arithmetic. The sanitizers' own runtimes are not linked. Compiled once, linked into every kernel.
#include "host.h"

#define METAL_PC __builtin_return_address(0)

extern "C" {

// A bit for each of the (at most eight) bytes at `offset` of a stack.
METAL_INLINE METAL_UNWATCHED unsigned unset_mask(unsigned long offset, unsigned long bytes) {
  return ((1u << bytes) - 1u) << (offset & 7);
}
METAL_INLINE METAL_UNWATCHED unsigned short* unset_bits(unsigned long stack, unsigned long offset) {
  return (unsigned short*)(stack + offset / 8);
}
METAL_INLINE METAL_UNWATCHED bool is_unset(unsigned long stack, unsigned long offset, unsigned long bytes) {
  unsigned short bits;
  __builtin_memcpy(&bits, unset_bits(stack, offset), 2);
  return bits & unset_mask(offset, bytes);
}
}
template <bool UNSET> METAL_INLINE METAL_UNWATCHED void mark(unsigned long stack, unsigned long offset, unsigned long bytes) {
  for (unsigned long done = 0; done < bytes; done += 8) {
    unsigned long part = bytes - done < 8 ? bytes - done : 8;
    unsigned short* bits = unset_bits(stack, offset + done);
    unsigned short kept;
    __builtin_memcpy(&kept, bits, 2);
    if (UNSET) kept |= unset_mask(offset + done, part);
    else kept &= ~unset_mask(offset + done, part);
    __builtin_memcpy(bits, &kept, 2);
  }
}
extern "C" {

// A read of up to eight bytes must find each of its words set at least in part, because the gaps between the members of
// a struct are never set. Longer reads are copies of structs, whose first word is a member.
__attribute__((noinline)) METAL_UNWATCHED void metal_read_unset(
    unsigned long stack, unsigned long offset, unsigned long bytes, const void* pc) {
  unsigned long looked_at = bytes <= 8 ? bytes : 4;
  for (unsigned long from = 0; from < looked_at; from += 4) {
    unsigned long word = looked_at - from < 4 ? looked_at - from : 4;
    unsigned short bits;
    __builtin_memcpy(&bits, unset_bits(stack, offset + from), 2);
    unsigned mask = unset_mask(offset + from, word);
    if ((bits & mask) == mask || (bytes <= 4 && (bits & mask))) {
      emulator::Context* c = emulator::context();
      c->fault(c, emulator::UNSET_PRIVATE, long(stack + offset + from), 0, 0, pc);
      return;
    }
  }
}
METAL_INLINE METAL_UNWATCHED void metal_private(emulator::Context* c, unsigned long a, unsigned long bytes, unsigned kind, const void* pc) {
  if (a >= c->unset_end || a + bytes <= c->unset_begin) return;
  unsigned long stack = a >> emulator::STACK_SHIFT << emulator::STACK_SHIFT, offset = a - stack;
  if (kind == emulator::READ) {
    if (is_unset(stack, offset, bytes <= 8 ? bytes : 4)) metal_read_unset(stack, offset, bytes, pc);
    return;
  }
  mark<false>(stack, offset, bytes);
}

// These are out of line from the kernel.
METAL_UNWATCHED void metal_unset(void* place, unsigned long bytes, const char* name) {
  emulator::Context* c = emulator::context();
  unsigned long a = (unsigned long)place;
  if ((a ^ (unsigned long)c) >> emulator::STACK_SHIFT) return;
  if (a < c->unset_begin) c->unset_begin = a;
  if (a + bytes > c->unset_end) c->unset_end = a + bytes;
  c->privates[(a >> 4) % emulator::PRIVATES] = emulator::Private{place, bytes, name};
  unsigned long stack = a >> emulator::STACK_SHIFT << emulator::STACK_SHIFT, offset = a - stack;
  mark<true>(stack, offset, bytes);
}
METAL_UNWATCHED void metal_leave(void* place, unsigned long bytes) {
  metal_private(emulator::context(), (unsigned long)place, bytes, emulator::WRITE, METAL_PC);
}

METAL_INLINE METAL_UNWATCHED void metal_touch(const void* address, unsigned long bytes, unsigned kind, const void* pc) {
  unsigned long a = (unsigned long)address, here = (unsigned long)__builtin_frame_address(0);
  emulator::Context* c = emulator::context();
  if ((a ^ here) >> emulator::STACK_SHIFT == 0) {  // the thread's own stack
    metal_private(c, a, bytes, kind, pc);
    return;
  }
  unsigned long offset = a - (unsigned long)c->device_begin;
  if (kind == emulator::READ && offset < c->device_bytes) {
    const emulator::Region& r = c->regions[c->region_of_page[offset >> emulator::PAGE_SHIFT]];
    if (r.read_freely && offset >= r.begin && offset + bytes <= r.end) return;
  }
  c->access(c, address, bytes, kind, pc);
}

#define METAL_HOOK(N)                                                                                                  \
  METAL_UNWATCHED void __tsan_read##N(void* p) { metal_touch(p, N, emulator::READ, METAL_PC); }                        \
  METAL_UNWATCHED void __tsan_write##N(void* p) { metal_touch(p, N, emulator::WRITE, METAL_PC); }                      \
  METAL_UNWATCHED void __tsan_unaligned_read##N(void* p) { metal_touch(p, N, emulator::READ, METAL_PC); }              \
  METAL_UNWATCHED void __tsan_unaligned_write##N(void* p) { metal_touch(p, N, emulator::WRITE, METAL_PC); }            \
  METAL_UNWATCHED void __tsan_volatile_read##N(void* p) { metal_touch(p, N, emulator::READ, METAL_PC); }               \
  METAL_UNWATCHED void __tsan_volatile_write##N(void* p) { metal_touch(p, N, emulator::WRITE, METAL_PC); }             \
  METAL_UNWATCHED void __tsan_read_write##N(void* p) {                                                                 \
    metal_touch(p, N, emulator::READ, METAL_PC);                                                                       \
    metal_touch(p, N, emulator::WRITE, METAL_PC);                                                                      \
  }
METAL_HOOK(1) METAL_HOOK(2) METAL_HOOK(4) METAL_HOOK(8) METAL_HOOK(16)
METAL_UNWATCHED void __tsan_read_range(void* p, unsigned long n) { metal_touch(p, n, emulator::READ, METAL_PC); }
METAL_UNWATCHED void __tsan_write_range(void* p, unsigned long n) { metal_touch(p, n, emulator::WRITE, METAL_PC); }
METAL_UNWATCHED void __tsan_func_entry(void*) {}
METAL_UNWATCHED void __tsan_func_exit() {}
METAL_UNWATCHED void __tsan_init() {}

#define METAL_WATCHED_COPY                                                        \
  metal_touch(from, n, emulator::READ, METAL_PC);                                 \
  metal_touch(to, n, emulator::WRITE, METAL_PC);                                  \
  volatile unsigned char* t = (volatile unsigned char*)to;                        \
  const unsigned char* f = (const unsigned char*)from;                            \
  if (t <= f) for (unsigned long i = 0; i < n; ++i) t[i] = f[i];                  \
  else for (unsigned long i = n; i-- > 0;) t[i] = f[i];                           \
  return to;
#define METAL_WATCHED_FILL                                                        \
  metal_touch(to, n, emulator::WRITE, METAL_PC);                                  \
  for (unsigned long i = 0; i < n; ++i) ((volatile unsigned char*)to)[i] = (unsigned char)value; \
  return to;
METAL_UNWATCHED void* __tsan_memcpy(void* to, const void* from, unsigned long n) { METAL_WATCHED_COPY }
METAL_UNWATCHED void* __tsan_memmove(void* to, const void* from, unsigned long n) { METAL_WATCHED_COPY }
METAL_UNWATCHED void* __tsan_memset(void* to, int value, unsigned long n) { METAL_WATCHED_FILL }
// Some compilers call the plain names for copies that they introduce. These definitions are hidden, so that only the
// kernel calls them.
__attribute__((visibility("hidden"))) METAL_UNWATCHED void* memcpy(void* to, const void* from, size_t n) { METAL_WATCHED_COPY }
__attribute__((visibility("hidden"))) METAL_UNWATCHED void* memmove(void* to, const void* from, size_t n) { METAL_WATCHED_COPY }
__attribute__((visibility("hidden"))) METAL_UNWATCHED void* memset(void* to, int value, size_t n) { METAL_WATCHED_FILL }

METAL_INLINE METAL_UNWATCHED void metal_fault(unsigned reason, long found, const void* pc) {
  emulator::Context* c = emulator::context();
  c->fault(c, reason, found, 0, 0, pc);
}
// The sanitizer's description of a place in the source and of a type there.
struct metal_mismatch { const char* file; unsigned line, column; const void* type; unsigned char log_alignment; };
METAL_INLINE METAL_UNWATCHED void metal_misaligned(void* data, unsigned long place, const void* pc) {
  emulator::Context* c = emulator::context();
  c->fault(c, emulator::MISALIGNED, long(place), 1l << ((metal_mismatch*)data)->log_alignment, 0, pc);
}
METAL_INLINE METAL_UNWATCHED void metal_outside(void* data, unsigned long index, const void* pc) {
  emulator::Context* c = emulator::context();
  c->fault(c, emulator::ARRAY_OUT_OF_BOUNDS, long(index), long(data), 0, pc);
}
#define METAL_OVERFLOW(NAME)                                                                                           \
  METAL_UNWATCHED void __ubsan_handle_##NAME(void*, unsigned long, unsigned long) { metal_fault(emulator::SIGNED_OVERFLOW, 0, METAL_PC); } \
  METAL_UNWATCHED void __ubsan_handle_##NAME##_abort(void*, unsigned long, unsigned long) { metal_fault(emulator::SIGNED_OVERFLOW, 0, METAL_PC); }
METAL_OVERFLOW(add_overflow) METAL_OVERFLOW(sub_overflow) METAL_OVERFLOW(mul_overflow) METAL_OVERFLOW(negate_overflow)
METAL_UNWATCHED void __ubsan_handle_divrem_overflow(void*, unsigned long, unsigned long by) { metal_fault(emulator::DIVISION_BY_ZERO, long(by), METAL_PC); }
METAL_UNWATCHED void __ubsan_handle_divrem_overflow_abort(void*, unsigned long, unsigned long by) { metal_fault(emulator::DIVISION_BY_ZERO, long(by), METAL_PC); }
// The types of a conversion, as the sanitizer describes them: kind, and width in bits.
struct metal_conversion { const char* file; unsigned line, column; const unsigned short* from; const unsigned short* to; };
METAL_INLINE METAL_UNWATCHED void metal_float_to_integer(void* data, unsigned long from, const void* pc) {
  emulator::Context* c = emulator::context();
  c->fault(c, emulator::FLOAT_TO_INTEGER, long(from), ((metal_conversion*)data)->from[1], 0, pc);
}
METAL_UNWATCHED void __ubsan_handle_float_cast_overflow(void* data, unsigned long from) { metal_float_to_integer(data, from, METAL_PC); }
METAL_UNWATCHED void __ubsan_handle_float_cast_overflow_abort(void* data, unsigned long from) { metal_float_to_integer(data, from, METAL_PC); }
METAL_UNWATCHED void __ubsan_handle_type_mismatch_v1(void* data, unsigned long place) { metal_misaligned(data, place, METAL_PC); }
METAL_UNWATCHED void __ubsan_handle_type_mismatch_v1_abort(void* data, unsigned long place) { metal_misaligned(data, place, METAL_PC); }
METAL_UNWATCHED void __ubsan_handle_out_of_bounds(void* data, unsigned long index) { metal_outside(data, index, METAL_PC); }
METAL_UNWATCHED void __ubsan_handle_out_of_bounds_abort(void* data, unsigned long index) { metal_outside(data, index, METAL_PC); }

}

// ---- where this image lies ------------------------------------------------------------------------------------------

extern "C" {
#if defined(__APPLE__)
extern const char metal_header __asm("__mh_dylib_header") __attribute__((visibility("hidden")));
__attribute__((visibility("default"))) METAL_UNWATCHED void metal_image_extent(unsigned long* begin, unsigned long* end) {
  *begin = (unsigned long)&metal_header;
  *end = *begin + (16ul << 20);
}
#else
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char _end[] __attribute__((visibility("hidden")));
__attribute__((visibility("default"))) METAL_UNWATCHED void metal_image_extent(unsigned long* begin, unsigned long* end) {
  *begin = (unsigned long)__ehdr_start;
  *end = (unsigned long)_end;
}
#endif
}
