//! What Metal and MLX's preamble have: each form runs, gives Metal's result, and passes the static check.

#[allow(dead_code)]
mod table;

use cotangent_emulator::FindingKind::{BecomesInfinite, NoProgress, SumStays};
use cotangent_emulator::{Checks, Dtype, FindingKind, Schedule};
use table::{Case, defect, judge, sound};

fn value(name: &'static str, header: &str, expression: &str, expected: f64) -> Case {
    let body = format!("uint i = thread_position_in_grid.x;\ny[i] = float({expression});");
    sound(name, &body).header(header).threads(1, 1).y(Dtype::F32, &[1]).gives([expected])
}

#[test]
fn types_and_constructors() {
    judge(&[
        value(
            "short and char vectors",
            "",
            "short4(1, 2, 3, 4).w + ushort2(5, 6).y + char3(1, 2, 3).z + int4(short4(7)).x",
            20.0,
        ),
        value(
            "bool vectors",
            "",
            "any(float4(x[i + 1]) > float4(0)) && all(!bool2(false, x[0] > 1)) && bool4(true).w",
            1.0,
        ),
        value(
            "constants of a header",
            "static constant constexpr float TAB[3] = {1, 2, 3};\nconstexpr constant float K = 2.0f;",
            "TAB[2] * K",
            6.0,
        ),
        value(
            "constructors of mixed width",
            "",
            "dot(float4(float2(x[1], 1), 2, 3), float4(float3(half3(1, 2, 3)), 1)) + float3(1, float2(2, 3)).z",
            15.0,
        ),
        value("components by colour", "", "float4(1, 2, 3, 4).rgba.a + float4(1, 2, 3, 4).b + float2(5, 6).gr.x", 13.0),
        value(
            "steps of vectors",
            "inline int steps() { int2 v = int2(1, 2); v++; ++v; int2 w = v--; return (+w).y + v.x; }",
            "steps()",
            6.0,
        ),
        value(
            "packed vectors",
            "inline float packed() { packed_float3 p = packed_float3(1, 2, 3); p.y = 5; p += float3(1); float3 q = p * 2.0f; return q.y + p[2] + (2.0f * p).x; }",
            "packed()",
            20.0,
        ),
        value(
            "array",
            "inline float of() { array<float, 3> a = {1, 2, 3}; a[1] = 7; return a[1] + a.size(); }",
            "of()",
            10.0,
        ),
        value(
            "arms of half and float",
            "",
            "(x[1] > 0 ? half(1.5h) : x[2]) + (x[1] > 5 ? 2 : half(3)) + (x[0] > 1 ? bfloat(1.0f) : 0.25f)",
            4.75,
        )
        .metal_only(),
        value("a bfloat of integers", "inline float of(bfloat b) { return b; }", "bfloat(2) + of(3)", 5.0),
        sound(
            "a struct in threadgroup memory",
            "uint i = thread_position_in_grid.x;
             struct P { float m; float s; };
             threadgroup P t[64];
             t[i].m = x[i]; t[i].s = 2;
             threadgroup_barrier(mem_flags::mem_threadgroup);
             y[i] = t[63 - i].m * t[63 - i].s;",
        )
        .gives((0..64).map(|i| 2.0 * f64::from(63 - i))),
        value(
            "two functors with the same statement",
            "struct A { float operator()(float v) { if (v > 1) { v = 1; } return v; } };\nstruct B { float operator()(float v) { if (v > 1) { v = 1; } return v + 1; } };",
            "A()(5.0f) + 10 * B()(5.0f)",
            21.0,
        ),
    ]);
}

