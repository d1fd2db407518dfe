// Atomics. Threads of one threadgroup take turns, and kernels with atomics in device memory run on one core, so plain
// operations do. The emulator records each, because an atomic and a plain access to one element still race.

namespace metal {

enum memory_order { memory_order_relaxed };

template <class T> struct atomic {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || is_same_v<T, bool>, "atomic: Metal has 4-byte atomics of int, uint, float, bool");
  T value;
};
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<float> atomic_float;
typedef atomic<bool> atomic_bool;
typedef atomic<ulong> atomic_ulong;

// Out of line: code that is inlined into the kernel is watched as a plain access, and the finding must name the caller.
#define METAL_ATOMIC inline __attribute__((noinline)) METAL_UNWATCHED
template <class T> METAL_INLINE METAL_UNWATCHED T* atomic_access(const volatile atomic<T>* object, uint kind, const void* pc) {
  emulator::Context* c = emulator::context();
  c->access(c, const_cast<const atomic<T>*>(object), sizeof(T), kind, pc);
  return const_cast<T*>(&object->value);
}
#define METAL_ATOMIC_UPDATE(NAME, EXPRESSION)                                                                     \
  template <class T> METAL_ATOMIC T NAME(volatile atomic<T>* object, type_identity_t<T> b, memory_order) {         \
    T* place = atomic_access(object, emulator::ATOMIC_UPDATE, __builtin_return_address(0));                       \
    T a = *place;                                                                                                 \
    *place = T(EXPRESSION);                                                                                       \
    return a;                                                                                                     \
  }
METAL_ATOMIC_UPDATE(atomic_fetch_add_explicit, a + b)
METAL_ATOMIC_UPDATE(atomic_fetch_sub_explicit, a - b)
METAL_ATOMIC_UPDATE(atomic_fetch_max_explicit, max(a, b))
METAL_ATOMIC_UPDATE(atomic_fetch_min_explicit, min(a, b))
METAL_ATOMIC_UPDATE(atomic_fetch_and_explicit, a & b)
METAL_ATOMIC_UPDATE(atomic_fetch_or_explicit, a | b)
METAL_ATOMIC_UPDATE(atomic_fetch_xor_explicit, a ^ b)
METAL_ATOMIC_UPDATE(atomic_exchange_explicit, b)
#undef METAL_ATOMIC_UPDATE
#define METAL_ATOMIC_ULONG(NAME, OF)                                                                              \
  METAL_ATOMIC void NAME(volatile atomic<ulong>* object, ulong b, memory_order) {                                 \
    ulong* place = atomic_access(object, emulator::ATOMIC_UPDATE, __builtin_return_address(0));                   \
    *place = OF(*place, b);                                                                                       \
  }
METAL_ATOMIC_ULONG(atomic_max_explicit, max)
METAL_ATOMIC_ULONG(atomic_min_explicit, min)
#undef METAL_ATOMIC_ULONG

template <class T> METAL_ATOMIC void atomic_store_explicit(volatile atomic<T>* object, type_identity_t<T> b, memory_order) {
  *atomic_access(object, emulator::ATOMIC_WRITE, __builtin_return_address(0)) = b;
}
template <class T> METAL_ATOMIC T atomic_load_explicit(const volatile atomic<T>* object, memory_order) {
  return *atomic_access(object, emulator::ATOMIC_READ, __builtin_return_address(0));
}
template <class T>
METAL_ATOMIC bool atomic_compare_exchange_weak_explicit(
    volatile atomic<T>* object, T* expected, type_identity_t<T> desired, memory_order, memory_order) {
  T* place = atomic_access(object, emulator::ATOMIC_UPDATE, __builtin_return_address(0));
  bool same = as_type<conditional_t<sizeof(T) == 4, uint, ulong>>(*place) ==
              as_type<conditional_t<sizeof(T) == 4, uint, ulong>>(*expected);
  if (same) *place = desired;
  else *expected = *place;
  return same;
}

#undef METAL_ATOMIC

} // namespace metal
