//! Kernels that are correct though they look suspicious: nothing must be found, in three schedules, and where it is easy
//! to say, the numbers must be exact.

#[allow(dead_code)]
mod table;

use cotangent_emulator::Dtype;
use table::{judge, sound};

fn counting(n: u32) -> impl Iterator<Item = f64> {
    (0..n).map(f64::from)
}

#[test]
fn synchronisation() {
    judge(&[
        sound(
            "reversal through threadgroup memory",
            "uint i = thread_position_in_grid.x;
             threadgroup float s[64];
             s[i] = x[i];
             threadgroup_barrier(mem_flags::mem_threadgroup);
             y[i] = s[63 - i];",
        )
        .gives(counting(64).map(|i| 63.0 - i)),
        sound(
            "bfloats copied through threadgroup memory",
            "uint i = thread_position_in_grid.x;
             threadgroup bfloat s[64];
             s[i] = x[i];
             threadgroup_barrier(mem_flags::mem_threadgroup);
             y[i] = s[63 - i];",
        )
        .x(Dtype::BF16, &[64], counting(64))
        .y(Dtype::BF16, &[64])
        .gives(counting(64).map(|i| 63.0 - i)),
        sound(
            "halves copied through threadgroup memory",
            "uint i = thread_position_in_grid.x;
             threadgroup half s[64];
             s[i] = x[i];
             threadgroup_barrier(mem_flags::mem_threadgroup);
             y[i] = s[63 - i];",
        )
        .x(Dtype::F16, &[64], counting(64))
        .y(Dtype::F16, &[64])
        .gives(counting(64).map(|i| 63.0 - i)),
        sound(
            "both flags at once",
            "uint i = thread_position_in_grid.x;
             threadgroup float s[64];
             s[i] = x[i];
             y[i] = x[i];
             threadgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);
             float v = s[63 - i] + y[63 - i];
             threadgroup_barrier(mem_flags::mem_device);
             y[i] = v;",
        )
        .gives(counting(64).map(|i| 126.0 - 2.0 * i)),
        sound(
            "simdgroup barrier within a simdgroup",
            "uint i = thread_position_in_grid.x;
             threadgroup float s[64];
             s[i] = x[i];
             simdgroup_barrier(mem_flags::mem_threadgroup);
             y[i] = s[i ^ 31];",
        )
        .gives(counting(64).map(|i| f64::from(i as u32 ^ 31))),
        sound(
            "each thread reads back its own",
            "uint i = thread_position_in_grid.x;
             threadgroup float s[64];
             s[i] = x[i];
             y[i] = s[i];
             y[i] += 1;",
        )
        .gives(counting(64).map(|i| i + 1.0)),
        sound(
            "double buffer with one barrier a step",
            "uint i = thread_position_in_grid.x;
             threadgroup float s[2][64];
             s[0][i] = x[i];
             for (int step = 0; step < 5; ++step) {
                 threadgroup_barrier(mem_flags::mem_threadgroup);
                 s[(step + 1) % 2][i] = s[step % 2][(i + 1) % 64];
             }
             y[i] = s[1][i];",
        )
        .gives(counting(64).map(|i| (i + 5.0) % 64.0)),
        sound(
            "barrier in a branch that all threads take",
            "uint i = thread_position_in_grid.x;
             if (x_shape[0] == 64) threadgroup_barrier(mem_flags::mem_threadgroup);
             y[i] = x[i];",
        ),
        sound(
            "reduction in a branch that whole simdgroups take",
            "uint i = thread_position_in_grid.x;
             y[i] = 0;
             if (simdgroup_index_in_threadgroup == 1) y[i] = simd_sum(x[i]);",
        )
        .gives(counting(64).map(|i| if i < 32.0 { 0.0 } else { 1520.0 })),
        sound(
            "whole simdgroups return early",
            "uint i = thread_position_in_grid.x;
             y[i] = x[i];
             if (i < 32) return;
             y[i] = simd_max(x[i]);",
        )
        .gives(counting(64).map(|i| if i < 32.0 { i } else { 63.0 })),
        sound(
            "threads return early where no thread waits",
            "uint i = thread_position_in_grid.x;
             if (i >= 64) return;
             y[i] = x[i];",
        )
        .threads(100, 32),
        sound(
            "quadgroup operation in a branch that whole quadgroups take",
            "uint i = thread_position_in_grid.x;
             y[i] = x[i];
             if (quadgroup_index_in_threadgroup % 2) y[i] = quad_sum(x[i]);",
        )
        .gives(counting(64).map(|i| if (i / 4.0) as u32 % 2 == 1 { (i / 4.0).floor() * 16.0 + 6.0 } else { i })),
        sound(
            "active lanes of a branch",
            "uint i = thread_position_in_grid.x;
             y[i] = 0;
             if (i % 2) {
                 y[i] = simd_is_first() ? 1.0 : 2.0;
             }",
        )
        .gives(counting(64).map(|i| match i as u32 {
            1 | 33 => 1.0,
            i => f64::from(i % 2 * 2),
        })),
        sound(
            "ragged last threadgroup and simdgroup",
            "uint i = thread_position_in_grid.x;
             y[i] = simd_sum(1.0f) + 100 * threads_per_threadgroup.x;",
        )
        .threads(90, 50)
        .y(Dtype::F32, &[90])
        .gives((0..90).map(|i| match i {
            0..32 => 5032.0,
            32..50 => 5018.0,
            50..82 => 4032.0,
            _ => 4008.0,
        })),
        sound(
            "same value written by no other thread: one thread speaks for all",
            "uint i = thread_position_in_grid.x;
             threadgroup float total;
             float sum = simd_sum(x[i]);
             if (i == 0) total = sum;
             threadgroup_barrier(mem_flags::mem_threadgroup);
             y[i] = total;",
        )
        .gives(counting(64).map(|_| 496.0)),
        sound(
            "early exit of a loop on a vote",
            "uint i = thread_position_in_grid.x;
             float v = x[i];
             while (simd_any(v > 3)) v = v / 2;
             y[i] = v <= 3 ? 1 : 0;",
        )
        .gives(counting(64).map(|_| 1.0)),
    ]);
}

