// The points that the compiler's instrumentation calls: -fsanitize=thread for memory, -fsanitize=bounds and others for
// arithmetic. The sanitizers' own runtimes are not linked. Compiled once, linked into every kernel.
#include "host.h"

extern "C" {

METAL_INLINE METAL_UNWATCHED void metal_touch(const void* address, unsigned long bytes, unsigned kind, const void* pc) {
  unsigned long a = (unsigned long)address, here = (unsigned long)__builtin_frame_address(0);
  if ((a ^ here) >> emulator::STACK_SHIFT == 0) return;  // the thread's own stack
  emulator::Context* c = emulator::context();
  unsigned long offset = a - (unsigned long)c->device_begin;
  if (kind == emulator::READ && offset < c->device_bytes) {
    const emulator::Region& r = c->regions[c->region_of_page[offset >> emulator::PAGE_SHIFT]];
    if (r.read_freely && offset >= r.begin && offset + bytes <= r.end) return;
  }
  c->access(c, address, bytes, kind, pc);
}

#define METAL_PC __builtin_return_address(0)
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
// Some compilers call the plain names for copies they introduce; hidden, these serve the kernel only.
__attribute__((visibility("hidden"))) METAL_UNWATCHED void* memcpy(void* to, const void* from, size_t n) { METAL_WATCHED_COPY }
__attribute__((visibility("hidden"))) METAL_UNWATCHED void* memmove(void* to, const void* from, size_t n) { METAL_WATCHED_COPY }
__attribute__((visibility("hidden"))) METAL_UNWATCHED void* memset(void* to, int value, size_t n) { METAL_WATCHED_FILL }

METAL_INLINE METAL_UNWATCHED void metal_fault(unsigned reason, long found, const void* pc) {
  emulator::Context* c = emulator::context();
  c->fault(c, reason, found, 0, 0, pc);
}
#define METAL_FAULT2(NAME, REASON)                                                                                     \
  METAL_UNWATCHED void __ubsan_handle_##NAME(void*, unsigned long a, unsigned long) { metal_fault(REASON, long(a), METAL_PC); } \
  METAL_UNWATCHED void __ubsan_handle_##NAME##_abort(void*, unsigned long a, unsigned long) { metal_fault(REASON, long(a), METAL_PC); }
METAL_FAULT2(divrem_overflow, emulator::DIVISION_BY_ZERO)
METAL_UNWATCHED void __ubsan_handle_shift_out_of_bounds(void*, unsigned long, unsigned long by) { metal_fault(emulator::SHIFT_TOO_FAR, long(by), METAL_PC); }
METAL_UNWATCHED void __ubsan_handle_shift_out_of_bounds_abort(void*, unsigned long, unsigned long by) { metal_fault(emulator::SHIFT_TOO_FAR, long(by), METAL_PC); }
METAL_UNWATCHED void __ubsan_handle_out_of_bounds(void*, unsigned long index) { metal_fault(emulator::ARRAY_OUT_OF_BOUNDS, long(index), METAL_PC); }
METAL_UNWATCHED void __ubsan_handle_out_of_bounds_abort(void*, unsigned long index) { metal_fault(emulator::ARRAY_OUT_OF_BOUNDS, long(index), METAL_PC); }

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
