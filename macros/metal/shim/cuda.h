// Simdgroups as warps, threadgroups as blocks. The emulator has shown that all lanes reach each operation together,
// so masks are full.

namespace metal {

METAL_INLINE uint linear_thread() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }
METAL_INLINE uint lane_number() { return linear_thread() & 31u; }

// ---- moving values between lanes ------------------------------------------------------------------------------------

struct FromLane { uint lane; METAL_INLINE uint operator()(uint mask, uint v, int width) const { return __shfl_sync(mask, v, int(lane), width); } };
struct FromXor { uint bits; METAL_INLINE uint operator()(uint mask, uint v, int width) const { return __shfl_xor_sync(mask, v, int(bits), width); } };
struct FromBelow { uint by; METAL_INLINE uint operator()(uint mask, uint v, int width) const { return __shfl_up_sync(mask, v, by, width); } };
struct FromAbove { uint by; METAL_INLINE uint operator()(uint mask, uint v, int width) const { return __shfl_down_sync(mask, v, by, width); } };

// Moves values of any size, in words of 32 bits.
template <int WIDTH, class T, class How> METAL_INLINE T exchange(T value, How how) {
  constexpr int words = (int(sizeof(T)) + 3) / 4;
  uint mask = WIDTH == 32 ? 0xffffffffu : 0xfu << (lane_number() & 28u);
  uint bits[words] = {};
  METAL_COPY(bits, &value, sizeof(T));
  for (int i = 0; i < words; ++i) bits[i] = how(mask, bits[i], WIDTH);
  METAL_COPY(&value, bits, sizeof(T));
  return value;
}

struct Plus { template <class T> static METAL_INLINE T of(T a, T b) { return T(a + b); } };
struct Times { template <class T> static METAL_INLINE T of(T a, T b) { return T(a * b); } };
struct Least { template <class T> static METAL_INLINE T of(T a, T b) { return min(a, b); } };
struct Greatest { template <class T> static METAL_INLINE T of(T a, T b) { return max(a, b); } };
struct And { template <class T> static METAL_INLINE T of(T a, T b) { return T(a & b); } };
struct Or { template <class T> static METAL_INLINE T of(T a, T b) { return T(a | b); } };
struct Xor { template <class T> static METAL_INLINE T of(T a, T b) { return T(a ^ b); } };

// Reduces in the same order as the emulator.
template <class F, int WIDTH, class T> METAL_INLINE T reduce(T of) {
  conditional_t<is_same_v<T, bfloat>, float, T> value(of);
  for (uint distance = WIDTH / 2; distance; distance /= 2) value = F::of(value, exchange<WIDTH>(value, FromXor{distance}));
  return T(value);
}
template <class F, int WIDTH, class T> METAL_INLINE T prefix(T of, T unit, bool inclusive) {
  typedef conditional_t<is_same_v<T, bfloat>, float, T> U;
  uint lane = lane_number() % WIDTH;
  U value(of), sum(unit), mine(unit);
  for (uint i = 0; i < WIDTH; ++i) {
    U next = exchange<WIDTH>(value, FromLane{i});
    if (i == lane && !inclusive) mine = sum;
    sum = F::of(sum, next);
    if (i == lane && inclusive) mine = sum;
  }
  return T(mine);
}
template <int WIDTH, class T> METAL_INLINE T fill(T value, T filling, int from, uint within) {
  uint lane = lane_number() % WIDTH, start = lane / within * within;
  bool inside = from >= 0 && from < int(within);
  uint edge = start + uint(from < 0 ? from + int(within) : from - int(within));
  T moved = exchange<WIDTH>(value, FromLane{inside ? start + uint(from) : lane});
  T filled = exchange<WIDTH>(filling, FromLane{inside ? lane : edge});
  return inside ? moved : filled;
}

struct simd_vote {
  typedef ulong vote_t;
  ulong votes, everyone;
  METAL_INLINE explicit operator ulong() const { return votes; }
  METAL_INLINE explicit operator uint() const { return uint(votes); }
  METAL_INLINE bool all() const { return votes == everyone; }
  METAL_INLINE bool any() const { return votes != 0; }
};
typedef simd_vote quad_vote;

