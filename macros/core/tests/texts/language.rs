//! What is no Metal, though other languages have it, or a C++ compiler takes it for something else.

use super::{accepts, declared, launch, refuses};

#[test]
fn functions_of_other_languages_and_lambdas_are_refused_with_what_to_write() {
    refuses(
        &[
            ("y[0] = expf(x[0]) + expf(x[1]);", "Metal has no function `expf`"),
            ("y[0] = max(fabsf(x[0]), 1.0f);", "Metal has no function `fabsf`"),
            ("y[0] = lerp(x[0], x[1], 0.5f);", "Metal has no function `lerp`"),
            ("y[0] = x[0]; __syncthreads();", "Metal has no function `__syncthreads`"),
            ("auto put = [&](uint i, float v) { y[i] = v; }; put(0, x[0]);", "this is a lambda"),
            ("y[0] = [](float v) { return v; }(x[0]);", "this is a lambda"),
            ("let i = 0; y[i] = x[i];", "`let` is a word of another language"),
            ("y[0] = x[0] as f32;", "`as` is a word of another language"),
            ("int i = blockIdx.x * blockDim.x + threadIdx.x; y[i] = x[i];", "`blockIdx` is a word of another language"),
            ("f32 v = x[0]; y[0] = v;", "`f32` is a word of another language"),
            ("long long n = 2; y[0] = x[0] * n;", "Metal has no `long long`"),
            ("y[0] = simd_summ(x[0]);", "Metal has no function `simd_summ`"),
            ("y[0] = simd_reduce(x[0]);", "Metal has no function `simd_reduce`"),
            ("uint i = 0; if (i = 3) { y[0] = x[0]; }", "this condition assigns to `i`"),
            ("uint i = 0; while (i = 3) { y[0] = x[0]; }", "this condition assigns to `i`"),
            ("y[0] = x[0]; if (x.shape[0] > 1) { y[1] = 0; }", "`x` is a pointer, which has no member `shape`"),
        ],
        launch,
    );
    accepts(
        &[
            "\n#define expf(v) exp(v)\ny[0] = expf(x[0]);",
            "float expf = x[0]; y[0] = expf;",
            "y[0] = erf(x[0]) + fabs(x[1]);",
            "float vec3 = x[0]; y[0] = vec3;",
            "struct Pair { float in; }; Pair p; p.in = x[0]; y[0] = p.in;",
            "if (int n = int(x[0])) { y[0] = n; }",
            "int n; while ((n = int(x[0]))) { y[0] = n; }",
            "long n = 3; y[0] = x[0] * n;",
            "float v = ((device float4*)x)[0].x; y[0] = v;",
            "[[unroll]] for (int i = 0; i < 3; ++i) { y[i] = x[i]; }",
        ],
        launch,
    );
    let with_header = declared("headers = [SHARED]", "x: In![f32; N], y: Out![f32; N]", "y[0] = expf(x[0]);");
    assert_eq!(with_header, Vec::<String>::new());
}

