// Operations across the lanes of a simdgroup or quadgroup. Each lane deposits an operand and waits; the first lane that
// goes on computes all results, in an order that does not depend on the schedule.

namespace metal {

// The rewriter appends `site<N>()` to every call, so that the emulator knows which call each lane has reached.
template <uint N> struct site {};
// Keeps a compiler from merging two calls that differ only in their site.
template <uint N> METAL_INLINE uint distinct() {
  uint n = N;
  __asm__ volatile("" : "+r"(n));
  return n;
}

enum : uint { SIMD = 32, QUAD = 4, DIVERGENCE_ALLOWED = 0x100 };

template <class T> struct Operand {
  T value, result, filling;
  uint argument;
  bool absent;
};

// The operands of one group; `first` is the number of its lane 0 in the simdgroup.
template <class T> struct Lanes {
  void* const* operands;
  uint present, first, width;
  METAL_INLINE METAL_UNWATCHED bool has(uint lane) const { return lane < width && (present >> (first + lane) & 1u); }
  METAL_INLINE METAL_UNWATCHED Operand<T>& at(uint lane) const { return *(Operand<T>*)operands[first + lane]; }
  METAL_INLINE METAL_UNWATCHED void take(uint lane, uint from) const {
    if (has(from)) at(lane).result = at(from).value;
    else at(lane).absent = true;
  }
};

METAL_INLINE METAL_UNWATCHED bool holds_nan(float x) { return isnan(x); }
METAL_INLINE METAL_UNWATCHED bool holds_nan(half x) { return (x.bits & 0x7fff) > 0x7c00; }
METAL_INLINE METAL_UNWATCHED bool holds_nan(bfloat x) { return (x.bits & 0x7fff) > 0x7f80; }
template <class T> METAL_INLINE METAL_UNWATCHED bool holds_nan(const T&) { return false; }

template <uint SITE, class T>
METAL_INLINE METAL_UNWATCHED T collect(T value, emulator::Combine combine, uint width, uint argument = 0, T filling = T()) {
  Operand<T> mine{value, value, filling, argument, false};
  emulator::Context* c = emulator::context();
  uint at = distinct<SITE>();
  if (holds_nan(value)) c->fault(c, emulator::NAN_OPERAND, 0, 0, at, nullptr);
  c->collective(c, &mine, combine, at, width);
  if (mine.absent) {
    c->fault(c, emulator::ABSENT_LANE, long(mine.argument), 0, at, nullptr);
    __builtin_memset(&mine.result, 0xff, sizeof(T));
  }
  return mine.result;
}

// Calls OP for each group of W lanes among the operands; for a quadgroup only one group is present.
template <class T, class OP, uint W> METAL_UNWATCHED void each_group(void* const* operands, uint present) {
  for (uint first = 0; first < 32; first += W) {
    Lanes<T> lanes{operands, present, first, W};
    uint mine = W == 32 ? present : (present >> first) & ((1u << (W % 32)) - 1u);
    if (mine) OP::run(lanes);
  }
}

struct Plus { template <class T> static METAL_INLINE METAL_UNWATCHED T of(T a, T b) { return T(a + b); } template <class T> static METAL_INLINE METAL_UNWATCHED T unit() { return T(0); } };
struct Times { template <class T> static METAL_INLINE METAL_UNWATCHED T of(T a, T b) { return T(a * b); } template <class T> static METAL_INLINE METAL_UNWATCHED T unit() { return T(1); } };
struct Least { template <class T> static METAL_INLINE METAL_UNWATCHED T of(T a, T b) { return min(a, b); } };
struct Greatest { template <class T> static METAL_INLINE METAL_UNWATCHED T of(T a, T b) { return max(a, b); } };
struct BitAnd { template <class T> static METAL_INLINE METAL_UNWATCHED T of(T a, T b) { return T(a & b); } };
struct BitOr { template <class T> static METAL_INLINE METAL_UNWATCHED T of(T a, T b) { return T(a | b); } };
struct BitXor { template <class T> static METAL_INLINE METAL_UNWATCHED T of(T a, T b) { return T(a ^ b); } };

// The tree that five butterfly shuffles compute.
template <class F> struct Reduce {
  template <class T> static METAL_UNWATCHED void run(Lanes<T> lanes) {
    T partial[32];
    bool there[32];
    for (uint i = 0; i < lanes.width; ++i) {
      there[i] = lanes.has(i);
      if (there[i]) partial[i] = lanes.at(i).value;
    }
    for (uint distance = lanes.width / 2; distance; distance /= 2)
      for (uint i = 0; i < distance; ++i)
        if (there[i + distance]) {
          partial[i] = there[i] ? F::of(partial[i], partial[i + distance]) : partial[i + distance];
          there[i] = true;
        }
    for (uint i = 0; i < lanes.width; ++i)
      if (lanes.has(i)) lanes.at(i).result = partial[0];
  }
};
template <class F, bool INCLUSIVE> struct Prefix {
  template <class T> static METAL_UNWATCHED void run(Lanes<T> lanes) {
    T sum = F::template unit<T>();
    for (uint i = 0; i < lanes.width; ++i)
      if (lanes.has(i)) {
        T before = sum;
        sum = F::of(sum, lanes.at(i).value);
        lanes.at(i).result = INCLUSIVE ? sum : before;
      }
  }
};
struct Broadcast {
  template <class T> static METAL_UNWATCHED void run(Lanes<T> lanes) {
    for (uint i = 0; i < lanes.width; ++i)
      if (lanes.has(i)) lanes.take(i, lanes.at(i).argument);
  }
};
struct BroadcastFirst {
  template <class T> static METAL_UNWATCHED void run(Lanes<T> lanes) {
    uint from = 0;
    while (!lanes.has(from)) ++from;
    for (uint i = 0; i < lanes.width; ++i)
      if (lanes.has(i)) lanes.at(i).result = lanes.at(from).value;
  }
};
struct ShuffleXor {
  template <class T> static METAL_UNWATCHED void run(Lanes<T> lanes) {
    for (uint i = 0; i < lanes.width; ++i)
      if (lanes.has(i)) {
        uint from = i ^ lanes.at(i).argument;
        lanes.take(i, from);
        if (lanes.at(i).absent) lanes.at(i).argument = from;
      }
  }
};
// Beyond the end Metal leaves the value undefined; here, as on CUDA, a lane keeps its own.
template <bool UP, bool ROTATE> struct Shift {
  template <class T> static METAL_UNWATCHED void run(Lanes<T> lanes) {
    for (uint i = 0; i < lanes.width; ++i)
      if (lanes.has(i)) {
        uint by = lanes.at(i).argument, from = UP ? i - by : i + by;
        if (ROTATE) from &= lanes.width - 1;
        if (from >= lanes.width) continue;
        lanes.take(i, from);
        if (lanes.at(i).absent) lanes.at(i).argument = from;
      }
  }
};
// `argument` holds the distance and, above it, the width within which lanes shift.
template <bool UP> struct ShiftAndFill {
  template <class T> static METAL_UNWATCHED void run(Lanes<T> lanes) {
    for (uint i = 0; i < lanes.width; ++i)
      if (lanes.has(i)) {
        uint by = lanes.at(i).argument & 0xffff, within = lanes.at(i).argument >> 16, start = i / within * within;
        int from = UP ? int(i - start) - int(by) : int(i - start + by);
        if (from >= 0 && from < int(within)) lanes.take(i, start + uint(from));
        else {
          uint edge = start + uint(UP ? from + int(within) : from - int(within));
          if (lanes.has(edge)) lanes.at(i).result = lanes.at(edge).filling;
          else lanes.at(i).absent = true;
        }
      }
  }
};
struct Ballot {
  template <class T> static METAL_UNWATCHED void run(Lanes<T> lanes) {
    ulong votes = 0;
    for (uint i = 0; i < lanes.width; ++i)
      if (lanes.has(i) && lanes.at(i).value) votes |= ulong(1) << i;
    for (uint i = 0; i < lanes.width; ++i)
      if (lanes.has(i)) lanes.at(i).result = votes;
  }
};
struct Present {
  template <class T> static METAL_UNWATCHED void run(Lanes<T> lanes) {
    ulong mask = 0;
    for (uint i = 0; i < lanes.width; ++i)
      if (lanes.has(i)) mask |= ulong(1) << i;
    for (uint i = 0; i < lanes.width; ++i)
      if (lanes.has(i)) lanes.at(i).result = mask;
  }
};

struct simd_vote {
  typedef ulong vote_t;
  ulong votes, everyone;
  METAL_INLINE explicit operator ulong() const { return votes; }
  METAL_INLINE explicit operator uint() const { return uint(votes); }
  METAL_INLINE bool all() const { return votes == everyone; }
  METAL_INLINE bool any() const { return votes != 0; }
};
typedef simd_vote quad_vote;

// Defines each operation for a simdgroup and for a quadgroup.
#define METAL_GROUP_OPERATIONS(GROUP, WIDTH)                                                                          \
  METAL_REDUCTION(GROUP##_sum, WIDTH, Reduce<Plus>)                                                                   \
  METAL_REDUCTION(GROUP##_product, WIDTH, Reduce<Times>)                                                              \
  METAL_REDUCTION(GROUP##_min, WIDTH, Reduce<Least>)                                                                  \
  METAL_REDUCTION(GROUP##_max, WIDTH, Reduce<Greatest>)                                                               \
  METAL_REDUCTION(GROUP##_and, WIDTH, Reduce<BitAnd>)                                                                    \
  METAL_REDUCTION(GROUP##_or, WIDTH, Reduce<BitOr>)                                                                      \
  METAL_REDUCTION(GROUP##_xor, WIDTH, Reduce<BitXor>)                                                                    \
  METAL_REDUCTION(GROUP##_broadcast_first, WIDTH, BroadcastFirst)                                                     \
  METAL_REDUCTION(GROUP##_prefix_inclusive_sum, WIDTH, METAL_PAIR(Prefix<Plus, true>))                                \
  METAL_REDUCTION(GROUP##_prefix_exclusive_sum, WIDTH, METAL_PAIR(Prefix<Plus, false>))                               \
  METAL_REDUCTION(GROUP##_prefix_inclusive_product, WIDTH, METAL_PAIR(Prefix<Times, true>))                           \
  METAL_REDUCTION(GROUP##_prefix_exclusive_product, WIDTH, METAL_PAIR(Prefix<Times, false>))                          \
  METAL_SHUFFLE(GROUP##_broadcast, WIDTH, Broadcast)                                                                  \
  METAL_SHUFFLE(GROUP##_shuffle, WIDTH, Broadcast)                                                                    \
  METAL_SHUFFLE(GROUP##_shuffle_xor, WIDTH, ShuffleXor)                                                               \
  METAL_SHUFFLE(GROUP##_shuffle_up, WIDTH, METAL_PAIR(Shift<true, false>))                                            \
  METAL_SHUFFLE(GROUP##_shuffle_down, WIDTH, METAL_PAIR(Shift<false, false>))                                         \
  METAL_SHUFFLE(GROUP##_shuffle_rotate_up, WIDTH, METAL_PAIR(Shift<true, true>))                                      \
  METAL_SHUFFLE(GROUP##_shuffle_rotate_down, WIDTH, METAL_PAIR(Shift<false, true>))                                   \
  METAL_FILL(GROUP##_shuffle_and_fill_up, WIDTH, ShiftAndFill<true>)                                                  \
  METAL_FILL(GROUP##_shuffle_and_fill_down, WIDTH, ShiftAndFill<false>)                                               \
  template <uint SITE> METAL_INLINE METAL_UNWATCHED ulong GROUP##_mask(site<SITE>) {                                  \
    return collect<SITE>(ulong(0), each_group<ulong, Present, WIDTH>, WIDTH | DIVERGENCE_ALLOWED);                    \
  }                                                                                                                   \
  template <uint SITE> METAL_INLINE METAL_UNWATCHED simd_vote GROUP##_ballot(bool value, site<SITE>) {                \
    ulong votes = collect<SITE>(ulong(value), each_group<ulong, Ballot, WIDTH>, WIDTH);                               \
    return simd_vote{votes, WIDTH == 32 ? 0xfffffffful : 0xful};                                                      \
  }                                                                                                                   \
  template <uint SITE> METAL_INLINE METAL_UNWATCHED bool GROUP##_any(bool value, site<SITE>) {                        \
    return collect<SITE>(ulong(value), each_group<ulong, Ballot, WIDTH>, WIDTH) != 0;                                 \
  }                                                                                                                   \
  template <uint SITE> METAL_INLINE METAL_UNWATCHED bool GROUP##_all(bool value, site<SITE>) {                        \
    return collect<SITE>(ulong(!value), each_group<ulong, Ballot, WIDTH>, WIDTH) == 0;                                \
  }                                                                                                                   \
  template <uint SITE> METAL_INLINE METAL_UNWATCHED simd_vote GROUP##_active_threads_mask(site<SITE> at) {            \
    return simd_vote{GROUP##_mask(at), WIDTH == 32 ? 0xfffffffful : 0xful};                                           \
  }                                                                                                                   \
  template <uint SITE> METAL_INLINE METAL_UNWATCHED bool GROUP##_is_first(site<SITE> at) {                            \
    ulong mask = GROUP##_mask(at);                                                                                    \
    return ctz(mask) == emulator::context()->lane % WIDTH;                                                            \
  }

#define METAL_PAIR(...) __VA_ARGS__
// Reductions of bfloat are computed in float and rounded once, as MLX overloads them.
#define METAL_REDUCTION(NAME, WIDTH, ...)                                                                             \
  template <class T, uint SITE> METAL_INLINE METAL_UNWATCHED T NAME(T value, site<SITE>) {                            \
    typedef conditional_t<is_same_v<T, bfloat>, float, T> U;                                                          \
    return T(collect<SITE>(U(value), each_group<U, __VA_ARGS__, WIDTH>, WIDTH));                                      \
  }
#define METAL_SHUFFLE(NAME, WIDTH, ...)                                                                               \
  template <class T, uint SITE> METAL_INLINE METAL_UNWATCHED T NAME(T value, ushort argument, site<SITE>) {           \
    return collect<SITE>(value, each_group<T, __VA_ARGS__, WIDTH>, WIDTH, argument);                                  \
  }
#define METAL_FILL(NAME, WIDTH, ...)                                                                                  \
  template <class T, uint SITE> METAL_INLINE METAL_UNWATCHED T NAME(T value, T filling, ushort by, site<SITE>) {      \
    return collect<SITE>(value, each_group<T, __VA_ARGS__, WIDTH>, WIDTH, by | uint(WIDTH) << 16, filling);           \
  }                                                                                                                   \
  template <class T, uint SITE>                                                                                       \
  METAL_INLINE METAL_UNWATCHED T NAME(T value, T filling, ushort by, ushort within, site<SITE>) {                     \
    return collect<SITE>(value, each_group<T, __VA_ARGS__, WIDTH>, WIDTH, by | uint(within) << 16, filling);          \
  }
METAL_GROUP_OPERATIONS(simd, 32)
METAL_GROUP_OPERATIONS(quad, 4)
#undef METAL_REDUCTION
#undef METAL_SHUFFLE
#undef METAL_FILL
#undef METAL_GROUP_OPERATIONS

} // namespace metal