#define METAL_GROUP(G, W)                                                                                                \
  template <class T> METAL_INLINE T G##_sum(T v) { return reduce<Plus, W>(v); }                                          \
  template <class T> METAL_INLINE T G##_product(T v) { return reduce<Times, W>(v); }                                     \
  template <class T> METAL_INLINE T G##_min(T v) { return reduce<Least, W>(v); }                                         \
  template <class T> METAL_INLINE T G##_max(T v) { return reduce<Greatest, W>(v); }                                      \
  template <class T> METAL_INLINE T G##_and(T v) { return reduce<And, W>(v); }                                           \
  template <class T> METAL_INLINE T G##_or(T v) { return reduce<Or, W>(v); }                                             \
  template <class T> METAL_INLINE T G##_xor(T v) { return reduce<Xor, W>(v); }                                           \
  template <class T> METAL_INLINE T G##_prefix_inclusive_sum(T v) { return prefix<Plus, W>(v, T(0), true); }             \
  template <class T> METAL_INLINE T G##_prefix_exclusive_sum(T v) { return prefix<Plus, W>(v, T(0), false); }            \
  template <class T> METAL_INLINE T G##_prefix_inclusive_product(T v) { return prefix<Times, W>(v, T(1), true); }        \
  template <class T> METAL_INLINE T G##_prefix_exclusive_product(T v) { return prefix<Times, W>(v, T(1), false); }       \
  template <class T> METAL_INLINE T G##_broadcast(T v, ushort lane) { return exchange<W>(v, FromLane{lane}); }           \
  template <class T> METAL_INLINE T G##_broadcast_first(T v) { return exchange<W>(v, FromLane{0}); }                     \
  template <class T> METAL_INLINE T G##_shuffle(T v, ushort lane) { return exchange<W>(v, FromLane{lane}); }             \
  template <class T> METAL_INLINE T G##_shuffle_xor(T v, ushort bits) { return exchange<W>(v, FromXor{bits}); }          \
  template <class T> METAL_INLINE T G##_shuffle_up(T v, ushort by) { return exchange<W>(v, FromBelow{by}); }             \
  template <class T> METAL_INLINE T G##_shuffle_down(T v, ushort by) { return exchange<W>(v, FromAbove{by}); }           \
  template <class T> METAL_INLINE T G##_shuffle_rotate_up(T v, ushort by) { return exchange<W>(v, FromLane{(lane_number() - by) % W}); } \
  template <class T> METAL_INLINE T G##_shuffle_rotate_down(T v, ushort by) { return exchange<W>(v, FromLane{(lane_number() + by) % W}); } \
  template <class T> METAL_INLINE T G##_shuffle_and_fill_up(T v, T f, ushort by, ushort within = W) {                    \
    return fill<W>(v, f, int(lane_number() % W % within) - int(by), within);                                             \
  }                                                                                                                      \
  template <class T> METAL_INLINE T G##_shuffle_and_fill_down(T v, T f, ushort by, ushort within = W) {                  \
    return fill<W>(v, f, int(lane_number() % W % within) + int(by), within);                                             \
  }                                                                                                                      \
  METAL_INLINE ulong G##_votes(bool v) {                                                                                 \
    uint base = W == 32 ? 0 : lane_number() & 28u;                                                                       \
    return ulong(__ballot_sync(W == 32 ? 0xffffffffu : 0xfu << base, v) >> base);                                        \
  }                                                                                                                      \
  METAL_INLINE simd_vote G##_ballot(bool v) { return simd_vote{G##_votes(v), W == 32 ? 0xfffffffful : 0xful}; }          \
  METAL_INLINE bool G##_any(bool v) { return G##_votes(v) != 0; }                                                        \
  METAL_INLINE bool G##_all(bool v) { return G##_votes(!v) == 0; }                                                       \
  METAL_INLINE simd_vote G##_active_threads_mask() {                                                                     \
    uint base = W == 32 ? 0 : lane_number() & 28u;                                                                       \
    return simd_vote{ulong(__activemask() >> base) & (W == 32 ? 0xfffffffful : 0xful), W == 32 ? 0xfffffffful : 0xful};  \
  }                                                                                                                      \
  METAL_INLINE bool G##_is_first() { return ctz(G##_active_threads_mask().votes) == lane_number() % W; }
METAL_GROUP(simd, 32)
METAL_GROUP(quad, 4)
#undef METAL_GROUP

// ---- barriers, atomics ----------------------------------------------------------------------------------------------

enum class mem_flags : uint { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4 };
METAL_INLINE constexpr mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags(uint(a) | uint(b)); }
METAL_INLINE void threadgroup_barrier(mem_flags) {
  asm volatile("cp.async.wait_all;" : : : "memory");
  __syncthreads();
}
METAL_INLINE void simdgroup_barrier(mem_flags) { __syncwarp(); }

