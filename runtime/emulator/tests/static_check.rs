//! Text that Metal would refuse is refused on its line; text that it takes is not. Needs clang 19 or newer.

#[allow(dead_code)]
mod table;

use cotangent_emulator::{Dtype, KernelText, Source, StaticCheck};

/// `x`: 64 elements, `w`: 3 elements (and so `constant`), `n`: a scalar, `y`: an output.
fn kernel(header: &str, body: &str) -> KernelText {
    KernelText::new("k", format!("uint i = thread_position_in_grid.x; (void)i;\n{body}"))
        .input("x", Dtype::F32)
        .input("w", Dtype::F32)
        .input("n", Dtype::I32)
        .output("y", Dtype::F32)
        .header(Source::new("h.metal", header))
}

fn complaints(check: &StaticCheck, header: &str, body: &str) -> Vec<String> {
    match check.check(&kernel(header, body), &[&[64], &[3], &[]]) {
        Ok(found) => found.iter().map(ToString::to_string).collect(),
        Err(refused) => vec![refused.to_string()],
    }
}

fn clang() -> Option<StaticCheck> {
    let found = StaticCheck::find();
    if found.is_none() {
        eprintln!("SKIPPED: the static check needs clang++ 19 or newer (or COTANGENT_CLANG)");
    }
    found
}

#[test]
fn what_metal_refuses_is_refused() {
    let Some(check) = clang() else { return };
    let cases: &[(&str, &str)] = &[
        ("", "double a = 1;"),
        ("", "device float* p = x;"),
        ("", "threadgroup float* p = y;"),
        ("", "thread float* p = y;"),
        ("", "const device float* p = w;"),
        ("", "const constant float* p = x;"),
        ("", "threadgroup float* p = reinterpret_cast<threadgroup float*>(y);"),
        ("", "threadgroup float* p = (threadgroup float*)y;"),
        ("", "y[0] = *(const threadgroup float*)x;"),
        ("", "threadgroup float s[4]; y[0] = s == y;"),
        ("", "x[i] = 1;"),
        ("", "n = 3;"),
        ("", "threadgroup float s[2] = {0, 1};"),
        ("", "float* p = new float[4];"),
        ("", "throw 1;"),
        ("", "goto end; end:;"),
        ("", "static float s = 0;"),
        ("", "y[i] = std::exp(x[i]);"),
        ("", "y[i] = expf(x[i]);"),
        ("", "printf(\"%f\", x[i]);"),
        ("", "y[i] = thread_position_in_grid.w;"),
        ("", "y[i] = thread_position_in_gird.x;"),
        ("", "y[i] = max(x[i], 1);"),
        ("", "y[i] = as_type<ushort>(x[i]);"),
        ("", "float3 v = float3(1, 2); y[i] = v.x;"),
        ("", "y[i] = vec<float, 4>(1, 2).x;"),
        ("", "atomic_fetch_add_explicit(&y[0], 1.0f, memory_order_relaxed);"),
        ("", "float a; y[i] = a + 1;"),
        ("", "float a[n]; a[0] = 1; y[i] = a[0];"),
        ("", "y[i] = x[i]"),
        ("", "auto f = [&](float a) { return a; }; y[i] = f(x[i]);"),
        ("", "float a[4] = {}; float* p = a; y[i] = p[0];"),
        ("", "texture2d<float> t;"),
        ("struct S { virtual float f(); };", "y[i] = 0;"),
        ("float f(float a) { return a > 1 ? f(a - 1) : a; }", "y[i] = f(x[i]);"),
        ("float f(float a) { threadgroup float s[4]; return s[0]; }", "y[i] = f(x[i]);"),
        ("float f(device float* p) { return p[0]; }", "threadgroup float s[4]; y[i] = f(s);"),
        ("float f(float* p) { return p[0]; }", "y[i] = 0;"),
        // A float becomes a bfloat only by a cast, even a constant that a bfloat can hold.
        ("", "bfloat b = 1.5f; y[i] = b;"),
        ("", "bfloat b = bfloat(0); b = -2.0; y[i] = b;"),
        ("", "bfloat b = 2 * x[i]; y[i] = b;"),
        ("", "bfloat b{1.0f}; y[i] = b;"),
        ("", "bfloat b[2] = {bfloat(1), 0.0f}; y[i] = b[1];"),
        ("", "bfloat b = bfloat(x[i]); b = i > 1 ? b : 1.0f; y[i] = b;"),
        ("struct S { float a; bfloat b; };", "S s = {1.0f, 1.0f}; y[i] = s.a;"),
        ("bfloat f(bfloat b) { return b; }", "y[i] = f(0.5f);"),
        ("bfloat f(float b) { return b > 1 ? 1.0f : 0.0f; }", "y[i] = f(x[i]);"),
        ("constant constexpr float HALF = 0.5f;", "bfloat b = HALF; y[i] = b;"),
        ("template <typename T> T f(T a) { T b = 1.0f; return a * b; }", "y[i] = f(bfloat(x[i]));"),
    ];
    let missed: Vec<_> = cases.iter().filter(|(header, body)| complaints(&check, header, body).is_empty()).collect();
    assert!(missed.is_empty(), "taken for valid: {missed:#?}");
}

