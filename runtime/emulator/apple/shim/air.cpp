// Functions that compiled kernels call for each function of AIR that is more than an instruction: the emulator's own
// shim, with the number of the call as an argument. Values are passed as bits, so that calling conventions do not
// matter.
#include "hooks.cpp"
#include "once.h"

using namespace metal;

namespace {

// Numbers agree with `lower/builtins.rs`.
enum Type : uint { F32, F16, BF16, S8, S16, S32, U8, U16, U32 };
enum Operation : uint {
  SUM, PRODUCT, MIN, MAX, INCLUSIVE_SUM, EXCLUSIVE_SUM, INCLUSIVE_PRODUCT, EXCLUSIVE_PRODUCT, SHUFFLE, SHUFFLE_XOR, SHUFFLE_UP,
  SHUFFLE_DOWN, FILL_UP, FILL_DOWN
};

template <class T> METAL_INLINE T of_bits(ulong bits) {
  T value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}
template <class T> METAL_INLINE ulong bits_of(T value) {
  ulong bits = 0;
  __builtin_memcpy(&bits, &value, sizeof value);
  return bits;
}

template <class T> T collect_at(T value, emulator::Combine combine, uint width, uint argument, T filling, uint site) {
  Operand<T> mine{value, value, filling, argument, false};
  emulator::Context* c = emulator::context();
  if (holds_nan(value)) c->fault(c, emulator::NAN_OPERAND, 0, 0, site, nullptr);
  c->collective(c, &mine, combine, site, width);
  if (mine.absent) {
    c->fault(c, emulator::ABSENT_LANE, long(mine.argument), 0, site, nullptr);
    __builtin_memset(&mine.result, 0xff, sizeof(T));
  }
  return mine.result;
}

template <class T> emulator::Combine combine_of(uint operation) {
  switch (operation) {
    case SUM: return each_group<T, Reduce<Plus>, 32>;
    case PRODUCT: return each_group<T, Reduce<Times>, 32>;
    case MIN: return each_group<T, Reduce<Least>, 32>;
    case MAX: return each_group<T, Reduce<Greatest>, 32>;
    case INCLUSIVE_SUM: return each_group<T, Prefix<Plus, true>, 32>;
    case EXCLUSIVE_SUM: return each_group<T, Prefix<Plus, false>, 32>;
    case INCLUSIVE_PRODUCT: return each_group<T, Prefix<Times, true>, 32>;
    default: return each_group<T, Prefix<Times, false>, 32>;
  }
}
// Values are moved between lanes as they are, whatever their type.
emulator::Combine move_of(uint operation) {
  switch (operation) {
    case SHUFFLE: return each_group<ulong, Broadcast, 32>;
    case SHUFFLE_XOR: return each_group<ulong, ShuffleXor, 32>;
    case SHUFFLE_UP: return each_group<ulong, Shift<true, false>, 32>;
    case SHUFFLE_DOWN: return each_group<ulong, Shift<false, false>, 32>;
    case FILL_UP: return each_group<ulong, ShiftAndFill<true>, 32>;
    default: return each_group<ulong, ShiftAndFill<false>, 32>;
  }
}
template <class T> ulong reduce(ulong value, uint operation, uint site) {
  return bits_of(collect_at(of_bits<T>(value), combine_of<T>(operation), 32, 0, T(0), site));
}

struct Nothing { template <class T> static void run(Lanes<T>) {} };
void meet_at(uint site) { collect_at(uint(0), each_group<uint, Nothing, 32>, 32, 0, uint(0), site); }

// Finds the elements of a matrix that this lane holds.
void place_of(ulong stride, ulong x, ulong y, bool transpose, ulong (&at)[2]) {
  uint lane = emulator::context()->lane, row = matrix_row(lane), column = matrix_column(lane);
  for (uint i = 0; i < 2; ++i)
    at[i] = y * stride + x + (transpose ? (column + i) * stride + row : row * stride + column + i);
}

// Copies one element. `memcpy` would be watched.
void copy(char* to, const char* from, uint bytes) {
  if (bytes == 4) *(uint*)to = *(const uint*)from;
  else *(ushort*)to = *(const ushort*)from;
}

template <class A, class B> void multiply(uint site, const uint* a, const uint* b, const uint* c, uint* d) {
  float result[2];
  MatrixOperand<float, A, B, float> mine{
      result, {of_bits<A>(a[0]), of_bits<A>(a[1])}, {of_bits<B>(b[0]), of_bits<B>(b[1])}, {of_bits<float>(c[0]), of_bits<float>(c[1])}};
  emulator::Context* context = emulator::context();
  context->collective(context, &mine, matrix_multiply<float, A, B, float>, site, 32);
  d[0] = uint(bits_of(result[0])), d[1] = uint(bits_of(result[1]));
}
template <class A> void multiply_by(uint site, uint right, const uint* a, const uint* b, const uint* c, uint* d) {
  if (right == F16) multiply<A, half>(site, a, b, c, d);
  else if (right == BF16) multiply<A, bfloat>(site, a, b, c, d);
  else multiply<A, float>(site, a, b, c, d);
}

} // namespace