enum memory_order { memory_order_relaxed };
template <class T> struct atomic {
  static_assert(sizeof(T) == 4, "atomic: four bytes only on CUDA");
  T value;
};
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<float> atomic_float;

template <class T, class F> METAL_INLINE T atomic_update(volatile atomic<T>* object, F next) {
  unsigned int* word = (unsigned int*)const_cast<atomic<T>*>(object);
  unsigned int seen = *(volatile unsigned int*)word, before;
  do {
    before = seen;
    seen = atomicCAS(word, before, as_type<unsigned int>(next(as_type<T>(before))));
  } while (seen != before);
  return as_type<T>(seen);
}
template <class T> METAL_INLINE T atomic_fetch_add_explicit(volatile atomic<T>* object, type_identity_t<T> b, memory_order) {
  return atomicAdd((T*)const_cast<atomic<T>*>(object), b);
}
#define METAL_ATOMIC_UPDATE(NAME, EXPRESSION)                                                                            \
  template <class T> struct NAME##_next { T b; METAL_INLINE T operator()(T a) const { return T(EXPRESSION); } };          \
  template <class T> METAL_INLINE T NAME##_explicit(volatile atomic<T>* object, type_identity_t<T> b, memory_order) {     \
    return atomic_update(object, NAME##_next<T>{b});                                                                     \
  }
METAL_ATOMIC_UPDATE(atomic_fetch_sub, a - b)
METAL_ATOMIC_UPDATE(atomic_fetch_max, max(a, b))
METAL_ATOMIC_UPDATE(atomic_fetch_min, min(a, b))
METAL_ATOMIC_UPDATE(atomic_fetch_and, a & b)
METAL_ATOMIC_UPDATE(atomic_fetch_or, a | b)
METAL_ATOMIC_UPDATE(atomic_fetch_xor, a ^ b)
METAL_ATOMIC_UPDATE(atomic_exchange, b)
#undef METAL_ATOMIC_UPDATE
template <class T> METAL_INLINE void atomic_store_explicit(volatile atomic<T>* object, type_identity_t<T> b, memory_order) {
  *(volatile T*)const_cast<atomic<T>*>(object) = b;
}
template <class T> METAL_INLINE T atomic_load_explicit(const volatile atomic<T>* object, memory_order) {
  return *(const volatile T*)const_cast<const atomic<T>*>(object);
}
template <class T>
METAL_INLINE bool atomic_compare_exchange_weak_explicit(
    volatile atomic<T>* object, T* expected, type_identity_t<T> desired, memory_order, memory_order) {
  unsigned int before = as_type<unsigned int>(*expected);
  unsigned int seen = atomicCAS((unsigned int*)const_cast<atomic<T>*>(object), before, as_type<unsigned int>(desired));
  *expected = as_type<T>(seen);
  return seen == before;
}

// ---- tiles on tensor cores ------------------------------------------------------------------------------------------

// A lane has eight elements. Two of 16 bits lie in one word, as the instructions take them.
template <class T, bool SMALL = is_small_float_v<T>> struct tile_elements {
  T at[8];
  METAL_INLINE T get(int i) const { return at[i]; }
  METAL_INLINE void set(int i, T value) { at[i] = value; }
};
template <class T> struct tile_elements<T, true> {
  uint word[4];
  METAL_INLINE T get(int i) const {
    T value;
    value.bits = ushort(word[i / 2] >> (i % 2 * 16));
    return value;
  }
  METAL_INLINE void set(int i, T value) {
    word[i / 2] = i % 2 ? (word[i / 2] & 0xffffu) | uint(value.bits) << 16 : (word[i / 2] & 0xffff0000u) | uint(value.bits);
  }
};

// Elements lie as mma.m16n8k16 takes the left factor: 0, 1 in row lane / 4, columns 2 (lane % 4) and the next; 2, 3 eight
// rows below; 4 to 7 eight columns to the right. PTX ISA, "Matrix Fragments for mma.m16n8k16".
template <class T, int ROWS, int COLUMNS> struct tile : tile_elements<T> {
  static_assert(ROWS == 16 && COLUMNS == 16, "tile: 16 by 16 only");
  tile() = default;
  METAL_INLINE explicit tile(T value) {
#pragma unroll
    for (int i = 0; i < 8; ++i) this->set(i, value);
  }
  static METAL_INLINE ushort row(int i) { return ushort(lane_number() / 4 + i / 2 % 2 * 8); }
  static METAL_INLINE ushort column(int i) { return ushort(lane_number() % 4 * 2 + i % 2 + i / 4 * 8); }
};