#[test]
fn what_no_compiler_of_metal_reads_is_refused() {
    refuses(
        &[
            ("y[0] = x[0]; return y;", "a kernel returns nothing"),
            ("if (x[0] > 0) { return x[0]; } y[0] = 1;", "a kernel returns nothing"),
            ("uint2 p = uint2(1, 2); y[p.z] = x[0];", "`p` has no component `z`"),
            ("uint i = 3; y[i.x] = x[0];", "`i` has no component `x`"),
            ("uint i = 3; y[i[0]] = x[0];", "`i` is one number"),
            ("y[N[0]] = x[0];", "`N` is one number"),
            ("y[0] = x[0] ** 2;", "Metal has no operator `**`"),
            ("float a = x[0], b = 2; y[0] = a ** b;", "Metal has no operator `**`"),
            ("y[0] = math::exp(x[0]);", "`math` is a word of another language"),
            ("y[0] = tools::exp(x[0]);", "`tools` is no namespace and no type of Metal"),
            ("threadgroup_barrier(); y[0] = x[0];", "`threadgroup_barrier` takes one argument, and has 0 here"),
            ("y[0] = fma(x[0], x[1]);", "`fma` takes 3 arguments, and has 2 here"),
            ("y[0] = metal::exp(x[0], 2.0f);", "`exp` takes one argument, and has 2 here"),
            ("y[0] = 2.0f * x + x[0];", "`x` is a pointer, where a number is needed"),
            ("y[0] = x; y[1] = x[0];", "`x` is a pointer, where a number is needed"),
            ("y[0] += x; y[1] = x[0];", "`x` is a pointer, where a number is needed"),
            ("float v = x; y[0] = v + x[0];", "`x` is a pointer, where a number is needed"),
            ("y[0] = exp(x) + x[0];", "`x` is a pointer, where a number is needed"),
            ("uint i = thread_position_in_grid; y[i] = x[i];", "`thread_position_in_grid` is a `uint3`"),
            ("y[thread_position_in_grid] = x[0];", "`thread_position_in_grid` is a `uint3`"),
            ("y[0] = x[0] > 0 ? x[1];", "this `?` has no `:`"),
            ("float v = 2.0f x[0]; y[0] = v;", "nothing stands between `2.0f` and `x`"),
            ("y[0] = x[0]\n; y[1] = x[1] x[2];", "nothing stands between `x[1]` and `x`"),
            ("y[0, 1] = x[0];", "an element has one index"),
            ("for (int j = 0..3) { y[j] = x[j]; }", "this loop is not one of C++"),
            ("for (int j) { y[j] = x[j]; }", "this loop is not one of C++"),
            ("y[0] = x[0]; else { y[1] = 2; }", "this `else` has no `if`"),
            ("if (x[0] > 0) { y[0] = 1; } elif (x[1] > 0) { y[0] = 2; }", "`elif` is a word of another language"),
            ("y[0] = x[0]; y[1] == 0;", "this statement compares"),
            ("const uint i = 0; i += 1; y[i] = x[i];", "`i` is constant"),
            ("constexpr int k = 3; k = 4; y[k] = x[0];", "`k` is constant"),
            ("y[0] = T(x[0]);", "`T` is declared neither in `k` nor in its body"),
            ("uint i = 0; if i < 3 { y[i] = x[i]; }", "this `if` has no parentheses"),
            ("while true { y[0] = x[0]; }", "this `while` has no parentheses"),
            ("for (;;) { break; } for int j = 0; j < 3; { y[0] = x[0]; }", "this `for` has no parentheses"),
            ("do { y[0] = x[0]; } y[1] = 2;", "this `do` has no `while`"),
            ("float twice(float v) { return v + v; } y[0] = twice(x[0]);", "a kernel cannot contain a function"),
            (
                "uint i = 0; if (i < n) { y[i] = x[i]; }",
                "`n` is declared neither in `k` nor in its body [C12]\nhelp: write `N`",
            ),
            ("int i = 2; y[0] = 0 < i < 3 ? x[0] : x[1];", "the second comparison is with the answer of the first"),
            ("y[0] = x[0] >= x[1] + 2 > x[2];", "the second comparison is with the answer of the first"),
            ("y[0] = -x + x[0];", "`x` is a pointer, where a number is needed"),
            ("y[0] = x[1][0];", "an element of `x` is one number, which has no elements"),
            ("y[0] = x[0].x;", "an element of `x` is one number, which has no component `x`"),
            ("\n# the first\ny[0] = x[0];", "`#the` is no directive"),
            ("const float* p = x; y[0] = p[1];", "nothing says which memory `p` points into"),
            ("float v = x[0]; float& r = v; y[0] = r;", "nothing says which memory `r` points into"),
            ("float2 v = 0; v.xx = float2(x[0]); y[0] = v.y;", "`xx` names a component twice"),
            ("y[0] = x->value;", "an element of `x` is one number, which has no component `value`"),
        ],
        launch,
    );
    accepts(
        &[
            "if (x[0] > 0) { return; } y[0] = x[1];",
            "struct Pair { float a; float sum() const { return a + a; } }; Pair p; p.a = x[0]; y[0] = p.sum();",
            "return (void)(y[0] = x[0]);",
            "const device float* p = x; y[0] = 2 **p;",
            "const device float* p = x; y[0] = x[0] * *p;",
            "float a[2] = {x[0], x[1]}; y[0] = 2 **a;",
            "float4 v = 0; v.x = x[0]; v.rgb = v.xyz; y[0] = v.w + v[1];",
            "packed_float3 v = packed_float3(x[0]); y[0] = v.z;",
            "float4 v[2]; v[0] = x[0]; y[0] = v[0].x;",
            "float4x4 m; m[0] = x[0]; y[0] = m[0].x;",
            "y[0] = precise::exp(x[0]) + metal::fast::exp(x[1]) + numeric_limits<float>::max() + Limits<float>::min;",
            "enum class Op : int { Add }; y[0] = Op::Add == Op::Add ? x[0] : 0;",
            "threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup); y[0] = x[0];",
            "y[0] = max(x[0], as_type<vec<float, 2>>(ulong(1)).x);",
            "struct Own { float exp(float a, float b) const { return a * b; } }; Own o; y[0] = o.exp(x[0], x[1]);",
            "const device float* p = x + 3; const device float* q = p; y[0] = q - x > 0 ? *q : 0;",
            "auto p = x; y[0] = p[1];",
            "y[0] = ulong(x) != 0 && x != nullptr ? x[0] : 0;",
            "uint3 p = thread_position_in_grid; auto q = thread_position_in_grid; y[p.x] = x[q.x];",
            "uint i = thread_position_in_grid[0]; y[i] = x[(i, i)];",
            "y[0] = x[0] > 0 ? x[1] > 0 ? 1 : 2 : 3;",
            "for (;;) { break; } float a[2] = {1, 2}; for (float v : a) { y[0] = v * x[0]; }",
            "if (x[0] > 0) y[0] = 1; else if (x[1] > 0) { y[0] = 2; } else y[0] = 3;",
            "\n#if N > 3\nif (x[0] > 0) { y[0] = 1; }\n#else\nif (x[0] > 1) { y[0] = 1; }\n#endif\nelse { y[0] = 2; }",
            "const device float* p = x; p += 1; y[0] = *p;",
            "\n#define TWICE(v) v v\n TWICE(y[0] = x[0];)",
            "\n#define U(n) n##u\n y[U(0)] = x[0];",
            "y[0] = x[0] and x[1] or 3;",
            "if (not x[0] > 0 and not (x[1] > 0)) { y[0] = compl 3; }",
            "do { y[0] = x[0]; } while (false); do y[1] = 2; while (false);",
            "if constexpr (N > 3) { y[0] = x[0]; } switch (N) { default: y[1] = 2; }",
            "for (int i = 0; i < 2; ++i) { float v = x[i]; y[i] = v; } float v = 2; { float v = 3; y[2] = v; }",
            "\n#if N > 3\nfloat v = x[0];\n#else\nfloat v = x[1];\n#endif\ny[0] = v;",
            "int i = 2; y[0] = 0 < i && i < 3 ? x[0] : (0 < i) < 3 ? 2 : 3; vec<float, 2> v = vec<float, 2>(x[0]); y[1] = v.x;",
            "y[0] = ((device float4*)x)[0].x + ((device float4*)x)[1][2];",
            "const device float* p = x; device const float* const q = p; float v = q[0]; thread float& r = v; y[0] = r;",
            "float const device* p = x; device auto* q = y; q[0] = p[0]; for (auto& v : {1, 2}) { y[v] = 3; }",
            "float4 v = 0; v.xy += float2(x[0]); y[0] = v.xx == v.yy ? v.zz.x : 1;",
            "float2 v[3]; v[0] = x[0]; y[0] = v[0].x + v[0][1];",
            "\n#pragma unroll 4\nfor (int i = 0; i < 3; ++i) { y[i] = x[i]; }\n#\n#undef A\n",
            "_Pragma(\"unroll\") for (int i = 0; i < 3; ++i) { y[i] = x[i]; }",
        ],
        launch,
    );
    // A header may declare any of these.
    let options = "headers = [SHARED]";
    for text in ["y[0] = tools::exp(x[0]);", "y[0] = exp(x[0], 2);", "y[0] = x[0] TIMES x[1];", "y[0] = T(x[0]);"] {
        assert_eq!(declared(options, "x: In![f32; N], y: Out![f32; N]", text), Vec::<String>::new(), "{text}");
    }
    // What is declared as an array, and used as a number only, may be declared wrongly: a run shows it.
    accepts(&["y[0] = 2 * x;"], launch);
}

