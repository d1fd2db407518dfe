//! Kernels that are correct though they look suspicious: nothing must be found, in two schedules, and where it is easy
//! to say, the numbers must be exact.

#[allow(dead_code)]
mod table;

use cotangent_emulator::{Dtype, TemplateValue};
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
            "threads return early where nobody waits",
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
            "same value written by nobody else: one thread speaks for all",
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

#[test]
fn matrices() {
    let product = |a: fn(usize, usize) -> f64, b: fn(usize, usize) -> f64, n: usize| {
        let element = move |i: usize| (0..n).map(|k| a(i / n, k) * b(k, i % n)).sum::<f64>();
        (0..n * n).map(element).collect::<Vec<_>>()
    };
    let a = |r: usize, c: usize| r as f64 + 2.0 * c as f64;
    let b = |r: usize, c: usize| 3.0 * r as f64 - c as f64;
    let fill = |f: fn(usize, usize) -> f64, n: usize| (0..n * n).map(move |i| f(i / n, i % n));
    judge(&[
        sound(
            "8 by 8 product",
            "simdgroup_matrix<float, 8, 8> a, b, c = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
             simdgroup_load(a, x, 8);
             simdgroup_load(b, w, 8);
             simdgroup_multiply_accumulate(c, a, b, c);
             simdgroup_store(c, y, 8);",
        )
        .threads(32, 32)
        .x(Dtype::F32, &[8, 8], fill(a, 8))
        .input("w", Dtype::F32, &[8, 8], fill(b, 8))
        .gives(product(a, b, 8)),
        sound(
            "8 by 8 transposed, with an origin, in half",
            "simdgroup_half8x8 a;
             simdgroup_load(a, x, 16, ulong2(8, 0), true);
             simdgroup_store(a, y, 8);",
        )
        .threads(32, 32)
        .x(Dtype::F16, &[8, 16], counting(128))
        .y(Dtype::F16, &[8, 8])
        .gives((0..64).map(|i| f64::from(i % 8 * 16 + 8 + i / 8))),
        sound(
            "diagonal",
            "simdgroup_float8x8 a(3.0f);
             simdgroup_store(a, y);",
        )
        .threads(32, 32)
        .gives((0..64).map(|i| if i / 8 == i % 8 { 3.0 } else { 0.0 })),
        sound(
            "tile product in bfloat, accumulated in float",
            "tile<T, 16, 16> a, b;
             tile<float, 16, 16> c(0.0f);
             tile_load(a, x, 16);
             tile_load(b, w, 16);
             tile_multiply_accumulate(c, a, b);
             tile_store(c, y, 16);",
        )
        .template("T", TemplateValue::Dtype(Dtype::Bf16))
        .threads(32, 32)
        .x(Dtype::Bf16, &[16, 16], fill(a, 16))
        .input("w", Dtype::Bf16, &[16, 16], fill(b, 16))
        .y(Dtype::F32, &[16, 16])
        .gives(product(a, b, 16)),
        sound(
            "tile transposed twice over",
            "tile<float, 16, 16> a, b;
             tile_load_transposed(a, x, 16);
             b = tile_transpose(a);
             tile_for_each(b, row, column, value) { value -= row * 16 + column; }
             tile_store(b, y, 16);",
        )
        .threads(32, 32)
        .x(Dtype::F32, &[16, 16], counting(256))
        .y(Dtype::F32, &[16, 16])
        .gives([0.0; 256]),
        sound(
            "tile through threadgroup memory",
            "threadgroup float s[256];
             tile<float, 16, 16> a;
             tile_for_each(a, row, column, value) { value = row == column ? 1 : 0; }
             tile_store(a, s, 16);
             simdgroup_barrier(mem_flags::mem_threadgroup);
             for (uint k = thread_index_in_simdgroup; k < 256; k += 32) y[k] = s[k];",
        )
        .threads(32, 32)
        .y(Dtype::F32, &[16, 16])
        .gives((0..256).map(|i| if i / 16 == i % 16 { 1.0 } else { 0.0 })),
    ]);
}

/// The text that real GPUs get, run on the emulator's simdgroup matrices.
#[test]
fn tiles_on_metal() {
    // In the emulator there is one address space, so one of the two sets of overloads.
    let one_space = cotangent_emulator::TILE_METAL.replace("TILE_MEMORY(threadgroup)\n", "");
    let metal = one_space.replace("tile", "metal_tile").replace("metal_tile_metal", "tile_metal");
    judge(&[sound(
        "product, transposes, conversions",
        "metal_tile<T, 16, 16> a, b;
             metal_tile<float, 16, 16> c(0.0f), from_half;
             metal_tile_load(a, x, 16);
             metal_tile_load_transposed(b, x, 16);
             metal_tile_multiply_accumulate(c, a, metal_tile_transpose(b));
             metal_tile_load_transposed(from_half, x, 16);
             metal_tile_for_each(from_half, row, column, value) { value *= row == 1 ? 1000.0f : 0.0f; }
             metal_tile_for_each(c, row, column, value) { value += row * 16 + column; }
             metal_tile_store(c, y, 16);
             metal_tile_store(from_half, y + 256, 16);",
    )
    .header(&metal)
    .template("T", TemplateValue::Dtype(Dtype::F16))
    .threads(32, 32)
    .x(Dtype::F16, &[16, 16], (0..256).map(|i| f64::from(i % 7)))
    .y(Dtype::F32, &[2, 16, 16])
    .gives(
        (0..256)
            .map(|i| {
                let x = |r: usize, c: usize| ((16 * r + c) % 7) as f64;
                (0..16).map(|k| x(i / 16, k) * x(k, i % 16)).sum::<f64>() + i as f64
            })
            .chain((0..256).map(|i| if i / 16 == 1 { f64::from((16 * (i % 16) + 1) % 7) * 1000.0 } else { 0.0 })),
    )]);
}