METAL_INLINE uint shared_address(const void* p) { return uint(__cvta_generic_to_shared(p)); }
// Loads eight elements of 16 bits of each row at once, by `ldmatrix`, from threadgroup memory whose rows are multiples
// of 16 bytes. A tile must begin at such a multiple, else the launch fails. A check would be a branch in front of each
// load.
#define METAL_MATRIX_LOAD(NAME, TRANSPOSED, SECOND, THIRD, ROW, COLUMN)                                                    \
  template <class T, class U> METAL_INLINE bool NAME(tile<T, 16, 16>& t, const U* from, uint stride) {                    \
    if constexpr (is_small_float_v<T> && is_same_v<T, U>) {                                                              \
      if (__isShared(from) && stride % 8 == 0) {                                                                         \
        uint lane = lane_number(), at = shared_address(from + (ROW) * stride + (COLUMN));                                \
        asm volatile("ldmatrix.sync.aligned.m8n8.x4" TRANSPOSED ".shared.b16 {%0,%1,%2,%3}, [%4];"                       \
                     : "=r"(t.word[0]), "=r"(t.word[SECOND]), "=r"(t.word[THIRD]), "=r"(t.word[3]) : "r"(at) : "memory"); \
        return true;                                                                                                     \
      }                                                                                                                  \
    }                                                                                                                    \
    return false;                                                                                                        \
  }