#[test]
fn what_metal_takes_is_taken() {
    let Some(check) = clang() else { return };
    let cases: &[(&str, &str)] = &[
        (
            "",
            "threadgroup float s[64]; s[i] = x[i]; threadgroup_barrier(mem_flags::mem_threadgroup); y[i] = s[63 - i];",
        ),
        (
            "",
            "device float* p = y + 1; const device float* q = x; threadgroup float s[4]; threadgroup float* r = s; *p = q[0] + r[0];",
        ),
        ("", "y[i] = ((const device float4*)x)[i / 4].w + *(const device float*)x;"),
        (
            "",
            "device float4* p = reinterpret_cast<device float4*>(y); p[i] = float4(x[i]) * 2.0 + float4(float2(1, 2), 3, 4).wzyx;",
        ),
        ("", "y[i] = w[i % 3] * n + simd_sum(x[i]) + simd_shuffle_xor(x[i], 1);"),
        ("", "half h = half(x[i]); h = h * 2.0h; bfloat b = static_cast<bfloat>(x[i]); y[i] = h + float(b);"),
        ("", "uint3 g = thread_position_in_grid; uint2 a = g.xy; y[i] = a.x + threads_per_grid.y;"),
        (
            "",
            "simdgroup_float8x8 a(0.0f), b; simdgroup_load(b, x, 8); simdgroup_multiply_accumulate(a, b, b, a); simdgroup_store(a, y, 8);",
        ),
        (
            "",
            "tile<float, 16, 16> a(0.0f); tile_for_each(a, row, column, value) { value += row * column; } tile_store(a, y, 16);",
        ),
        (
            "",
            "float a[4] = {}; for (int k = 0; k < 4; ++k) a[k] += fast::exp(x[k]) + precise::sqrt(1.0); y[i] = a[i % 4];",
        ),
        ("", "y[i] = x[elem_to_loc(i, x_shape, x_strides, x_ndim)];"),
        (
            "",
            "threadgroup atomic_uint c; atomic_store_explicit(&c, 0u, memory_order_relaxed); y[i] = atomic_load_explicit(&c, memory_order_relaxed);",
        ),
        (
            "template <typename T> T twice(T a) { return a * T(2); }\nconstant float table[2] = {1.0, 2.0};",
            "y[i] = twice(x[i]) + table[i % 2];",
        ),
        (
            "#include <metal_stdlib>\nusing namespace metal;\ninline float sum(const device float* p, uint n) { float s = 0; for (uint k = 0; k < n; ++k) s += p[k]; return s; }",
            "y[i] = sum(x, 4);",
        ),
        (
            "",
            "bfloat b = bfloat(1.5f), c = 0, d = b * 2; b += 1; c = i > 1 ? b : bfloat(0.0f); constexpr int N = int(2.0 * 1.5f); float a[N] = {}; y[i] = b + c + d + a[N - 1];",
        ),
        ("inline float one(thread float* p) { return p[0]; }", "float a[2] = {1, 2}; y[i] = one(a);"),
    ];
    for (header, body) in cases {
        assert_eq!(complaints(&check, header, body), Vec::<String>::new(), "{body}");
        assert_eq!(refused_spaces(&check, header, body), Vec::<String>::new(), "{body}");
    }
}

/// What clang refuses as C++ for OpenCL; `x`, `w`, `n` and `y` as above.
fn refused_spaces(check: &StaticCheck, header: &str, body: &str) -> Vec<String> {
    let complaints = check.check_spaces(&kernel(header, body), &[&[64], &[3], &[]]).unwrap();
    complaints.iter().map(ToString::to_string).collect()
}

