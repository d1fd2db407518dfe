//! Matrices, tiles and the language itself: exact numbers, and nothing found.

#[allow(dead_code)]
mod table;

use cotangent_emulator::{Dtype, TemplateValue};
use table::{judge, sound};

fn counting(n: u32) -> impl Iterator<Item = f64> {
    (0..n).map(f64::from)
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
        .template("T", TemplateValue::Dtype(Dtype::BF16))
        .threads(32, 32)
        .x(Dtype::BF16, &[16, 16], fill(a, 16))
        .input("w", Dtype::BF16, &[16, 16], fill(b, 16))
        .y(Dtype::F32, &[16, 16])
        .gives(product(a, b, 16)),
        sound(
            "right factors: loaded, also in pairs, loaded transposed, made of a tile and of a transposed one",
            "tile<T, 16, 16> a, b;
             tile<float, 16, 16> c(0.0f), whole, turned;
             right_tile<T, 16, 16> right;
             right_tile<float, 16, 16> wide;
             tile_load(a, x, 16);
             tile_load(b, w, 16);
             tile_load_transposed(turned, w, 16);
             tile_load(whole, (const device vec<T, 2>*)x, 8);
             tile_load_right(right, w, 16);
             tile_multiply_accumulate(c, a, right);
             tile_load_right_transposed(wide, (const device vec<T, 2>*)x, 8);
             tile_multiply_accumulate(c, whole, tile_as_right(b));
             tile_multiply_accumulate_sixteen_bits(c, whole, tile_as_right_transposed(turned));
             tile_multiply_accumulate(c, tile_transpose(a), wide);
             tile_multiply_accumulate(c, tile_transpose(a), tile_as_right_transposed(a));
             tile_multiply_accumulate_elements(c, a, b);
             tile_store(c, (device float2*)y, 8);",
        )
        .template("T", TemplateValue::Dtype(Dtype::BF16))
        .threads(32, 32)
        .x(Dtype::BF16, &[16, 16], fill(a, 16))
        .input("w", Dtype::BF16, &[16, 16], fill(b, 16))
        .y(Dtype::F32, &[16, 16])
        .gives((0..256).map(|i| {
            let (row, column) = (i / 16, i % 16);
            let products = (0..16).map(|k| 3.0 * a(row, k) * b(k, column) + 2.0 * a(k, row) * a(column, k));
            products.sum::<f64>() + a(row, column) * b(row, column)
        })),
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
        sound("rows of tiles", ROWS_OF_TILES)
            .template("T", TemplateValue::Dtype(Dtype::F16))
            .threads(32, 32)
            .x(Dtype::F16, &[16, 16], rows_of_tiles_input())
            .y(Dtype::F32, &[3, 16, 16])
            .gives(rows_of_tiles()),
        sound(
            "rows copied into threadgroup memory",
            "threadgroup float s[16 * 20];
             tile_prefetch_rows(x + 1, 9, 13, 8, thread_index_in_threadgroup, 64);
             tile_copy_rows(s, 20, x + 1, 9, 16, 8, 13, thread_index_in_threadgroup, 64);
             threadgroup_barrier(mem_flags::mem_threadgroup);
             for (uint k = thread_index_in_threadgroup; k < 128; k += 64) y[k] = s[k / 8 * 20 + k % 8];",
        )
        .threads(64, 64)
        .x(Dtype::F32, &[13, 9], counting(117))
        .y(Dtype::F32, &[16, 8])
        .gives((0..128).map(|i| if i / 8 < 13 { f64::from(i / 8 * 9 + i % 8 + 1) } else { 0.0 })),
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

/// The sum of each row's first 11 columns of x, the largest of all, and what is made of them: whole numbers, so exact.
const ROWS_OF_TILES: &str = "tile<T, 16, 16> a;
    right_tile<T, 16, 16> right;
    tile_load(a, x, 16);
    tile_load_right(right, x, 16);
    tile<float, 16, 16> b = tile_cast<float>(a);
    tile_for_each(b, row, column, value) { value = column < 11 ? value : 0.0f; }
    tile_rows<float> sums = tile_row_sum(b), largest = tile_row_max(tile_cast<float>(a));
    tile_rows<float> both(1.0f);
    for (int i = 0; i < 2; ++i) both.at[i] += sums.at[i] + (sums.row(i) == 3 ? 1000.0f : 0.0f);
    tile_with_rows(b, both, row, column, value, of_row) { value += of_row; }
    tile_store(b, y, 16);
    tile_with_rows(b, largest, row, column, value, of_row) { value = of_row; }
    tile_store(b, y + 256, 16);
    tile<float, 16, 16> c(0.0f);
    tile_multiply_accumulate(c, a, right);
    tile_store(c, y + 512, 16);";

fn rows_of_tiles_input() -> impl Iterator<Item = f64> {
    (0..256).map(|i| f64::from(i * 5 % 23) - 9.0)
}

fn rows_of_tiles() -> Vec<f64> {
    let x: Vec<f64> = rows_of_tiles_input().collect();
    let row = |r: usize| x[16 * r..16 * r + 16].iter();
    let value = |r: usize, c: usize| if c < 11 { x[16 * r + c] } else { 0.0 };
    let sum = |r: usize| row(r).take(11).sum::<f64>() + 1.0 + if r == 3 { 1000.0 } else { 0.0 };
    let all = || (0..16).flat_map(|r| (0..16).map(move |c| (r, c)));
    let product = |r: usize, c: usize| (0..16).map(|k| x[16 * r + k] * x[16 * k + c]).sum::<f64>();
    let largest = |r: usize| row(r).copied().fold(f64::MIN, f64::max);
    let first = all().map(|(r, c)| value(r, c) + sum(r));
    first.chain(all().map(|(r, _)| largest(r))).chain(all().map(|(r, c)| product(r, c))).collect()
}

/// The text that real GPUs get, run on the emulator's simdgroup matrices.
#[test]
fn tiles_on_metal() {
    // The emulator has one address space, so it needs one of the two sets of overloads.
    let one_space = cotangent_metal::headers::TILE_METAL
        .replace("TILE_MEMORY(threadgroup)\n", "")
        .replace("TILE_RIGHT_MEMORY(threadgroup)\n", "")
        .replace("TILE_PAIRS(threadgroup)\n", "");
    let metal = one_space.replace("tile", "metal_tile").replace("metal_tile_metal", "tile_metal");
    let rows = sound("rows of tiles", &ROWS_OF_TILES.replace("tile", "metal_tile"))
        .header(&metal)
        .template("T", TemplateValue::Dtype(Dtype::F16))
        .threads(32, 32)
        .x(Dtype::F16, &[16, 16], rows_of_tiles_input())
        .y(Dtype::F32, &[3, 16, 16])
        .gives(rows_of_tiles());
    judge(&[
        rows,
        sound(
            "product, transposes, conversions",
            "metal_tile<T, 16, 16> a, b;
             metal_tile<float, 16, 16> c(0.0f), from_half;
             metal_tile_load(a, x, 16);
             metal_tile_load_transposed(b, x, 16);
             right_metal_tile<T, 16, 16> right, other;
             metal_tile_load_right(right, x, 16);
             metal_tile_load_right_transposed(other, (const device vec<T, 2>*)x, 8);
             metal_tile_load(a, (const device vec<T, 2>*)x, 8);
             metal_tile_multiply_accumulate(c, a, right);
             metal_tile_multiply_accumulate(c, a, metal_tile_as_right_transposed(b));
             metal_tile_multiply_accumulate_sixteen_bits(
                 c, metal_tile_in_float(a), metal_tile_as_right(metal_tile_in_float(a)));
             metal_tile_multiply_accumulate(c, a, other);
             metal_tile_multiply_accumulate(c, a, metal_tile_transpose(b));
             metal_tile_multiply_accumulate_elements(c, a, b);
             metal_tile_load_transposed(from_half, x, 16);
             metal_tile_for_each(from_half, row, column, value) { value *= row == 1 ? 1000.0f : 0.0f; }
             metal_tile_for_each(c, row, column, value) { value += row * 16 + column; }
             metal_tile_store(c, (device float2*)y, 8);
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
                    let products = (0..16).map(|k| 4.0 * x(i / 16, k) * x(k, i % 16) + x(i / 16, k) * x(i % 16, k));
                    products.sum::<f64>() + x(i / 16, i % 16) * x(i % 16, i / 16) + i as f64
                })
                .chain((0..256).map(|i| if i / 16 == 1 { f64::from((16 * (i % 16) + 1) % 7) * 1000.0 } else { 0.0 })),
        ),
    ]);
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
        value("fma rounds once", "fma(4097.0f, 4097.0f, -16785408.0f)", 1.0),
        value("integers", "popcount(255u) + clz(1u) + ctz(8u) + rotate(0x80000000u, 1u)", 43.0),
        value("mulhi and extract_bits", "mulhi(1u << 31, 4u) + extract_bits(0xf0u, 4u, 4u)", 17.0),
        value("infinity and limits", "float(isinf(INFINITY) && -numeric_limits<float>::max() == numeric_limits<float>::lowest())", 1.0),
        value("integer limits", "numeric_limits<short>::max() + float(numeric_limits<uchar>::max())", 33022.0),
        value("Limits", "float(isinf(Limits<float>::max) && Limits<int>::min < 0)", 1.0),
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