#[test]
fn functions() {
    judge(&[
        value(
            "of integers",
            "",
            "mad24(2, 3, 4) + mul24(5u, 2u) + absdiff(3u, 5u) + extract_bits(7u, 0u, 2u) + insert_bits(0u, 3u, 4u, 2u) + rotate(1u, 2u) + hadd(1u, 4u) + rhadd(1u, 4u) + clz(1u) + ctz(8u) + popcount(255u)",
            10.0 + 10.0 + 2.0 + 3.0 + 48.0 + 4.0 + 2.0 + 3.0 + 31.0 + 3.0 + 8.0,
        ),
        value(
            "that saturate",
            "",
            "addsat(200u, 4294967295u) == 4294967295u && subsat(1u, 2u) == 0u && addsat(2147483647, 5) == 2147483647 && subsat(-2147483647, 5) == -2147483647 - 1 && madsat(65536, 65536, 1) == 2147483647 && madhi(65536u, 65536u, 1u) == 2u",
            1.0,
        ),
        value(
            "median and friends",
            "",
            "median3(3.0f, 1.0f, 2.0f) + fmax3(1.0f, 5.0f, 2.0f) + fmin3(1.0f, 5.0f, 2.0f) + fmedian3(7.0f, 7.0f, 1.0f)",
            15.0,
        ),
        value(
            "of parts of a float",
            "inline float parts() { float w; float f = modf(-2.5f, w); int e; float m = frexp(12.0f, e); return f + w + 10 * m + e + ilogb(9.0f); }",
            "parts()",
            -2.5 + 7.5 + 4.0 + 3.0,
        ),
        value(
            "relational",
            "",
            "isordered(1.0f, 2.0f) && isunordered(NAN, 1.0f) && nextafter(1.0f, 2.0f) > 1.0f && nextafter(0.0f, -1.0f) < 0.0f && signbit(-0.0f)",
            1.0,
        ),
        value(
            "of vectors",
            "",
            "distance_squared(float2(0), float2(3, 4)) + reflect(float2(1, -1), float2(0, 1)).y + faceforward(float2(1), float2(1), float2(1)).x + mix(float2(0), float2(2), float2(0.5f)).x + refract(float2(0, -1), float2(0, 1), 1.0f).y",
            25.0 + 1.0 - 1.0 + 1.0 - 1.0,
        ),
        value(
            "of integer vectors",
            "",
            "popcount(uint2(3, 255)).y + clz(ushort2(1, 2)).x + ctz(int3(8)).z + absdiff(int2(1, 5), int2(4, 1)).y + addsat(uchar2(200), uchar2(100)).x + \
             rotate(uint2(1), uint2(2)).x + mulhi(ushort(256), ushort(512)) + mulhi(-1l, 1l) + int(mulhi(1ul << 63, 4ul)) + mad24(int2(2), int2(3), int2(4)).y + \
             extract_bits(uint2(7), 0u, 2u).x + insert_bits(int2(0), int2(3), 4u, 2u).x + median3(int2(1), int2(3), int2(2)).x + reverse_bits(uchar2(1)).y",
            8.0 + 15.0 + 3.0 + 4.0 + 255.0 + 4.0 + 2.0 - 1.0 + 2.0 + 10.0 + 3.0 + 48.0 + 2.0 + 128.0,
        ),
        value(
            "of half and of vectors of floats",
            "inline float parts() { float2 w; float2 f = modf(float2(-2.5f, 1.25f), w); half h; half g = modf(2.5h, h); int2 e; float2 m = frexp(float2(12.0f), e); float2 c; float2 s = sincos(float2(0.0f), c); return f.x + w.y + g + h + 10 * m.x + e.y + s.x + c.y; }",
            "parts() + ldexp(float2(1), int2(3)).y + ldexp(half(2), 1) + smoothstep(float2(0), float2(1), float2(0.5f)).x + smoothstep(0.0h, 1.0h, 0.5h) + ilogb(float2(9)).x + \
             isordered(float2(1), float2(2)).x + all(isunordered(float2(NAN), float2(1))) + (nextafter(1.0h, 2.0h) > 1.0h) + fast::clamp(3.0f, 0.0f, 2.0f) + tanpi(0.0h)",
            -0.5 + 1.0 + 0.5 + 2.0 + 7.5 + 4.0 + 0.0 + 1.0 + 8.0 + 4.0 + 0.5 + 0.5 + 3.0 + 1.0 + 1.0 + 1.0 + 2.0,
        ),
        value(
            "uniform values and packed components",
            "",
            "ulong(uniform<uint>(make_uniform(3u))) + packed_float3(1, 2, 3).b + packed_swapped(packed_float2(1, 2)).x",
            3.0 + 3.0 + 2.0,
        )
        .header("inline packed_float2 packed_swapped(packed_float2 v) { v.xy = v.yx; return v; }"),
        value(
            "names of Metal's namespaces",
            "",
            "metal::exp2(3.0f) + metal::precise::sqrt(4.0f) + metal::fmax(1.0f, 2.0f) + exp10(0.0f) + tanpi(0.0f)",
            13.0,
        ),
    ]);
}

