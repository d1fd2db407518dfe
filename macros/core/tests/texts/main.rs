//! What texts are refused for, and what is let through: a table for each kind, without a compiler.

mod language;

use cotangent_macros_core::diagnostics::Diagnostic;

/// A kernel of `N` elements from `x` to `y` around a Metal source.
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
fn a_macro_that_goes_on_with_the_next_line_is_no_text_of_rust() {
    // This is what the compiler leaves after it has refused the `\\`.
    let found = launch("\n#define P(a) a +\n1\nuint i = thread_position_in_grid.x; y[i] = P(x[i]);");
    assert!(found.len() == 1 && found[0].starts_with("this macro goes on behind the end of its line"), "{found:?}");
}

#[test]
fn inputs_are_not_written_through_what_stands_for_them() {
    const INPUT: &str = "the body of `k` writes to its input `x`";
    refuses(
        &[
            ("const_cast<device float&>(x[0]) = 1; y[0] = x[1];", INPUT),
            ("using P = device float*; P p = P(x); p[0] = 1; y[0] = x[1];", INPUT),
            ("typedef device float* P; P p = (P)x; *p = 1; y[0] = x[1];", INPUT),
            ("(N > 3 ? x : y)[0] = 1; y[0] = x[1];", INPUT),
            ("device float* p = N > 3 ? (device float*)x : y; p[0] += 1; y[0] = x[1];", INPUT),
            ("x_shape[0] = 3; y[0] = x[1];", "the body of `k` writes to its description `x_shape`"),
            ("N = 3; y[0] = x[1];", "the body of `k` writes to its dimension `N`"),
        ],
        launch,
    );
    accepts(&["const device float* p = N > 3 ? x : x + 1; y[0] = *p;"], launch);
}

#[test]
fn what_never_runs_writes_and_reads_nothing() {
    const UNWRITTEN: &str = "the body of `k` writes its output `y` only where it never runs";
    refuses(
        &[
            ("float a = x[0]; if (false) y[0] = a;", UNWRITTEN),
            ("float a = x[0]; return; y[0] = a;", UNWRITTEN),
            ("float a = x[0]; while (a > 0) { break; y[0] = a; }", UNWRITTEN),
            ("float a = x[0]; for (int i = 0; false; ++i) y[0] = a;", UNWRITTEN),
            ("float a = x[0]; if (N > 3 && false) y[0] = a;", UNWRITTEN),
            ("constexpr bool USE = false; float a = x[0]; if (USE) y[0] = a;", UNWRITTEN),
            ("float a = x[0]; if (true) { } else { y[0] = a; }", UNWRITTEN),
        ],
        launch,
    );
    const UNREAD: &str = "backward `k` never reads the cotangent `d_y`";
    refuses(
        &[
            ("d_x[0] = x[0]; return; d_x[0] = d_y[0];", UNREAD),
            ("d_x[0] = false ? d_y[0] : x[0];", UNREAD),
            ("if (d_y[0] > 0) { } d_x[0] = x[0];", UNREAD),
            ("if (false && d_y[0] > 0) d_x[0] = 1; d_x[0] = x[0];", UNREAD),
            ("d_x[0] = x[0] * d_y_shape[0];", UNREAD),
        ],
        backward,
    );
    accepts(
        &[
            "if (N > 3) return; y[0] = x[0];",
            "if (N > 3) { y[0] = x[0]; return; } y[0] = 0;",
            "\n#ifdef FAST\nreturn;\n#endif\ny[0] = x[0];",
            "for (int i = 0; true; ++i) { y[i] = x[i]; if (i > 3) break; }",
            "switch (N) { case 0: return; case 1: y[0] = x[0]; break; default: y[0] = 1; }",
            "constexpr bool DEBUG = false; if (DEBUG) y[0] = 1; y[0] = x[0];",
            "bool late = false; late = x[0] > 0; if (late) y[0] = 1; y[0] = x[0];",
        ],
        launch,
    );
}

#[test]
fn variables_are_known_in_their_block() {
    const UNKNOWN: &str = "`a` is not known here: its declaration stands in another block, or further down";
    refuses(
        &[
            ("{ float a = x[0]; } y[0] = a;", UNKNOWN),
            ("for (int a = 0; a < 2; ++a) { } y[a] = x[0];", UNKNOWN),
            ("y[0] = a * x[0]; float a = 2;", UNKNOWN),
            ("if (x[0] > 0) { float a = 1; } else { y[0] = a; }", UNKNOWN),
            ("y[0] = b * x[0];", "`b` is declared neither in `k` nor in its body"),
        ],
        launch,
    );
    accepts(
        &[
            "\n#if A\nfloat a = x[0];\n#else\nfloat a = x[1];\n#endif\ny[0] = a;",
            "struct P { float get() const { return late; } float late; }; P p{x[0]}; y[0] = p.get();",
            "struct P { float a; P operator+(P o) const { return P{a + o.a}; } }; y[0] = (P{x[0]} + P{1.0f}).a;",
            "struct P { float a; P(float v) : a(v) {} }; y[0] = P(x[0]).a;",
            "long int a = 1; unsigned long b = 2; y[a] = x[b];",
            "[[unroll]] for (int a = 0; a < 2; ++a) { y[a] = x[a]; }",
            "for (int a = 0, b = 3; a < b; ++a, --b) y[a] = x[b];",
        ],
        launch,
    );
}

#[test]
fn a_misspelled_port_is_missed_once() {
    refuses(
        &[
            ("y[0] = X[0];", "`X` is declared neither"),
            ("float a = x[0] * y_shape[0];", "`y_shape` is declared neither"),
        ],
        launch,
    );
    assert!(launch("y[0] = X[0];")[0].contains("write `x`"));
}

#[test]
fn exceptions_say_why_and_scalars_are_floats_between_numbers() {
    let scalar = |attribute: &str| {
        declared("", &format!("x: In![f32; N], {attribute} by: f32, y: Out![f32; N]"), "y[0] = by * x[0];")
    };
    let port = |attribute: &str| declared("", &format!("{attribute} x: In![f32; N], y: Out![f32; N]"), "y[0] = x[0];");
    let gradient = |attribute: &str| {
        let ports = format!("x: In![f32; N], d_y: In![f32; N], {attribute} d_x: Out![f32; N]");
        let item = format!("pub fn k({ports}) {{ metal! {{ d_x[0] = d_y[0] * x[0]; }} }}");
        plan("backward_of = f, grid = (N, 1, 1), threads = (64, 1, 1)", &item)
    };
    const EMPTY: &str = "an empty reason explains nothing";
    refuses(&[("#[values(0.0..1.0, only = \"\")]", EMPTY), ("#[values(0.0..1.0, only = \" \")]", EMPTY)], port);
    refuses(&[("#[values(0.0..1.0, only)]", "expected `=`"), ("#[values(0.0..1.0, where = \"a\")]", "expected")], port);
    refuses(
        &[
            ("#[differs(\"\")]", EMPTY),
            ("#[differs()]", "unexpected end of input"),
            ("#[differs]", "expected attribute arguments"),
        ],
        gradient,
    );
    refuses(&[("#[values(0.0..1.0)]", "`by` is a scalar, which tests give values of their own")], scalar);
    refuses(
        &[("#[values(0.0..1.0, only = \"\")]", EMPTY), ("#[values(N..1.0, only = \"a\")]", "expected a number")],
        scalar,
    );
    accepts(&["#[values(0.5..2.0, only = \"it divides\")]", ""], scalar);
    accepts(&["#[differs(\"a straight-through estimate\")]", ""], gradient);
}