#[test]
fn language() {
    let value = |name, expression: &str, expected: f64| {
        sound(name, &format!("y[0] = {expression};")).threads(1, 1).y(Dtype::F32, &[1]).gives([expected])
    };
    judge(&[
        value("unsuffixed literals are single precision", "0.1 + 0.2 == 0.3f", 1.0),
        value("half rounds at each step", "float(half(2048.0) + half(1.0))", 2048.0),
        value("half with float is float", "half(2048.0) + 1.0", 2049.0),
        value("half literals", "float(1.5h * 2.0h)", 3.0),
        value("bfloat keeps eight bits", "float(bfloat(257.0f))", 256.0),
        value("bfloat ties to even", "float(bfloat(259.0f))", 260.0),
        value("as_type", "float(as_type<uint>(1.0f) >> 23)", 127.0),
        value("swizzles", "dot(float3(1, 2, 3).zyx, float3(1, 10, 100))", 123.0),
        value("swizzles of a swizzle's vector", "float4(1, 2, 3, 4).wz.y", 3.0),
        value("vector constructors", "float4(float2(1, 2), 3, 4).w + float3(1, float2(2, 3)).z", 7.0),
        value("vector and scalar", "(2.0 * float2(1, 2) + 1).y", 5.0),
        value("comparisons of vectors", "float(all(int2(1, 2) < int2(2, 3)) && any(int2(1, 5) > 4))", 1.0),
        value("select", "select(1.0f, 2.0f, true) + select(float2(1), float2(2), bool2(false, true)).y", 4.0),
        value("min, max, clamp", "min(3, 2) + max(1.5f, 0.5f) + clamp(7.0f, 0.0f, 1.0f)", 4.5),
        value("a number beats NaN", "max(NAN, 1.0f) + fmin(2.0f, NAN)", 3.0),
        value("fast and precise", "fast::exp(0.0f) + precise::sqrt(4.0f) + metal::rsqrt(0.25f)", 5.0),
        value("fma rounds once", "fma(16777217.0f, 1.0f, -16777216.0f)", 0.0),
        value("integers", "popcount(255u) + clz(1u) + ctz(8u) + rotate(0x80000000u, 1u)", 43.0),
        value("mulhi and extract_bits", "mulhi(1u << 31, 4u) + extract_bits(0xf0u, 4u, 4u)", 17.0),
        value("infinity and limits", "float(isinf(INFINITY) && -numeric_limits<float>::max() == numeric_limits<float>::lowest())", 1.0),
        value("integer limits", "numeric_limits<short>::max() + float(numeric_limits<uchar>::max())", 33022.0),
        value("Limits", "float(isinf(Limits<float>::max()) && Limits<int>::min() < 0)", 1.0),
        sound(
            "swizzles assigned",
            "float4 v(1, 2, 3, 4);
             v.xz = float2(10, 30);
             v.yw += v.xz;
             y[0] = v.x; y[1] = v.y; y[2] = v.z; y[3] = v.w;",
        )
        .threads(1, 1)
        .y(Dtype::F32, &[4])
        .gives([10.0, 12.0, 30.0, 34.0]),
        sound(
            "templates, macros, constants, helpers",
            "uint i = thread_position_in_grid.x;
             constexpr int WIDE = N * 2;
             T v = static_cast<T>(x[i]);
             #pragma unroll
             for (int k = 0; k < WIDE; ++k) v = SCALED(v);
             y[i] = LAST ? v + offsets[1] : v;",
        )
        .header("#include <metal_stdlib>\nusing namespace metal;\n#define SCALED(v) twice(v)\nconstant constexpr float offsets[2] = {0.5, 1.0};\ntemplate <typename T> METAL_FUNC T twice(T v) { return v * T(2.0); }")
        .template("T", TemplateValue::Dtype(Dtype::F32))
        .template("N", TemplateValue::Int(1))
        .template("LAST", TemplateValue::Bool(true))
        .gives(counting(64).map(|i| 4.0 * i + 1.0)),
        sound(
            "all attributes",
            "uint3 g = thread_position_in_grid;
             uint i = (g.z * threads_per_grid.y + g.y) * threads_per_grid.x + g.x;
             uint3 p = threadgroup_position_in_grid * dispatch_threads_per_threadgroup + thread_position_in_threadgroup + grid_origin;
             uint linear = (thread_position_in_threadgroup.z * threads_per_threadgroup.y + thread_position_in_threadgroup.y)
                 * threads_per_threadgroup.x + thread_position_in_threadgroup.x;
             bool same = all(p == g) && linear == thread_index_in_threadgroup
                 && thread_index_in_simdgroup == linear % threads_per_simdgroup && simdgroup_index_in_threadgroup == linear / 32
                 && simdgroups_per_threadgroup == 1 && dispatch_simdgroups_per_threadgroup == 1 && thread_execution_width == 32
                 && all(grid_size == threads_per_grid) && threadgroups_per_grid.y == 2
                 && thread_index_in_quadgroup == linear % 4 && quadgroup_index_in_threadgroup == linear / 4
                 && quadgroups_per_threadgroup * 4 >= linear && dispatch_quadgroups_per_threadgroup == 6;
             y[i] = same;",
        )
        .grid([5, 4, 3], [4, 3, 2])
        .y(Dtype::Bool, &[60])
        .gives([1.0; 60]),
    ]);
}