#[test]
fn words_that_metal_leaves_out_are_named() {
    refuses(
        &[
            ("goto end; end: y[0] = x[0];", "Metal has no `goto`"),
            ("float* p = new float[3]; y[0] = x[0] + p[0];", "Metal has no `new`"),
            ("try { y[0] = x[0]; } catch (...) { }", "Metal has no `try`"),
            ("struct S { virtual float f() { return 1; } }; y[0] = x[0];", "Metal has no `virtual`"),
            ("std::vector<float> v; y[0] = x[0];", "Metal has no `std`"),
            ("y[0] = std::max(x[0], 0.0f);", "Metal has no `std`"),
            ("thread_local int c = 0; y[0] = x[0];", "Metal has no `thread_local`"),
            ("static int c = 0; y[0] = x[0] + c;", "Metal has no `static` variables that are not constant"),
            ("long double a = x[0]; y[0] = a;", "Metal has no `double`"),
            ("double2 a = double2(x[0]); y[0] = a.x;", "Metal has no `double`"),
        ],
        launch,
    );
    accepts(
        &[
            "static constexpr float c = 2; y[0] = x[0] * c;",
            "struct M { static float square(float a) { return a * a; } }; y[0] = M::square(x[0]);",
            "struct P { float new_one; }; P p{x[0]}; y[0] = p.new_one;",
        ],
        launch,
    );
}