#[test]
fn memory() {
    judge(&[
        sound(
            "neighbouring halves of a word",
            "uint i = thread_position_in_grid.x;
             threadgroup ushort s[64];
             s[i] = i;
             y[i] = s[i];",
        ),
        sound(
            "neighbouring bytes written through a cast",
            "uint i = thread_position_in_grid.x;
             ((device uchar*)y)[i] = uchar(i);",
        )
        .threads(256, 64)
        .y(Dtype::U32, &[64])
        .gives((0..64u32).map(|i| f64::from(u32::from_le_bytes([4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3].map(|b| b as u8))))),
        sound(
            "vector loads and stores",
            "uint i = thread_position_in_grid.x;
             ((device float4*)y)[i] = ((device const float4*)x)[i] * 2.0;",
        )
        .threads(16, 16)
        .gives(counting(64).map(|i| 2.0 * i)),
        sound(
            "atomic sums in any order",
            "uint i = thread_position_in_grid.x;
             atomic_fetch_add_explicit(&y[i % 4], 1.0f, memory_order_relaxed);",
        )
        .atomic()
        .init(0.0)
        .threads(4096, 64)
        .y(Dtype::F32, &[4])
        .gives([1024.0; 4]),
        sound(
            "atomic maximum of integers",
            "uint i = thread_position_in_grid.x;
             atomic_fetch_max_explicit(&y[0], int(x[i]), memory_order_relaxed);",
        )
        .atomic()
        .init(-1.0)
        .y(Dtype::I32, &[1])
        .gives([63.0]),
        sound(
            "compare and exchange",
            "uint i = thread_position_in_grid.x;
             uint old = atomic_load_explicit(&y[0], memory_order_relaxed);
             while (!atomic_compare_exchange_weak_explicit(&y[0], &old, old + i, memory_order_relaxed, memory_order_relaxed)) {}",
        )
        .atomic()
        .init(0.0)
        .y(Dtype::U32, &[1])
        .gives([2016.0]),
        sound(
            "atomic counter in threadgroup memory",
            "threadgroup atomic_uint count;
             uint i = thread_position_in_grid.x;
             if (i == 0) atomic_store_explicit(&count, 0u, memory_order_relaxed);
             threadgroup_barrier(mem_flags::mem_threadgroup);
             atomic_fetch_add_explicit(&count, i, memory_order_relaxed);
             threadgroup_barrier(mem_flags::mem_threadgroup);
             y[i] = atomic_load_explicit(&count, memory_order_relaxed);",
        )
        .gives(counting(64).map(|_| 2016.0)),
        sound("initial value kept", "if (thread_position_in_grid.x == 3) y[3] = 1;")
            .init(0.5)
            .y(Dtype::F16, &[4])
            .gives([0.5, 0.5, 0.5, 1.0]),
        sound(
            "one array for two types",
            "uint i = thread_position_in_grid.x;
             threadgroup float s[64];
             ((threadgroup uint*)s)[i] = i;
             threadgroup_barrier(mem_flags::mem_threadgroup);
             y[i] = ((threadgroup uint*)s)[63 - i];",
        )
        .gives(counting(64).map(|i| 63.0 - i)),
        sound(
            "pointers to threadgroup memory handed around",
            "uint i = thread_position_in_grid.x;
             threadgroup float s[64];
             threadgroup float* p = s;
             p[i] = x[i];
             threadgroup_barrier(mem_flags::mem_threadgroup);
             threadgroup const float* q = p + 1;
             y[i] = i == 63 ? 0 : total(q + i, 1);",
        )
        .header("template <typename T>\ninline T total(threadgroup const T* p, uint n) {\n  T sum = 0;\n  for (uint k = 0; k < n; ++k) sum += p[k];\n  return sum;\n}")
        .gives(counting(64).map(|i| if i == 63.0 { 0.0 } else { i + 1.0 })),
        sound(
            "a helper for each address space",
            "uint i = thread_position_in_grid.x;
             threadgroup float s[64];
             s[i] = x[i];
             threadgroup_barrier(mem_flags::mem_threadgroup);
             y[i] = pair(x, i) + pair(s, i);",
        )
        .header(
            "inline float pair(const device float* p, uint i) { return p[i] + p[i ^ 1]; }
             inline float pair(const threadgroup float* p, uint i) { return p[i] + p[i ^ 1]; }",
        )
        .gives(counting(64).map(|i| 2.0 * (i + f64::from(i as u32 ^ 1)))),
        sound(
            "private arrays of every index",
            "uint i = thread_position_in_grid.x;
             float a[8];
             for (uint k = 0; k < 8; ++k) a[k] = x[i] * k;
             y[i] = a[i % 8];",
        )
        .gives(counting(64).map(|i| i * (i % 8.0))),
        sound(
            "NaN that comes in may go out",
            "uint i = thread_position_in_grid.x;
             float v = simd_max(w[i % 9]);
             y[i] = v - w[i % 9];",
        )
        .input("w", Dtype::F32, &[9], [f64::NAN; 9]),
        sound(
            "any strides",
            "uint i = thread_position_in_grid.x;
             y[i] = x[elem_to_loc(i, x_shape, x_strides, x_ndim)];",
        )
        .x(Dtype::F32, &[4, 16], counting(64))
        .gives(counting(64)),
        sound(
            "a scalar by reference, a shape, dimensions",
            "uint i = thread_position_in_grid.x;
             y[i] = scale * x_shape[1] + x_ndim + x_strides[0];",
        )
        .x(Dtype::F32, &[4, 16], counting(64))
        .input("scale", Dtype::F32, &[], [2.0])
        .gives([50.0; 64]),
        sound(
            "64-bit and 8-bit integers",
            "uint i = thread_position_in_grid.x;
             y[i] = long(x[i]) * 1000000007l;",
        )
        .x(Dtype::I8, &[64], counting(64))
        .y(Dtype::I64, &[64])
        .gives(counting(64).map(|i| i * 1_000_000_007.0)),
        sound("bools", "uint i = thread_position_in_grid.x; y[i] = x[i] && !w[i % 2];")
            .x(Dtype::Bool, &[64], counting(64).map(|i| f64::from(i > 3.0)))
            .input("w", Dtype::Bool, &[2], [0.0, 1.0])
            .y(Dtype::Bool, &[64])
            .gives(counting(64).map(|i| f64::from(i > 3.0 && i % 2.0 == 0.0))),
    ]);
}