METAL_MATRIX_LOAD(load_matrix, "", 1, 2, lane % 16, lane / 16 * 8)
METAL_MATRIX_LOAD(load_matrix_transposed, ".trans", 1, 2, lane % 8 + lane / 16 * 8, lane / 8 % 2 * 8)
// The words of a right factor are in the order in which products take them: those of one product are in neighbouring registers.
METAL_MATRIX_LOAD(load_right_matrix, "", 2, 1, lane % 8 + lane / 16 * 8, lane / 8 % 2 * 8)
METAL_MATRIX_LOAD(load_right_matrix_transposed, ".trans", 2, 1, lane % 16, lane / 16 * 8)
#undef METAL_MATRIX_LOAD
// Loads two floats at once, also from even places of threadgroup memory.
template <class T, class U> METAL_INLINE constexpr bool are_floats() { return is_same_v<T, float> && is_same_v<U, float>; }
template <class T, class U> METAL_INLINE void tile_load(tile<T, 16, 16>& t, const U* from, uint stride) {
  if (load_matrix(t, from, stride)) return;
  if constexpr (are_floats<T, U>()) {
    if (__isShared(from) && stride % 2 == 0) {
#pragma unroll
      for (int i = 0; i < 8; i += 2) {
        float2 two = *(const float2*)(from + t.row(i) * stride + t.column(i));
        t.at[i] = two.x, t.at[i + 1] = two.y;
      }
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) t.set(i, T(from[t.row(i) * stride + t.column(i)]));
}
template <class T, class U> METAL_INLINE void tile_load_transposed(tile<T, 16, 16>& t, const U* from, uint stride) {
  if (load_matrix_transposed(t, from, stride)) return;
#pragma unroll
  for (int i = 0; i < 8; ++i) t.set(i, T(from[t.column(i) * stride + t.row(i)]));
}
template <class T, class U> METAL_INLINE void tile_store(const tile<T, 16, 16>& t, U* to, uint stride) {
  if constexpr (are_floats<T, U>()) {
    if (__isShared(to) && stride % 2 == 0) {
#pragma unroll
      for (int i = 0; i < 8; i += 2) *(float2*)(to + t.row(i) * stride + t.column(i)) = float2(t.at[i], t.at[i + 1]);
      return;
    }
  }
  if constexpr (is_small_float_v<T> && is_same_v<T, U>) {
    if (((ulong(to) | ulong(stride) * 2) & 3u) == 0) {
#pragma unroll
      for (int i = 0; i < 4; ++i) *(uint*)(to + t.row(2 * i) * stride + t.column(2 * i)) = t.word[i];
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) to[t.row(i) * stride + t.column(i)] = U(t.get(i));
}
// With pointers to pairs, each row begins at a whole pair, so that two elements move at once; strides count pairs.
template <int BYTES> struct PairWord { typedef uint type; };
template <> struct PairWord<4> { typedef ulong type; };
template <class T, class U> METAL_INLINE void tile_load(tile<T, 16, 16>& t, const vec<U, 2>* from, uint stride) {
  typedef typename PairWord<sizeof(U)>::type Word;
#pragma unroll
  for (int i = 0; i < 8; i += 2) {
    Word word = *(const Word*)(from + (t.row(i) * stride + t.column(i) / 2));
    if constexpr (is_small_float_v<T> && is_same_v<T, U>) {
      t.word[i / 2] = word;
    } else {
      U pair[2];
      METAL_COPY(pair, &word, sizeof(Word));
      t.set(i, T(pair[0])), t.set(i + 1, T(pair[1]));
    }
  }
}
template <class T, class U> METAL_INLINE void tile_store(const tile<T, 16, 16>& t, vec<U, 2>* to, uint stride) {
  typedef typename PairWord<sizeof(U)>::type Word;
#pragma unroll
  for (int i = 0; i < 8; i += 2) {
    U pair[2] = {U(t.get(i)), U(t.get(i + 1))};
    Word word;
    METAL_COPY(&word, pair, sizeof(Word));
    *(Word*)(to + (t.row(i) * stride + t.column(i) / 2)) = word;
  }
}
template <class T> METAL_INLINE tile<T, 16, 16> tile_transpose(const tile<T, 16, 16>& t) {
  tile<T, 16, 16> result;
  if constexpr (is_small_float_v<T>) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result.word[i]) : "r"(t.word[i % 2 * 2 + i / 2]));
  } else {
    uint lane = lane_number();
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      uint from = (lane % 4 * 2 + i % 2) * 4 + lane / 8;
      int block = i / 2 % 2 * 4 + i / 4 * 2;
      T even = exchange<32>(t.at[block], FromLane{from}), odd = exchange<32>(t.at[block + 1], FromLane{from});
      result.at[i] = lane / 4 % 2 ? odd : even;
    }
  }
  return result;
}
template <class U, class T> METAL_INLINE tile<U, 16, 16> tile_cast(const tile<T, 16, 16>& t) {
  tile<U, 16, 16> result;
#pragma unroll
  for (int i = 0; i < 8; ++i) result.set(i, U(t.get(i)));
  return result;
}
// d += a b, element by element.
template <class D, class A, class B>
METAL_INLINE void tile_multiply_accumulate_elements(tile<D, 16, 16>& d, const tile<A, 16, 16>& a, const tile<B, 16, 16>& b) {
#pragma unroll
  for (int i = 0; i < 8; ++i) d.set(i, D(float(d.get(i)) + float(a.get(i)) * float(b.get(i))));
}

// A right factor lies transposed, as the instructions take it: making one from a transposed tile, or loading one, moves
// nothing between lanes.
template <class T, int ROWS, int COLUMNS> struct right_tile {
  tile<T, ROWS, COLUMNS> transposed;
};
template <class T, class U> METAL_INLINE void tile_load_right(right_tile<T, 16, 16>& t, const U* from, uint stride) {
  if (!load_right_matrix_transposed(t.transposed, from, stride)) tile_load_transposed(t.transposed, from, stride);
}
template <class T, class U>
METAL_INLINE void tile_load_right_transposed(right_tile<T, 16, 16>& t, const U* from, uint stride) {
  if (!load_right_matrix(t.transposed, from, stride)) tile_load(t.transposed, from, stride);
}
template <class T> METAL_INLINE right_tile<T, 16, 16> tile_as_right(const tile<T, 16, 16>& t) {
  return right_tile<T, 16, 16>{tile_transpose(t)};
}
template <class T> METAL_INLINE right_tile<T, 16, 16> tile_as_right_transposed(const tile<T, 16, 16>& t) {
  return right_tile<T, 16, 16>{t};
}

