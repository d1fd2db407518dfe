//! What texts and declarations are refused for, and what is let through: a table for each kind, without a compiler.

use cotangent_macros_core::diagnostics::Diagnostic;

/// A kernel of `N` elements from `x` to `y` around a Metal text.
fn launch(text: &str) -> Vec<String> {
    declared("", "x: In![f32; N], y: Out![f32; N]", text)
}

/// The mistakes in an inference-only kernel with more options and these ports.
fn declared(options: &str, ports: &str, text: &str) -> Vec<String> {
    let options = format!(
        "inference_only = \"t\", grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)]{}{options}",
        if options.is_empty() { "" } else { ", " }
    );
    plan(&options, &format!("pub fn k({ports}) {{ metal! {{ {text} }} }}"))
}

/// The mistakes in a backward of `N` elements around a text.
fn backward(text: &str) -> Vec<String> {
    let item = format!("pub fn k(x: In![f32; N], d_y: In![f32; N], d_x: Out![f32; N]) {{ metal! {{ {text} }} }}");
    plan("backward_of = f, grid = (N, 1, 1), threads = (64, 1, 1)", &item)
}

fn plan(options: &str, item: &str) -> Vec<String> {
    let result = cotangent_macros_core::plan(options.parse().unwrap(), item.parse().unwrap());
    result.err().unwrap_or_default().iter().map(Diagnostic::text).collect()
}