extern "C" {

ulong air_collective(ulong value, uint argument, ulong filling, uint operation, uint type, uint site) {
  if (operation >= SHUFFLE) return collect_at(value, move_of(operation), 32, argument, filling, site);
  switch (type) {
    case F32: return reduce<float>(value, operation, site);
    case F16: return reduce<half>(value, operation, site);
    case S8: return reduce<signed char>(value, operation, site);
    case S16: return reduce<short>(value, operation, site);
    case S32: return reduce<int>(value, operation, site);
    case U8: return reduce<uchar>(value, operation, site);
    case U16: return reduce<ushort>(value, operation, site);
    default: return reduce<uint>(value, operation, site);
  }
}
float air_quad_sum(float value, uint site) { return collect_at(value, each_group<float, Reduce<Plus>, 4>, 4, 0, 0.0f, site); }
uint air_any(uint value, uint site) { return collect_at(ulong(value & 1), each_group<ulong, Ballot, 32>, 32, 0, 0ul, site) != 0; }
uint air_all(uint value, uint site) { return collect_at(ulong(!(value & 1)), each_group<ulong, Ballot, 32>, 32, 0, 0ul, site) == 0; }
void air_barrier(uint flags, uint simdgroup_only, uint site) {
  emulator::Context* c = emulator::context();
  c->barrier(c, site, flags, simdgroup_only);
}
void* air_threadgroup(uint id, ulong bytes, ulong element, uint dtype, const char* name) {
  emulator::Context* c = emulator::context();
  return c->threadgroup_array(c, id, bytes, element, dtype, name);
}
void air_private_bounds(uint) {
  emulator::Context* c = emulator::context();
  c->fault(c, emulator::PRIVATE_BOUNDS, 0, 0, 0, __builtin_return_address(0));
}

void air_misaligned(ulong at, ulong alignment, uint) {
  emulator::Context* c = emulator::context();
  c->fault(c, emulator::MISALIGNED, long(at), long(alignment), 0, __builtin_return_address(0));
}
void air_wrapped_index(ulong full, ulong found, uint) {
  emulator::Context* c = emulator::context();
  c->fault(c, emulator::WRAPPED_INDEX, long(full), long(found), 0, __builtin_return_address(0));
}
// A conversion to an integer of this many bits, whose result is undefined if it does not fit.
void air_float_to_integer(float x, uint bits, uint is_signed) {
  double high = double(1ul << (bits - 1)) * (is_signed ? 1 : 2), low = is_signed ? -high : 0;
  // The conversion drops the fraction.
  if (double(x) > low - 1 && double(x) < high) return;
  if (is_signed && double(x) == low) return;
  emulator::Context* c = emulator::context();
  c->fault(c, emulator::FLOAT_TO_INTEGER, long(as_type<uint>(x)), 32, 0, __builtin_return_address(0));
}

void air_matrix_load(const char* from, ulong stride, ulong x, ulong y, uint transpose, uint bytes, char* two, uint site) {
  const void* pc = __builtin_return_address(0);
  meet_at(site);
  ulong at[2];
  place_of(stride, x, y, transpose & 1, at);
  for (uint i = 0; i < 2; ++i) {
    metal_touch(from + at[i] * bytes, bytes, emulator::READ, pc);
    copy(two + i * bytes, from + at[i] * bytes, bytes);
  }
}
void air_matrix_store(char* to, ulong stride, ulong x, ulong y, uint transpose, uint bytes, const char* two, uint site) {
  const void* pc = __builtin_return_address(0);
  meet_at(site);
  ulong at[2];
  place_of(stride, x, y, transpose & 1, at);
  for (uint i = 0; i < 2; ++i) {
    metal_touch(to + at[i] * bytes, bytes, emulator::WRITE, pc);
    copy(to + at[i] * bytes, two + i * bytes, bytes);
  }
}
void air_matrix_multiply(uint left, uint right, const uint* a, const uint* b, const uint* c, uint* d, uint site) {
  if (left == F16) multiply_by<half>(site, right, a, b, c, d);
  else if (left == BF16) multiply_by<bfloat>(site, right, a, b, c, d);
  else multiply_by<float>(site, right, a, b, c, d);
}

float air_atomic_add_f32(float* place, float by) {
  emulator::Context* c = emulator::context();
  c->access(c, (const unsigned char*)place, sizeof(float), emulator::ATOMIC_UPDATE, __builtin_return_address(0));
  float before = *place;
  *place = before + by;
  return before;
}

#define AIR_ONE(NAME) float air_##NAME(float x) { return metal::NAME(x); }
AIR_ONE(exp) AIR_ONE(exp2) AIR_ONE(log) AIR_ONE(log2) AIR_ONE(log10) AIR_ONE(sin) AIR_ONE(cos) AIR_ONE(tan) AIR_ONE(asin)
AIR_ONE(acos) AIR_ONE(atan) AIR_ONE(sinh) AIR_ONE(cosh) AIR_ONE(tanh) AIR_ONE(asinh) AIR_ONE(acosh) AIR_ONE(atanh) AIR_ONE(sqrt)
AIR_ONE(rsqrt) AIR_ONE(fabs) AIR_ONE(floor) AIR_ONE(ceil) AIR_ONE(rint) AIR_ONE(round) AIR_ONE(trunc)
#define AIR_TWO(NAME) float air_##NAME(float x, float y) { return metal::NAME(x, y); }
AIR_TWO(pow) AIR_TWO(atan2) AIR_TWO(fmod) AIR_TWO(fmin) AIR_TWO(fmax)
float air_ldexp(float x, int by) { return metal::ldexp(x, by); }
float air_fma(float a, float b, float c) { return metal::fma(a, b, c); }
float air_dot4(float a, float b, float c, float d, float e, float f, float g, float h) {
  return metal::dot(float4(a, b, c, d), float4(e, f, g, h));
}

uint air_half_of_double(double x) { return half(to_odd(x)).bits; }
uint air_bfloat_of_double(double x) { return bfloat(to_odd(x)).bits; }
uint air_bfloat_of_s64(long x) { return bfloat(to_odd((long double)x)).bits; }
uint air_bfloat_of_u64(ulong x) { return bfloat(to_odd((long double)x)).bits; }

// LLVM calls conversions by these names if the processor has no instruction for them. For floats, the result is in the
// lower bits of a register.
#ifdef __x86_64__
typedef _Float16 Low16;
Low16 __truncsfbf2(float x) { return of_bits<Low16>(bfloat(x).bits); }
Low16 __truncdfbf2(double x) { return of_bits<Low16>(bfloat(to_odd(x)).bits); }
Low16 __truncdfhf2(double x) { return of_bits<Low16>(half(to_odd(x)).bits); }
#endif

// The entry of a kernel reads the values of attributes from here.
#define AIR_ATTRIBUTE(NAME) const void* air_attribute_##NAME(const Attributes* a) { return &a->NAME; }
AIR_ATTRIBUTE(thread_position_in_grid) AIR_ATTRIBUTE(thread_position_in_threadgroup)
AIR_ATTRIBUTE(threadgroup_position_in_grid) AIR_ATTRIBUTE(threads_per_grid) AIR_ATTRIBUTE(threads_per_threadgroup)
AIR_ATTRIBUTE(dispatch_threads_per_threadgroup) AIR_ATTRIBUTE(threadgroups_per_grid) AIR_ATTRIBUTE(thread_index_in_threadgroup)
AIR_ATTRIBUTE(thread_index_in_simdgroup) AIR_ATTRIBUTE(simdgroup_index_in_threadgroup)
AIR_ATTRIBUTE(simdgroups_per_threadgroup) AIR_ATTRIBUTE(dispatch_simdgroups_per_threadgroup)
AIR_ATTRIBUTE(thread_index_in_quadgroup) AIR_ATTRIBUTE(quadgroup_index_in_threadgroup)
AIR_ATTRIBUTE(quadgroups_per_threadgroup) AIR_ATTRIBUTE(threads_per_simdgroup)
}