// A tile's elements in pairs, as the instructions take them.
struct Pairs { uint at[4]; };
template <class T> METAL_INLINE Pairs pairs_of(const tile<T, 16, 16>& t) {
  return Pairs{{t.word[0], t.word[1], t.word[2], t.word[3]}};
}
METAL_INLINE uint bfloat_pair(float low, float high) {
  uint pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
// Splits a float into two bfloats: the float rounded, and the rest of it rounded. Together they keep sixteen bits.
METAL_INLINE void split_in_pairs(const tile<float, 16, 16>& t, Pairs& leading, Pairs& rest) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float low = t.at[2 * i], high = t.at[2 * i + 1];
    uint pair = bfloat_pair(low, high);
    leading.at[i] = pair;
    rest.at[i] = bfloat_pair(low - as_type<float>(pair << 16), high - as_type<float>(pair & 0xffff0000u));
  }
}
#define METAL_MMA(T, NAME)                                                                                               \
  METAL_INLINE void multiply_half(float* d, const Pairs& a, uint b0, uint b1, T) {                                        \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." NAME "." NAME ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                        \
                 : "r"(a.at[0]), "r"(a.at[1]), "r"(a.at[2]), "r"(a.at[3]), "r"(b0), "r"(b1));                            \
  }
METAL_MMA(half, "f16")
METAL_MMA(bfloat, "bf16")
#undef METAL_MMA
template <class T> METAL_INLINE void multiply_pairs(tile<float, 16, 16>& d, const Pairs& a, const Pairs& b, T type) {
  multiply_half(d.at, a, b.at[0], b.at[2], type);
  multiply_half(d.at + 4, a, b.at[1], b.at[3], type);
}
METAL_INLINE void tile_multiply_accumulate(tile<float, 16, 16>& d, const tile<half, 16, 16>& a, const tile<half, 16, 16>& b) {
  multiply_pairs(d, pairs_of(a), pairs_of(tile_transpose(b)), half());
}
METAL_INLINE void tile_multiply_accumulate(tile<float, 16, 16>& d, const tile<bfloat, 16, 16>& a, const tile<bfloat, 16, 16>& b) {
  multiply_pairs(d, pairs_of(a), pairs_of(tile_transpose(b)), bfloat());
}
// Multiplies other types exactly, in float: tensor cores would round float factors to ten bits.
template <class D, class A, class B>
METAL_INLINE void tile_multiply_accumulate(tile<D, 16, 16>& d, const tile<A, 16, 16>& a, const tile<B, 16, 16>& b) {
  uint lane = lane_number();
  float sum[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) sum[i] = float(d.get(i));
#pragma unroll
  for (int k = 0; k < 16; ++k) {
    float left[2], right[4];
    for (int r = 0; r < 2; ++r)
      left[r] = exchange<32>(float(a.get(k / 8 * 4 + r * 2 + k % 2)), FromLane{lane / 4 * 4 + uint(k % 8 / 2)});
    for (int c = 0; c < 4; ++c)
      right[c] = exchange<32>(float(b.get(c / 2 * 4 + k / 8 * 2 + c % 2)), FromLane{uint(k % 8) * 4 + lane % 4});
  #pragma unroll
  for (int i = 0; i < 8; ++i) sum[i] += left[i / 2 % 2] * right[i / 4 * 2 + i % 2];
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) d.set(i, D(sum[i]));
}

METAL_INLINE float tensor_float(float value) {
  uint bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return as_type<float>(bits);
}
// Multiplies eight of the sixteen inner indices, from element `e` on of each factor. Any order of them will do, as long
// as both factors have the same.
METAL_INLINE void multiply_eighth(float* d, const float* a, const float* b) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(as_type<uint>(a[0])), "r"(as_type<uint>(a[2])), "r"(as_type<uint>(a[1])), "r"(as_type<uint>(a[3])),
                 "r"(as_type<uint>(b[0])), "r"(as_type<uint>(b[1])));
}