#[test]
fn mistakes_of_address_space_are_refused_where_spaces_are_types() {
    let Some(check) = clang() else { return };
    let cases: &[(&str, &str, &str)] = &[
        ("", "thread float* p = (thread float*)y; p[0] = 1;", "k.metal:2: "),
        ("constant float t[2] = {1, 2};", "t[0] = x[i];", "k.metal:2: "),
        ("constant float t[2] = {1, 2};", "constant float* p = t;\np[1] = x[i];", "k.metal:3: "),
        ("constant float t[2] = {1, 2};", "device float* p = t; y[i] = p[0];", "k.metal:2: "),
        ("float f(device float* p) { return p[0]; }", "float a[2] = {1, 2}; y[i] = f(a);", "k.metal:2: "),
        ("float f(device float* p) { return p[0]; }", "threadgroup float s[4]; y[i] = f(s);", "k.metal:2: "),
        ("float f(thread float* p) { return p[0]; }", "y[i] = f(y);", "k.metal:2: "),
        ("float f(thread float& p) { return p; }", "threadgroup float s[4]; y[i] = f(s[0]);", "k.metal:2: "),
        ("struct S { device float* p; };", "threadgroup float s[4]; S q; q.p = s;", "k.metal:2: "),
        ("", "tile<float, 16, 16> t; float a[256]; tile_load(t, a, 16);", "k.metal:2: "),
    ];
    for (header, body, place) in cases {
        let found = refused_spaces(&check, header, body);
        assert!(found.iter().any(|complaint| complaint.starts_with(place)), "{header} {body}: {found:?}");
    }
}

/// Both address spaces, which the emulator cannot tell apart; the text of `tile` is the one that runs on Metal.
#[test]
fn metal_takes_the_text_of_tiles() {
    let Some(check) = clang() else { return };
    let body = "threadgroup half s[256];
        tile<half, 16, 16> a, b;
        tile<float, 16, 16> c(0.0f);
        tile_load_transposed(a, x, 16);
        tile_store(a, s, 16);
        simdgroup_barrier(mem_flags::mem_threadgroup);
        tile_load(b, s, 16);
        right_tile<half, 16, 16> r;
        tile_load_right(r, s, 16);
        tile_load_right_transposed(r, x, 16);
        tile_multiply_accumulate(c, a, r);
        tile_multiply_accumulate(c, a, tile_as_right(b));
        tile_multiply_accumulate(c, a, tile_as_right_transposed(b));
        tile_multiply_accumulate(c, a, tile_transpose(b));
        tile_multiply_accumulate_elements(c, a, b);
        tile_for_each(c, row, column, value) { value += row * column; }
        tile_rows<float> largest = tile_row_max(c);
        tile_with_rows(c, largest, row, column, value, of_row) { value -= of_row; }
        threadgroup float t[256];
        tile_prefetch_rows(x, 16, 16, 16, thread_index_in_simdgroup, 32);
        tile_copy_rows(t, 16, x, 16, 16, 16, 16, thread_index_in_simdgroup, 32);
        tile_store(tile_cast<half>(c), y, 16);";
    assert_eq!(complaints(&check, "", body), Vec::<String>::new());
}

/// C++ has no implicit members for address spaces, Metal does.
#[test]
fn structs_are_copied_between_address_spaces() {
    let Some(check) = clang() else { return };
    let header =
        "struct Pair { float a; float b; };\ninline Pair sum(Pair p, Pair q) { return Pair{p.a + q.a, p.b + q.b}; }";
    let body = "threadgroup Pair s[64]; s[i] = Pair{x[i], 0.0}; Pair p = sum(s[i], s[0]); s[i] = s[1]; y[i] = p.a;";
    assert_eq!(complaints(&check, header, body), Vec::<String>::new());
}

#[test]
fn a_complaint_names_the_line_of_the_kernel() {
    let Some(check) = clang() else { return };
    for (header, body, place) in [
        ("", "float a = 1;\ndevice float* p = x;", "k.metal:3: "),
        ("", "y[i] = as_type<ushort>(x[i]);", "k.metal:2: "),
        ("inline float f() {\n  return missing;\n}", "y[i] = f();", "h.metal:2: "),
    ] {
        let found = complaints(&check, header, body);
        assert!(found.iter().any(|c| c.starts_with(place)), "{place}: {found:#?}");
    }
}
