// Integers that become indices, and beside each what it would be if nothing wrapped around, modulo 2^64. The rewriter puts
// these names into subscripts and sums of pointers. All of it is constant if its operands are.

#if defined(__SANITIZE_THREAD__)
#define METAL_INDICES_CHECKED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define METAL_INDICES_CHECKED 1
#endif
#endif

namespace emulator {
inline __attribute__((noinline, cold)) METAL_UNWATCHED void index_wraps(long unwrapped, long index) {
  Context* c = context();
  c->fault(c, WRAPPED_INDEX, unwrapped, index, 0, __builtin_return_address(0));
}
} // namespace emulator

namespace metal {

template <class T> struct tracked_integer { T value; ulong unwrapped; };
template <class T> constexpr bool is_tracked_v = false;
template <class T> constexpr bool is_tracked_v<tracked_integer<T>> = true;
// The value that a variable was set to, and what it would be without wrapping around.
struct Unwrapped { ulong value, unwrapped; };

template <class T> METAL_INLINE constexpr ulong widened(T value) { return ulong(long(value)); }
template <class T> METAL_INLINE constexpr enable_if_t<is_integral_v<T>, tracked_integer<T>> tracked(T value) { return {value, widened(value)}; }
template <class T> METAL_INLINE constexpr enable_if_t<!is_integral_v<remove_cvref_t<T>>, T&&> tracked(T&& value) { return static_cast<T&&>(value); }
template <class T> METAL_INLINE constexpr auto tracked(T value, Unwrapped known) {
  if constexpr (is_integral_v<T>) return tracked_integer<T>{value, widened(value) == known.value ? known.unwrapped : widened(value)};
  else return value;
}
// A cast from 64 to 32 bits is meant to drop bits.
template <class T, class F> METAL_INLINE constexpr auto tracked_as(F from) {
  if constexpr (!is_tracked_v<F>) return tracked(T(from));
  else return tracked_integer<T>{T(from.value), sizeof(from.value) > sizeof(T) ? widened(T(from.value)) : from.unwrapped};
}
template <class T> METAL_INLINE constexpr auto value_of(T of) {
  if constexpr (is_tracked_v<T>) return of.value;
  else return of;
}
template <class V, class T> METAL_INLINE constexpr Unwrapped remember(T tree) {
  typedef remove_cvref_t<V> variable;
  if constexpr (is_tracked_v<T> && is_integral_v<variable>) return Unwrapped{widened(variable(tree.value)), tree.unwrapped};
  else return Unwrapped{};
}

// Updates `known` for a variable that is set later than it is declared.
template <class V, class T> METAL_INLINE constexpr remove_cvref_t<V> set(Unwrapped& known, T tree) {
  known = remember<V>(tree);
  return remove_cvref_t<V>(value_of(tree));
}

// What a function of integers returned last, on this thread of the host. Its caller asks at once.
inline METAL_UNWATCHED Unwrapped& returned_here() {
  static thread_local Unwrapped last;
  return last;
}
inline __attribute__((noinline)) METAL_UNWATCHED void note_returned(Unwrapped value) { returned_here() = value; }
inline __attribute__((noinline)) METAL_UNWATCHED Unwrapped last_returned() { return returned_here(); }
METAL_INLINE void forget_returned() { note_returned(Unwrapped{}); }
template <class V, class T> METAL_INLINE constexpr auto returned(T tree) {
  if (!__builtin_is_constant_evaluated()) note_returned(remember<V>(tree));
  return value_of(tree);
}
template <class T> METAL_INLINE auto from_call(T value) { return tracked(value, last_returned()); }

template <class T> METAL_INLINE constexpr auto index(T of) {
  if constexpr (is_tracked_v<T>) {
#ifdef METAL_INDICES_CHECKED
    long meant = long(of.unwrapped);
    // An index that wraps around below zero is far out of bounds, and is reported as that.
    bool below = meant < 0 && meant >= -(1l << 32);
    if (__builtin_expect(of.unwrapped != widened(of.value) && !below, 0)) emulator::index_wraps(meant, long(widened(of.value)));
#endif
    return of.value;
  } else {
    return of;
  }
}

#define METAL_TRACKED(OP)                                                                                             \
  template <class A, class B> METAL_INLINE constexpr auto operator OP(tracked_integer<A> a, tracked_integer<B> b) {   \
    return tracked_integer<decltype(a.value OP b.value)>{a.value OP b.value, a.unwrapped OP b.unwrapped};             \
  }                                                                                                                   \
  template <class A, class B> METAL_INLINE constexpr enable_if_t<is_integral_v<B>, tracked_integer<decltype(A() OP B())>> \
  operator OP(tracked_integer<A> a, B b) { return a OP tracked(b); }                                                  \
  template <class A, class B> METAL_INLINE constexpr enable_if_t<is_integral_v<A>, tracked_integer<decltype(A() OP B())>> \
  operator OP(A a, tracked_integer<B> b) { return tracked(a) OP b; }                                                  \
  template <class A, class B, class = enable_if_t<is_floating_point_v<B> || (__is_class(B) && !is_tracked_v<B>)>>     \
  METAL_INLINE constexpr auto operator OP(tracked_integer<A> a, const B& b) { return a.value OP b; }                  \
  template <class A, class B, class = enable_if_t<is_floating_point_v<A> || (__is_class(A) && !is_tracked_v<A>)>, class = void> \
  METAL_INLINE constexpr auto operator OP(const A& a, tracked_integer<B> b) { return a OP b.value; }
METAL_TRACKED(+) METAL_TRACKED(-) METAL_TRACKED(*)
#undef METAL_TRACKED

template <class P, class I> METAL_INLINE constexpr P* operator+(P* p, tracked_integer<I> i) { return p + index(i); }
template <class P, class I> METAL_INLINE constexpr P* operator+(tracked_integer<I> i, P* p) { return p + index(i); }
template <class P, class I> METAL_INLINE constexpr P* operator-(P* p, tracked_integer<I> i) { return p - index(i); }

template <class A, class B> METAL_INLINE constexpr auto operator<<(tracked_integer<A> a, Distance<B> by) {
  auto value = a.value << by;
  return tracked_integer<decltype(value)>{value, a.unwrapped << (uint(by.value) & (8 * sizeof(value) - 1))};
}

} // namespace metal