// d += a b. Factors of half the width are exact on tensor cores. A float is split in two there, so that products keep 21
// bits of two floats and 16 of a float and a bfloat, and sums are float.
template <class T>
METAL_INLINE void tile_multiply_accumulate(tile<float, 16, 16>& d, const tile<T, 16, 16>& a, const right_tile<T, 16, 16>& b) {
  multiply_pairs(d, pairs_of(a), pairs_of(b.transposed), T());
}
METAL_INLINE void tile_multiply_accumulate(tile<float, 16, 16>& d, const tile<float, 16, 16>& a, const right_tile<bfloat, 16, 16>& b) {
  Pairs leading, rest, right = pairs_of(b.transposed);
  split_in_pairs(a, leading, rest);
  multiply_pairs(d, rest, right, bfloat());
  multiply_pairs(d, leading, right, bfloat());
}
METAL_INLINE void tile_multiply_accumulate(tile<float, 16, 16>& d, const tile<bfloat, 16, 16>& a, const right_tile<float, 16, 16>& b) {
  Pairs leading, rest, left = pairs_of(a);
  split_in_pairs(b.transposed, leading, rest);
  multiply_pairs(d, left, rest, bfloat());
  multiply_pairs(d, left, leading, bfloat());
}
METAL_INLINE void tile_multiply_accumulate(tile<float, 16, 16>& d, const tile<float, 16, 16>& a, const right_tile<float, 16, 16>& b) {
  float left[2][8], right[2][8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    left[0][i] = tensor_float(a.at[i]), left[1][i] = tensor_float(a.at[i] - left[0][i]);
    right[0][i] = tensor_float(b.transposed.at[i]), right[1][i] = tensor_float(b.transposed.at[i] - right[0][i]);
  }
#pragma unroll
  for (int order = 0; order < 3; ++order) {
#pragma unroll
    for (int part = 0; part < 4; ++part)
      multiply_eighth(d.at + part % 2 * 4, left[order == 0] + part / 2 * 4, right[order == 1] + part / 2 * 4 + part % 2 * 2);
  }
}
// Does the same with 16 bits of each float, in half the instructions and registers.
METAL_INLINE void tile_multiply_accumulate_sixteen_bits(
    tile<float, 16, 16>& d, const tile<float, 16, 16>& a, const right_tile<float, 16, 16>& b) {
  Pairs leading, rest, right_leading, right_rest;
  split_in_pairs(a, leading, rest);
  split_in_pairs(b.transposed, right_leading, right_rest);
  multiply_pairs(d, rest, right_leading, bfloat());
  multiply_pairs(d, leading, right_rest, bfloat());
  multiply_pairs(d, leading, right_leading, bfloat());
}
template <class A, class B>
METAL_INLINE void tile_multiply_accumulate(tile<float, 16, 16>& d, const tile<A, 16, 16>& a, const right_tile<B, 16, 16>& b) {
  tile<float, 16, 16> left;
  right_tile<float, 16, 16> right;
  for (int i = 0; i < 8; ++i) left.at[i] = float(a.get(i)), right.transposed.at[i] = float(b.transposed.get(i));
  tile_multiply_accumulate(d, left, right);
}

// Every thread copies a part; `threadgroup_barrier` waits for all of it. Sixteen bytes move at once if all is aligned
// and the threads make whole rows, so that each goes down one column.
template <class T>
METAL_INLINE void tile_copy_rows(
    T* to, uint to_stride, const T* from, uint from_stride, uint rows, uint columns, uint valid, uint index, uint threads) {
  constexpr uint some = 16 / sizeof(T);
  uint parts = columns / some;
  bool aligned = ((shared_address(to) | uint(ulong(from)) | (to_stride | from_stride | columns) * uint(sizeof(T))) & 15u) == 0;
  if (aligned && threads % parts == 0) {
    uint step = threads / parts, row = index / parts, column = index % parts * some;
    const T* source = from + ulong(row) * from_stride + column;
    uint target = shared_address(to + row * to_stride + column);
#pragma unroll 8
    for (uint i = 0; i < (rows + step - 1) / step; ++i) {
      if (rows % step == 0 || row < rows) {
        bool there = row < valid;
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                     : : "r"(target), "l"(there ? source : from), "r"(there ? 16 : 0) : "memory");
      }
      row += step, source += ulong(step) * from_stride, target += step * to_stride * uint(sizeof(T));
    }
    return;
  }
#pragma unroll 1
  for (uint i = index; i < rows * columns; i += threads) {
    uint row = i / columns, column = i % columns;
    to[row * to_stride + column] = row < valid ? from[row * from_stride + column] : T(0.0f);
  }
}

// Each thread prefetches some lines of 128 bytes into the L2 cache.
template <class T>
METAL_INLINE void tile_prefetch_rows(const T* from, uint stride, uint rows, uint columns, uint index, uint threads) {
  constexpr uint line = 128 / sizeof(T);
  uint lines = (columns + line - 1) / line;
  for (uint i = index; i < rows * lines; i += threads)
    asm volatile("prefetch.global.L2 [%0];" : : "l"(from + (ulong(i / lines) * stride + i % lines * line)));
}