/// Packed by hand: 0x80 is 128 of 255, or -128, which is below -1.
#[test]
fn vectors_packed_into_integers() {
    judge(&[
        value(
            "into integers and out of them",
            "",
            "(unpack_unorm4x8_to_float(0x80ff0033u).x == 0.2f) + 2 * (unpack_unorm4x8_to_float(0xff000000u).w == 1.0f) + \
             4 * (unpack_snorm4x8_to_float(0x807f0081u).w == -1.0f) + 8 * (unpack_snorm4x8_to_float(0x007f0081u).x == -1.0f) + \
             16 * (pack_float_to_unorm4x8(float4(0.2f, 0.0f, 1.5f, -1.0f)) == 0x00ff0033u) + \
             32 * (pack_float_to_snorm4x8(float4(-1.0f, 0.0f, 1.0f, -7.0f)) == 0x817f0081u) + \
             64 * (pack_float_to_unorm2x16(float2(1.0f, 0.5f)) == 0x8000ffffu) + 128 * (pack_half_to_snorm2x16(half2(-1.0h, 1.0h)) == 0x7fff8001u) + \
             256 * (unpack_snorm2x16_to_half(0x80017fffu).y == -1.0h) + 512 * (pack_float_to_unorm10a2(float4(1.0f, 0.0f, 0.5f, 1.0f)) == 0xe00003ffu) + \
             1024 * (unpack_unorm10a2_to_float(0xc00003ffu).w == 1.0f)",
            2047.0,
        ),
        // The middle of sRGB is about 21 % of the light.
        value(
            "by sRGB",
            "",
            "(unpack_unorm4x8_srgb_to_float(0x80808080u).x > 0.2158f) + 2 * (unpack_unorm4x8_srgb_to_float(0x80808080u).x < 0.2159f) + \
             4 * (unpack_unorm4x8_srgb_to_float(0x80808080u).w > 0.5f) + 8 * (pack_float_to_srgb_unorm4x8(float4(0.21586f, 0.001f, 1.0f, 0.0f)) == 0x00ff0380u)",
            15.0,
        ),
    ]);
}

#[test]
fn what_metal_and_mlx_compute() {
    judge(&[
        value(
            "precise and fast of half are float",
            "",
            "(precise::sqrt(half(2)) == sqrt(2.0f)) + (fast::exp(half(1)) == exp(1.0f)) + (half(sqrt(2.0f)) == sqrt(half(2)))",
            3.0,
        ),
        value(
            "limits are constants, of small floats too",
            "constexpr constant half LOWEST = Limits<half>::min;",
            "isinf(Limits<float>::max) && isinf(LOWEST) && LOWEST < 0 && isinf(Limits<bfloat>::max) && Limits<half>::finite_max == 65504 && Limits<int>::max == 2147483647",
            1.0,
        ),
        value("log1p", "", "log1p(0.0f) + log1p(1e-8f) * 1e8f", 1.0),
        sound(
            "a sum of bfloat over lanes is rounded once",
            "uint i = thread_position_in_grid.x; y[i] = simd_sum(x[i]);",
        )
        .x(Dtype::BF16, &[32], (0..32).map(|i| if i == 0 { 256.0 } else { 1.0 }))
        .y(Dtype::BF16, &[32])
        .threads(32, 32)
        .gives([288.0; 32]),
        value(
            "offsets have the type of the number",
            "template <class T> struct of { static constexpr int size = 0; };\ntemplate <> struct of<uint> { static constexpr int size = 4; };\ntemplate <> struct of<long> { static constexpr int size = 8; };",
            "of<decltype(elem_to_loc(1u, x_shape, x_strides, x_ndim))>::size + of<decltype(elem_to_loc<long>(1u, x_shape, x_strides, x_ndim))>::size",
            12.0,
        ),
    ]);
}

#[test]
fn what_metal_refuses_is_refused() {
    for (name, body) in [
        ("float to bfloat", "float a = 1.5f * x[0]; y[0] = a;"),
        ("product to bfloat", "y[0] = x[0] * 2.0f;"),
        ("half to bfloat", "half h = half(x[0]); bfloat b = h; y[0] = b;"),
        ("a constant", "bfloat b = 1.5f; y[0] = b;"),
        ("expm1f", "y[0] = bfloat(expm1f(x[0]));"),
        ("a limit that is called", "y[0] = bfloat(Limits<float>::max());"),
    ] {
        let case = sound(name, body).y(Dtype::BF16, &[1]).threads(1, 1);
        assert!(case.run(Schedule::Forward, Checks::On).is_err(), "{name}");
    }
    let cast = "y[0] = bfloat(x[0] * 2.0f); bfloat n = 0; n += 1; y[1] = x[1] > 0 ? bfloat(x[1]) : n;";
    judge(&[sound("with a cast", cast).y(Dtype::BF16, &[2]).threads(1, 1).gives([0.0, 1.0])]);
}