#[test]
fn names_joined_by_an_operator_declare_nothing() {
    let both = |text: &str| {
        declared("", "a: Option<In![f32; N]>, b: Option<In![f32; N]>, x: In![f32; N], y: Out![f32; N]", text)
    };
    accepts(
        &[
            "if (HAS_a && HAS_b) y[0] = a[0] + b[0]; else y[0] = x[0];",
            "y[0] = x[0]; if (HAS_a && HAS_b) { y[0] = a[0] + b[0]; }",
            "float t = x[0]; float s[HAS_a && HAS_b ? 2 : 1]; s[0] = HAS_a && HAS_b ? a[0] * b[0] : t; y[0] = s[0];",
            "y[0] = min(x[0], HAS_a && HAS_b ? a[0] * b[0] : 0.0f);",
            "y[0] = x[0]; for (int k = 0; HAS_a && HAS_b; ++k) { y[0] = a[0] + b[0]; break; } y[0] += x[0];",
        ],
        both,
    );
    accepts(&["uint n = 0; while (N & n) ++n; y[n] = x[n];", "switch (N & N) { default: y[0] = x[0]; }"], launch);
}

#[test]
fn what_only_looks_like_a_mistake_is_accepted() {
    accepts(
        &[
            "y[0] = is_same<float, half>::value ? x[0] : x[1];",
            "y[0] = conditional<(N > 3), float, half>::type(x[0]);",
            "y[0] =\n#if WIDE\nx[0]\n#else\nx[1]\n#endif\n;",
            "\n#if A\nfloat4 v = x[0];\n#else\nfloat v = x[0];\n#endif\n\n#if A\ny[0] = v.y;\n#else\ny[0] = v;\n#endif\n",
            "\n#if A\nconst int n = 1;\n#else\nint n = 0; n = 1;\n#endif\ny[0] = x[n];",
            "struct V { float a; float norm() const { return sqrt(dot()); } float dot() const { return a * a; } }; y[0] = V{x[0]}.norm();",
            "int n = 0; if (x[0] > 0) do { n += 1; } while (n < 4); else n = 1; y[0] = x[n];",
            "thread float v = x[0]; thread float* p = &v; y[0] = x[1] * *p;",
        ],
        launch,
    );
    accepts(
        &["const float value = x[0]; threadgroup float s[256]; tile<float, 16, 16> t; tile_load(t, s, 16);
           tile_for_each(t, row, column, value) { value *= 2.0f; } tile_store(t, s, 16); y[0] = s[0] + value;"],
        launch,
    );
    let with_header = |text: &str| declared("headers = [HEADER]", "x: In![f32; N], y: Out![f32; N]", text);
    accepts(&["y[0] = pick<3 - 1>(x[0]) > 3.0f ? x[0] : pick<5 % 4>(x[1]);", "y[0] = x[0] * *TABLE;"], with_header);
}