/// Each text has exactly one mistake, whose message begins so.
fn refuses(cases: &[(&str, &str)], check: impl Fn(&str) -> Vec<String>) {
    for (text, expected) in cases {
        let found = check(text);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{text}\nexpected {expected}\nfound {found:#?}");
    }
}

fn accepts(cases: &[&str], check: impl Fn(&str) -> Vec<String>) {
    for text in cases {
        assert_eq!(check(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn writes_are_found_however_they_are_written() {
    const INPUT: &str = "the body of `k` writes to its input `x`";
    refuses(
        &[
            ("x[0] = 1; y[0] = x[1];", INPUT),
            ("((device float*)x)[0] = 1; y[0] = x[1];", INPUT),
            (
                "device float* p = (device float*)x; p[0] = 1; y[0] = x[1];",
                "the body of `k` writes to its input `x` through `p`",
            ),
            (
                "device float& r = ((device float*)x)[0]; r += 1; y[0] = x[1];",
                "the body of `k` writes to its input `x` through `r`",
            ),
            ("*const_cast<device float*>(x + 1) = 2; y[0] = x[1];", INPUT),
            ("\n#define PUT(a, b) a[0] = (b)\nPUT(x, 3); y[0] = x[1];", INPUT),
            ("x[0]++; y[0] = x[1];", INPUT),
            ("y[0] = ++x[1];", INPUT),
            ("y[0] = x[1]; x += 1; x[2] = 3;", INPUT),
        ],
        launch,
    );
    accepts(
        &[
            "y[0] = x[1] - -x[0];",
            "y[0] = x[1] + +x[0];",
            "y[0] = -x[1] - - -x[0];",
            "x += 3; y += 3; y[0] = x[0];",
            "const device float* row = x + 3; row += 2; device float* to = y; *to = row[0];",
            "device float& r = y[0]; r = 2.0f * x[0];",
            "((device float4*)y)[0] = ((const device float4*)x)[0];",
            "*reinterpret_cast<device uint*>(y) = as_type<uint>(x[0]);",
            "const bool even = true; (even ? y : y)[0] = x[0];",
            "\n#define STORE(i, v) y[i] = v\nSTORE(0, x[0]);\n#undef STORE\n",
            "{ float x = 1.0f; x += 2; } y[0] = x[0];",
            "for (int x = 0; x < 3; ++x) {} y[0] = x[0];",
            "struct Pair { float x; float y; }; Pair p; p.x = x[0]; y[0] = p.x;",
            "enum Mode { A = 1, B2 = 2 }; enum class Op : int { Add, Mul }; Op op = Op::Mul; y[0] = op == Op::Mul ? x[0] : float(A);",
            "auto put = [&](uint i, float v) { y[i] = v; }; put(0, x[0]);",
            "uint i = 0; //!< the index\n /*! block */ y[i] = x[i]; ///< after\n",
        ],
        launch,
    );
}

#[test]
fn an_output_that_is_only_moved_is_not_written() {
    refuses(
        &[
            ("y += 3; float a = x[0];", "the body of `k` moves the pointer `y` and never writes through it"),
            ("float a = y[0] * x[0];", "the body of `k` reads its output `y` and never writes it"),
            ("float a = x[0];", "the body of `k` never mentions its output `y`"),
            ("y = 2 * x[0];", "the body of `k` moves the pointer `y`"),
        ],
        launch,
    );
}

#[test]
fn sums_need_a_beginning_through_pointers_too() {
    refuses(
        &[
            ("y[0] += x[0];", "`k` accumulates into `y`"),
            ("device float* p = y; p[0] += x[0];", "`k` accumulates into `y`"),
            ("device float& r = y[0]; r += x[0];", "`k` accumulates into `y`"),
            ("device float* p = y + 1; ++*p; y[0] = x[0];", "`k` accumulates into `y`"),
            ("atomic_fetch_add_explicit(&y[0], x[0], memory_order_relaxed);", "`k` uses `y` atomically"),
        ],
        launch,
    );
    accepts(&["device float* p = y; p[0] = 0; p[0] += x[0];", "y += 3; y[0] = 1; y[0] += x[0];"], launch);
    let atomic =
        "device atomic_float* t = (device atomic_float*)y; atomic_fetch_add_explicit(t, x[0], memory_order_relaxed);";
    assert_eq!(declared("init = 0.0", "x: In![f32; N], y: Out![f32; 1]", atomic), Vec::<String>::new());
    assert_eq!(declared("", "x: In![f32; N], y: Out![f32; 1]", atomic).len(), 1);
}

#[test]
fn locals_take_no_name_of_the_signature_in_its_own_block() {
    refuses(
        &[
            ("float x = 1; y[0] = x;", "the local `x` has the name of the input `x` of `k`"),
            ("{ float x = 1; y[0] = x; }", "the body of `k` never reads its input `x`: the name stands for a local"),
            ("float y = x[0];", "the local `y` has the name of the output `y` of `k`"),
            ("y[0] = x[N - 1]; int N = 3;", "the local `N` has the name of the dimension `N` of `k`"),
            ("int N = N * 2; y[N] = x[0];", "the local `N` has the name of the dimension `N` of `k`"),
        ],
        launch,
    );
    accepts(&["int N = x_shape[0]; y[N - 1] = x[N - 1];", "const uint N = uint(x_shape[0]); y[0] = x[N - 1];"], launch);
    let template = "pub fn k<T: Float, const D: usize>(x: In![T; D], y: Out![T; D]) { metal! {";
    let options = "inference_only = \"t\", grid = (D, 1, 1), threads = (64, 1, 1), cases = [(D = 7)]";
    for (text, expected) in [
        ("{ int D = 3; y[D] = x[0]; } y[0] = x[0];", "the local `D` has the name of the template constant `D`"),
        ("float T = 3; y[0] = x[0] * T;", "the local `T` has the name of the dtype `T`"),
    ] {
        let found = plan(options, &format!("{template} {text} }} }}"));
        assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}");
    }
}

#[test]
fn cotangents_that_are_only_thrown_away_are_not_read() {
    const UNREAD: &str = "backward `k` never reads the cotangent `d_y`: what the text reads of it is thrown away [C05]";
    refuses(
        &[
            ("(void)d_y; d_x[0] = x[0];", UNREAD),
            ("(void)d_y[0]; d_x[0] = x[0];", UNREAD),
            ("float g = d_y[0]; d_x[0] = x[0];", UNREAD),
            ("float g = d_y[0]; (void)g; d_x[0] = x[0];", UNREAD),
            ("float g = 0; for (int i = 0; i < N; ++i) g += d_y[i]; d_x[0] = x[0];", UNREAD),
            ("d_x[0] = x[0]; if (false) d_x[0] = d_y[0];", UNREAD),
            ("d_x[0] = x[0];\n#if 0\nd_x[0] = d_y[0];\n#endif\n", "backward `k` never reads the cotangent `d_y` [C05]"),
            ("const device float* g = d_y + 3; d_x[0] = x[0];", UNREAD),
        ],
        backward,
    );
    accepts(
        &[
            "d_x[0] = x[0] * d_y[0];",
            "float g = d_y[0], h = g * x[0]; d_x[0] = h;",
            "threadgroup float g[4]; g[0] = d_y[0]; d_x[0] = g[1] * x[0];",
            "if (d_y[0] > 0) d_x[0] = x[0]; else d_x[0] = 0;",
            "(void)x; d_x[0] = d_y[0];",
        ],
        backward,
    );
    for (body, reads) in [
        ("let _ = d_y; Ok(Outputs { d_x: Some(x.square()?) })", false),
        ("let _g = d_y.square()?; Ok(Outputs { d_x: Some(x.square()?) })", false),
        ("let _ = x; Ok(Outputs { d_x: Some(d_y.square()?) })", true),
    ] {
        let item = format!("pub fn k(x: In![f32; N], d_y: In![f32; N], d_x: Out![f32; N]) {{ {body} }}");
        let found = plan("backward_of = f", &item);
        assert_eq!(found.is_empty(), reads, "{body}: {found:?}");
        assert!(found.iter().all(|message| message.contains("[C05]")), "{found:?}");
    }
}

#[test]
fn names_of_metal_are_taken() {
    for name in ["and", "or", "not", "xor_eq", "device", "kernel", "float4", "x_shape", "NAN", "M_PI_F", "assert"] {
        let ports = format!("x: In![f32; N], {name}: In![f32; N], y: Out![f32; N]");
        let found = declared("", &ports, &format!("y[0] = x[0] + {name}[0];"));
        assert!(found.len() == 1 && found[0].starts_with(&format!("`{name}` is")), "{name}: {found:?}");
    }
    for name in ["NAN", "INFINITY", "FLT_MAX", "HUGE_VALF", "UINT_MAX", "METAL_FUNC"] {
        let options =
            format!("inference_only = \"t\", grid = ({name}, 1, 1), threads = (64, 1, 1), cases = [({name} = 7)]");
        let item = format!("pub fn k(x: In![f32; {name}], y: Out![f32; {name}]) {{ metal! {{ y[0] = x[0]; }} }}");
        let found = plan(&options, &item);
        assert!(found.len() == 1 && found[0].contains("is a word of Metal"), "{name}: {found:?}");
    }
}

#[test]
fn ports_may_be_written_in_upper_case() {
    let ports = "X: In![f32; N], A_log: In![f32; N], B: In![u8; N], Y: Out![f32; N]";
    assert_eq!(declared("", ports, "Y[0] = X[0] * exp(A_log[0]) + B[0];"), Vec::<String>::new());
    // The argument of a constant makes way for a port.
    let item = "pub fn k<const OUT: usize, const bits: i32>(x: In![f32; OUT], y: Out![f32; bits], out: Out![f32; 1]) {
                    metal! { y[0] = x[bits]; out[0] = x[OUT - 1]; }
                }";
    let options = "inference_only = \"t\", grid = (OUT, 1, 1), threads = (64, 1, 1), cases = [(OUT = 7, bits = 2)]";
    assert_eq!(plan(options, item), Vec::<String>::new());
    let found = declared("", "N: In![f32; N], y: Out![f32; N]", "y[0] = N[0];");
    assert!(
        found.len() == 1 && found[0].starts_with("`N` is the name of this parameter and of a dimension"),
        "{found:?}"
    );
}

#[test]
fn arrays_have_lengths_that_are_known_when_the_kernel_is_compiled() {
    const LENGTH: &str = "the array `a` of `k` is as long as";
    refuses(
        &[
            ("threadgroup float a[N]; y[0] = x[0];", LENGTH),
            ("float a[N * 2 + 1]; y[0] = x[0];", LENGTH),
            ("int n = 4; float a[n]; y[0] = x[0];", LENGTH),
            ("threadgroup float a[threads_per_threadgroup.x]; y[0] = x[0];", LENGTH),
            ("threadgroup float a[2][x_shape[0]]; y[0] = x[0];", LENGTH),
            ("const int n = N; const int m = n * 2; threadgroup float a[m]; y[0] = x[0];", LENGTH),
            ("int k = 3; const int n = k; float a[n]; y[0] = x[0];", LENGTH),
        ],
        launch,
    );
    accepts(
        &[
            "constexpr int n = 4; threadgroup float a[n * 2]; y[0] = x[0];",
            "enum { LANES = 32 }; float a[LANES]; y[0] = x[0];",
            "\n#define LANES 32\nfloat a[LANES]; y[0] = x[0];",
        ],
        launch,
    );
}

#[test]
fn attributes_have_three_components_or_none() {
    refuses(
        &[
            ("y[thread_position_in_grid.w] = x[0];", "`thread_position_in_grid` has no component `w`"),
            ("y[threads_per_grid.q] = x[0];", "`threads_per_grid` has no component `q`"),
            ("y[thread_index_in_simdgroup.x] = x[0];", "`thread_index_in_simdgroup` has no component `x`"),
        ],
        launch,
    );
    accepts(&["uint2 p = thread_position_in_grid.xy; y[p.x] = x[threadgroup_position_in_grid.z];"], launch);
}

#[test]
fn doubles_are_found_behind_macros() {
    refuses(
        &[
            ("\n#define REAL double\nREAL a = x[0]; y[0] = float(a);", "Metal has no `double`"),
            ("y[0] = float(double(x[0]));", "Metal has no `double`"),
            ("y[0] = (float)(double)x[0];", "Metal has no `double`"),
        ],
        launch,
    );
}

#[test]
fn sizes_have_32_bits() {
    let sized = |case: &str, ports: &str| {
        let options = format!("inference_only = \"t\", grid = (N, 1, 1), threads = (64, 1, 1), cases = [({case})]");
        plan(&options, &format!("pub fn k({ports}) {{ metal! {{ y[0] = x[0]; }} }}"))
    };
    for (case, ports, expected) in [
        ("N = 9223372036854775807", "x: In![f32; N], y: Out![f32; N]", "`N` is 9223372036854775807, and sizes"),
        ("N = 2147483648", "x: In![f32; N], y: Out![f32; N]", "`N` is 2147483648, and sizes"),
        ("N = 2147483647", "x: In![f32; N], y: Out![f32; 4 * N]", "at this case port `y` of `k` has no shape"),
        ("N = -7", "x: In![f32; N], y: Out![f32; N]", "`N` is -7, and no axis is that short"),
        ("N = 99999999999999999999", "x: In![f32; N], y: Out![f32; N]", "number too large"),
    ] {
        let found = sized(case, ports);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{case}: {found:?}");
    }
}

#[test]
fn what_stands_beside_the_attribute_is_kept_or_refused() {
    let with = |attribute: &str, qualifier: &str| {
        let item = format!(
            "{attribute} pub {qualifier} fn k(x: In![f32; N], y: Out![f32; N]) {{ metal! {{ y[0] = x[0]; }} }}"
        );
        plan("inference_only = \"t\", grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)]", &item)
    };
    for attribute in ["#[allow(clippy::all)]", "#[rustfmt::skip]", "#[inline]", "#[must_use]", "#[expect(unused)]"] {
        assert_eq!(with(attribute, ""), Vec::<String>::new(), "{attribute}");
    }
    for (attribute, qualifier) in
        [("", "unsafe"), ("", "async"), ("", "extern \"C\""), ("#[no_mangle]", ""), ("#[test]", "")]
    {
        assert_eq!(with(attribute, qualifier).len(), 1, "{attribute} {qualifier}");
    }
}

#[test]
fn a_mistake_that_hides_others_is_told_alone() {
    const BODY: &str = "{ metal! { uint i = thread_position_in_grid.x; y[i] = x[i]; } }";
    let options = "fallback = f, grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)]";
    for (options, item, expected) in [
        (options, "pub fn k(x: In![f32, N], y: Out![f32; N]) BODY", "expected `dtype; extent"),
        (options, "pub fn k(x: In![f32; N], y: Out![f32]) BODY", "expected `dtype; extent"),
        (options, "pub fn k(x: &[f32], y: Out![f32; N]) BODY", "this is neither a port nor a scalar"),
        (options, "pub fn k(x: In![f32; N], y: Out![f32; N]) { metal!(include_str!(\"k.metal\")) }", "this is a macro"),
        (options, "pub fn k(x: In![f32; N], y: Out![f32; N]) { metal!(\"y[0] = x[0];\") }", "this is a string"),
        (
            "fallbak = f, grid = (N, 1, 1), threads = (1, 1, 1), cases = [(N = 7)]",
            "pub fn k(x: In![f32; N], y: Out![f32; N]) BODY",
            "unknown option `fallbak`\nhelp: write `fallback`",
        ),
        (
            "backward_off = f, grid = (N, 1, 1), threads = (1, 1, 1)",
            "pub fn k(x: In![f32; N], d_y: In![f32; N], d_x: Out![f32; N]) BODY",
            "unknown option `backward_off`\nhelp: write `backward_of`",
        ),
        (
            "fallback = |x| x, grid = (N, 1, 1), threads = (1, 1, 1), cases = [(N = 7)]",
            "pub fn k(x: In![f32; N], y: Out![f32; N]) BODY",
            "expected a path",
        ),
        (
            "fallback = f, grid = (N, 1), threads = (1, 1, 1), cases = [(N = 7)]",
            "pub fn k(x: In![f32; N], y: Out![f32; N]) BODY",
            "expected three extents",
        ),
        (
            "fallback = f, grid = (N, 1, 1), threads = (1, 1, 1), cases = (N = 7)",
            "pub fn k(x: In![f32; N], y: Out![f32; N]) BODY",
            "expected square brackets",
        ),
    ] {
        let found = plan(options, &item.replace("BODY", BODY));
        assert!(found.len() == 1 && found[0].starts_with(expected), "{item}\nexpected {expected}\nfound {found:#?}");
    }
}

#[test]
fn a_macro_that_goes_on_with_the_next_line_is_no_text_of_rust() {
    // What the compiler leaves of it, after it has refused the `\\`.
    let found = launch("\n#define P(a) a +\n1\nuint i = thread_position_in_grid.x; y[i] = P(x[i]);");
    assert!(found.len() == 1 && found[0].starts_with("this macro goes on behind the end of its line"), "{found:?}");
}

#[test]
fn a_residual_is_for_a_backward() {
    let item = "pub fn k(x: In![f32; N], y: Out![f32; N], #[saved] r: Out![f32; N]) { Ok(Outputs { y: x.clone(), r: x.clone() }) }";
    let found = plan("fallback = f, cases = [(N = 7)]", item);
    assert!(found.len() == 1 && found[0].contains("[C15]"), "{found:?}");
    assert_eq!(plan("backward = b, fallback = f, cases = [(N = 7)]", item), Vec::<String>::new());
}

#[test]
fn every_width_of_integers_is_a_dtype() {
    for dtype in ["i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64"] {
        let ports = format!("x: In![{dtype}; N], y: Out![{dtype}; N], z: Out![{dtype}; N]");
        assert_eq!(declared("", &ports, "y[0] = x[0]; z[0] = x[1];"), Vec::<String>::new(), "{dtype}");
    }
    // A class of one needs no input.
    let item = "pub fn k<T: BF16, U: U16>(x: In![f32; N], y: Out![T; N]) { metal! { y[0] = T(U(x[0])); } }";
    let options = "inference_only = \"t\", grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)]";
    assert_eq!(plan(options, item), Vec::<String>::new());
}