#[test]
fn notes_do_not_make_a_run_unclean() {
    let noted = |case: &Case| -> Vec<FindingKind> {
        let run = case.run(Schedule::Forward, Checks::On).unwrap();
        assert!(run.is_clean(), "{:?}", run.findings);
        run.notes.iter().map(|note| note.kind).collect()
    };
    let one = |name, body: &str| sound(name, body).threads(1, 1).y(Dtype::F32, &[1]);
    for (case, expected) in [
        (one("too large", "half h = half(x[63] * 2000.0f); y[0] = isinf(h) ? 1 : 0;"), &[BecomesInfinite][..]),
        (one("large enough", "half h = half(x[63] * 1000.0f); y[0] = h;"), &[]),
        (one("infinite before", "half h = half(INFINITY); y[0] = h > 1 ? 1 : 0;"), &[]),
        (one("a count in half", "half n = 0; for (int k = 0; k < 3000; ++k) n += 1; y[0] = n;"), &[SumStays]),
        (
            one("a sum in bfloat", "bfloat s = 0; for (int k = 0; k < 600; ++k) s = s + bfloat(1); y[0] = s;"),
            &[SumStays],
        ),
        (one("a sum in float", "float s = 0; for (int k = 0; k < 3000; ++k) s += 1; y[0] = half(s);"), &[]),
        (one("zeros", "half s = 1; for (int k = 0; k < 3000; ++k) s += half(x[0]); y[0] = s;"), &[]),
        (
            one(
                "a small value now and then",
                "half s = 0; for (int k = 0; k < 90; ++k) { s = half(k); s += half(0.00001f); } y[0] = s;",
            ),
            &[],
        ),
    ] {
        assert_eq!(noted(&case), expected, "{}", case.name);
    }
}

#[test]
fn locks_that_wait_for_each_other() {
    let lock = "while (!atomic_compare_exchange_weak_explicit(first, &e, 1, memory_order_relaxed, memory_order_relaxed)) e = 0; //!
                e = 0;
                while (!atomic_compare_exchange_weak_explicit(second, &e, 1, memory_order_relaxed, memory_order_relaxed)) e = 0; //!";
    let two = |order: &str| {
        format!(
            "uint i = thread_position_in_grid.x, lane = i % 32, sg = i / 32;
             threadgroup atomic_int la, lb;
             if (i == 0) {{ atomic_store_explicit(&la, 0, memory_order_relaxed); atomic_store_explicit(&lb, 0, memory_order_relaxed); }}
             threadgroup_barrier(mem_flags::mem_threadgroup);
             if (lane == 0) {{
                 threadgroup atomic_int* first = {order} ? &la : &lb;
                 threadgroup atomic_int* second = {order} ? &lb : &la;
                 int e = 0;
                 {lock}
                 atomic_store_explicit(second, 0, memory_order_relaxed);
                 atomic_store_explicit(first, 0, memory_order_relaxed);
             }}
             y[i] = x[i];"
        )
    };
    judge(&[
        defect(NoProgress, "in opposite orders", &two("sg == 0")),
        defect(
            NoProgress,
            "a ticket of which none is served",
            "uint i = thread_position_in_grid.x;
             threadgroup atomic_int next, serving;
             if (i == 0) { atomic_store_explicit(&next, 0, memory_order_relaxed); atomic_store_explicit(&serving, 1, memory_order_relaxed); }
             threadgroup_barrier(mem_flags::mem_threadgroup);
             int mine = atomic_fetch_add_explicit(&next, 1, memory_order_relaxed);
             while (atomic_load_explicit(&serving, memory_order_relaxed) != mine) {} //!
             y[i] = x[i];",
        ),
        sound(
            "counting up together",
            "uint i = thread_position_in_grid.x;
             threadgroup atomic_int n;
             if (i == 0) atomic_store_explicit(&n, 0, memory_order_relaxed);
             threadgroup_barrier(mem_flags::mem_threadgroup);
             for (int k = 0; k < 50; ++k) atomic_fetch_add_explicit(&n, 1, memory_order_relaxed);
             threadgroup_barrier(mem_flags::mem_threadgroup);
             y[i] = atomic_load_explicit(&n, memory_order_relaxed);",
        )
        .gives([3200.0; 64]),
    ]);
}