#[test]
fn simdgroup_and_quadgroup_operations() {
    let by_lane = |name, expression: &str| {
        sound(name, &format!("uint lane = thread_index_in_simdgroup;\nint v = lane;\ny[lane] = {expression};"))
            .threads(32, 32)
            .y(Dtype::I32, &[32])
    };
    let each = |f: fn(i64) -> i64| (0..32).map(move |i| f(i) as f64);
    judge(&[
        by_lane("simd_sum", "simd_sum(v)").gives(each(|_| 496)),
        by_lane("simd_product", "simd_product(v % 3 + 1)")
            .gives((0..32).map(|_| f64::from((0..32).fold(1i32, |p, i| p.wrapping_mul(i % 3 + 1))))),
        by_lane("simd_min", "simd_min(40 - v)").gives(each(|_| 9)),
        by_lane("simd_and", "simd_and(v | 64)").gives(each(|_| 64)),
        by_lane("simd_or", "simd_or(v)").gives(each(|_| 31)),
        by_lane("simd_xor", "simd_xor(v + 1)").gives(each(|_| 32)),
        by_lane("simd_prefix_inclusive_sum", "simd_prefix_inclusive_sum(v)").gives(each(|i| i * (i + 1) / 2)),
        by_lane("simd_prefix_exclusive_sum", "simd_prefix_exclusive_sum(v)").gives(each(|i| i * (i - 1) / 2)),
        by_lane("simd_prefix_inclusive_product", "simd_prefix_inclusive_product(v < 5 ? 2 : 1)")
            .gives(each(|i| 1 << (i + 1).min(5))),
        by_lane("simd_prefix_exclusive_product", "simd_prefix_exclusive_product(v < 5 ? 2 : 1)")
            .gives(each(|i| 1 << i.min(5))),
        by_lane("simd_broadcast", "simd_broadcast(v, 7)").gives(each(|_| 7)),
        by_lane("simd_broadcast_first", "simd_broadcast_first(v + 3)").gives(each(|_| 3)),
        by_lane("simd_shuffle", "simd_shuffle(v, 31 - lane)").gives(each(|i| 31 - i)),
        by_lane("simd_shuffle_xor", "simd_shuffle_xor(v, 5)").gives(each(|i| i ^ 5)),
        by_lane("simd_shuffle_up", "simd_shuffle_up(v, 2) * (lane > 1)").gives(each(|i| if i < 2 { 0 } else { i - 2 })),
        by_lane("simd_shuffle_down", "simd_shuffle_down(v, 3) * (lane < 29)")
            .gives(each(|i| if i < 29 { i + 3 } else { 0 })),
        by_lane("simd_shuffle_rotate_up", "simd_shuffle_rotate_up(v, 3)").gives(each(|i| (i + 29) % 32)),
        by_lane("simd_shuffle_rotate_down", "simd_shuffle_rotate_down(v, 3)").gives(each(|i| (i + 3) % 32)),
        by_lane("simd_shuffle_and_fill_up", "simd_shuffle_and_fill_up(v, v + 100, 2)")
            .gives(each(|i| if i < 2 { i + 130 } else { i - 2 })),
        by_lane("simd_shuffle_and_fill_down", "simd_shuffle_and_fill_down(v, v + 100, 2, 8)")
            .gives(each(|i| if i % 8 < 6 { i + 2 } else { i - 6 + 100 })),
        by_lane("simd_ballot", "int(ulong(simd_ballot(lane % 3 == 0)) & 0xffff)").gives(each(|_| 0b1001001001001001)),
        by_lane(
            "simd_all and simd_any",
            "int(simd_all(v < 32)) + 2 * int(simd_any(v == 9)) + 4 * int(simd_all(v == 9))",
        )
        .gives(each(|_| 3)),
        by_lane("quad_sum", "quad_sum(v)").gives(each(|i| i / 4 * 16 + 6)),
        by_lane("quad_max", "quad_max(v)").gives(each(|i| i | 3)),
        by_lane("quad_shuffle", "quad_shuffle(v, 3 - lane % 4)").gives(each(|i| i ^ 3)),
        by_lane("quad_broadcast", "quad_broadcast(v, 1)").gives(each(|i| i / 4 * 4 + 1)),
        by_lane("quad_prefix_inclusive_sum", "quad_prefix_inclusive_sum(1)").gives(each(|i| i % 4 + 1)),
        by_lane("quad_shuffle_rotate_up", "quad_shuffle_rotate_up(v, 1)").gives(each(|i| i / 4 * 4 + (i + 3) % 4)),
        by_lane("vectors", "simd_sum(int2(v, 1)).y + simd_shuffle(int3(v, 2, 3), 4).x").gives(each(|_| 36)),
        by_lane("nested calls", "simd_sum(simd_max(v) - simd_min(v))").gives(each(|_| 992)),
    ]);
}