// Holds one value for each row, in each lane that holds a part of it.
template <class T> struct tile_rows {
  T at[2];
  tile_rows() = default;
  METAL_INLINE explicit tile_rows(T value) { at[0] = at[1] = value; }
  static METAL_INLINE ushort row(int i) { return ushort(lane_number() / 4 + i * 8); }
};
METAL_INLINE int tile_row_of(int element) { return element / 2 % 2; }
template <class F, class T> METAL_INLINE tile_rows<T> reduce_rows(const tile<T, 16, 16>& t) {
  tile_rows<T> result;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    T value = F::of(F::of(t.get(2 * i), t.get(2 * i + 1)), F::of(t.get(2 * i + 4), t.get(2 * i + 5)));
    value = F::of(value, exchange<32>(value, FromXor{1}));
    result.at[i] = F::of(value, exchange<32>(value, FromXor{2}));
  }
  return result;
}
template <class T> METAL_INLINE tile_rows<T> tile_row_sum(const tile<T, 16, 16>& t) { return reduce_rows<Plus>(t); }
template <class T> METAL_INLINE tile_rows<T> tile_row_max(const tile<T, 16, 16>& t) { return reduce_rows<Greatest>(t); }

// ---- attributes -----------------------------------------------------------------------------------------------------

METAL_INLINE uint3 uint3_of(dim3 d) { return uint3(d.x, d.y, d.z); }
METAL_INLINE uint3 attribute_thread_position_in_threadgroup() { return uint3(threadIdx.x, threadIdx.y, threadIdx.z); }
METAL_INLINE uint3 attribute_threadgroup_position_in_grid() { return uint3(blockIdx.x, blockIdx.y, blockIdx.z); }
METAL_INLINE uint3 attribute_threads_per_threadgroup() { return uint3_of(blockDim); }
METAL_INLINE uint3 attribute_dispatch_threads_per_threadgroup() { return uint3_of(blockDim); }
METAL_INLINE uint3 attribute_threadgroups_per_grid() { return uint3_of(gridDim); }
METAL_INLINE uint3 attribute_thread_position_in_grid() {
  return attribute_threadgroup_position_in_grid() * attribute_threads_per_threadgroup() + attribute_thread_position_in_threadgroup();
}
METAL_INLINE uint3 attribute_grid_origin() { return uint3(0u); }
METAL_INLINE uint attribute_thread_index_in_threadgroup() { return linear_thread(); }
METAL_INLINE uint attribute_thread_index_in_simdgroup() { return lane_number(); }
METAL_INLINE uint attribute_simdgroup_index_in_threadgroup() { return linear_thread() / 32; }
METAL_INLINE uint attribute_simdgroups_per_threadgroup() { return (blockDim.x * blockDim.y * blockDim.z + 31) / 32; }
METAL_INLINE uint attribute_dispatch_simdgroups_per_threadgroup() { return attribute_simdgroups_per_threadgroup(); }
METAL_INLINE uint attribute_thread_index_in_quadgroup() { return lane_number() % 4; }
METAL_INLINE uint attribute_quadgroup_index_in_threadgroup() { return linear_thread() / 4; }
METAL_INLINE uint attribute_quadgroups_per_threadgroup() { return (blockDim.x * blockDim.y * blockDim.z + 3) / 4; }
METAL_INLINE uint attribute_dispatch_quadgroups_per_threadgroup() { return attribute_quadgroups_per_threadgroup(); }
METAL_INLINE uint attribute_threads_per_simdgroup() { return 32; }
METAL_INLINE uint attribute_thread_execution_width() { return 32; }

} // namespace metal

#define tile_for_each(TILE, ROW, COLUMN, VALUE)                                                            \
  _Pragma("unroll") for (int element_ = 0; element_ < 8; ++element_)                                       \
    for (bool once_ = true; once_;)                                                                        \
      for (const ushort ROW = (TILE).row(element_), COLUMN = (TILE).column(element_); once_;)              \
        for (auto VALUE = (TILE).get(element_); once_; (TILE).set(element_, VALUE), once_ = false)
#define tile_with_rows(TILE, ROWS, ROW, COLUMN, VALUE, OF_ROW)                                             \
  _Pragma("unroll") for (int element_ = 0; element_ < 8; ++element_)                                       \
    for (bool once_ = true; once_;)                                                                        \
      for (const ushort ROW = (TILE).row(element_), COLUMN = (TILE).column(element_); once_;)              \
        for (const auto OF_ROW = (ROWS).at[metal::tile_row_of(element_)]; once_;)                          \
          for (auto VALUE = (TILE).get(element_); once_; (TILE).set(element_, VALUE), once_ = false)
