//! Tests of what sources are rewritten to.

use super::*;

fn body(text: &str) -> Result<String, String> {
    rewrite(
        &Source::new("k.metal", text),
        Target::Host { arms: true, double: false },
        Context::default(),
        &mut Vec::new(),
    )
    .map_err(|e| e.to_string())
}

#[test]
fn literals_are_single_precision() {
    for (metal, host) in [
        ("1.0", "1.0f"),
        ("1e-5", "1e-5f"),
        ("2.5f", "2.5f"),
        ("0xff", "0xff"),
        ("7u", "7u"),
        ("1h", "metal::half(1.0f)"),
        ("1.5bf", "metal::bfloat(1.5f)"),
    ] {
        assert_eq!(body(metal).unwrap(), host);
    }
}

#[test]
fn collectives_get_their_site_as_last_argument() {
    for (metal, host) in [
        ("simd_sum(a)", "simd_sum(a, metal::site<0>())"),
        ("simd_sum<float>(f(a), b)", "simd_sum<float>(f(a), b, metal::site<0>())"),
        ("simd_is_first()", "simd_is_first(metal::site<0>())"),
        ("simd_max(simd_sum(a))", "simd_max(simd_sum(a, metal::site<1>()), metal::site<0>())"),
        ("s.simd_sum(a)", "s.simd_sum(a)"),
        ("simd_sums(a)", "simd_sums(a)"),
    ] {
        assert_eq!(body(metal).unwrap(), host);
    }
}

#[test]
fn loops_count_their_turns() {
    for (metal, host) in [
        ("while (a) b;", "while (metal::turn() && (a)) b;"),
        ("do a; while (f(b));", "do a; while (metal::turn() && (f(b)));"),
        ("for (;;) a;", "for (;; metal::turn()) a;"),
        ("for (int i = 0; i < f(1); ++i) a;", "for (int i = 0; i < f(1); metal::turn(), ++i) a;"),
        ("#define F while (a)", "#define F while (metal::turn() && (a))"),
    ] {
        assert_eq!(body(metal).unwrap(), host);
    }
}

#[test]
fn arms_meet_in_one_type() {
    let arm = "metal::arm<decltype( a ), decltype( b)>";
    assert_eq!(body("c ? a : b;").unwrap(), format!("c ? {arm}( a ) : {arm}( b);"));
    for (text, count) in [
        ("c ? d::e : f<g, h>(i), j;", 2),
        ("(c ? a : b) + 1;", 2),
        ("case 1: c ? a : b;", 2),
        ("c ? a : d ? e : f;", 8),
        ("c ? d ? e : f : a;", 8),
    ] {
        assert_eq!(body(text).unwrap().matches("metal::arm").count(), count, "{text}");
    }
}

#[test]
fn variables_without_a_value_are_named() {
    let names_of = |text: &str| -> Vec<String> {
        let after = body(text).unwrap();
        after.split("metal::unset(").skip(1).map(|t| t.split("_unset_").next().unwrap_or_default().to_owned()).collect()
    };
    for (text, names) in [
        ("float m;", &["m"][..]),
        ("float a[4], b = 1, c[2][N + 1];", &["a", "c"]),
        ("vec<float, 4> v; metal::half h;", &["v", "h"]),
        ("unsigned int n; unsigned k;", &["n", "k"]),
        ("if (a) { T x; } else { T y; }", &["x", "y"]),
        ("thread float* p;", &["p"]),
        ("tile<T, 16, 16> held[WIDE / 16];", &["held"]),
        ("struct P { float m; int n; }; P p;", &["p"]),
        ("float a = 1; float b(2); const int c{3}; auto d = e;", &[]),
        ("return x; using U = int; typedef float F; a * b; f(x); a = b; i < n; x[i] = y;", &[]),
        ("for (int i = 0, j; i < n; ++i) {}", &[]),
        ("threadgroup float s[4]; device float* q = x;", &[]),
    ] {
        assert_eq!(names_of(text), names, "{text}");
    }
}

#[test]
fn swizzles_become_calls_on_either_side() {
    assert_eq!(body("a.xy").unwrap(), "a.swizzle(metal::components<0, 1>())");
    assert_eq!(body("a.zx = b").unwrap(), "a.lanes(metal::components<2, 0>()) = b");
    assert_eq!(body("a.xy == b").unwrap(), "a.swizzle(metal::components<0, 1>()) == b");
    for untouched in ["a.x", "xy", "a.xb"] {
        assert_eq!(body(untouched).unwrap(), untouched);
    }
}

#[test]
fn threadgroup_objects_and_pointers_are_distinguished() {
    for object in [
        "threadgroup float a[4 * N];",
        "threadgroup T a;",
        "threadgroup vec<T, 4> a[2][N & 3];",
        "{ threadgroup uint a[1]; }",
    ] {
        assert!(body(object).unwrap().contains("threadgroup_array"), "{object}");
    }
    for pointer in [
        "threadgroup float* p = a;",
        "f((threadgroup float4*)a)",
        "threadgroup const T& r = a[0];",
        "threadgroup float (&r)[4] = a;",
    ] {
        assert!(!body(pointer).unwrap().contains("threadgroup"), "{pointer}");
    }
    let two = body("threadgroup float a[2], b;").unwrap();
    assert!(two.contains("& a = ") && two.contains("& b = "), "{two}");
}

#[test]
fn what_is_not_understood_is_refused_by_name_and_line() {
    for (metal, line) in [
        ("threadgroup float a = 0;", 1),
        ("\nconst threadgroup float a[4];", 2),
        ("\n\ndouble x;", 3),
        ("float4x4 m;", 1),
        ("std::sort(a);", 1),
        ("#include <vector>", 1),
        ("texture2d<float> t;", 1),
    ] {
        let error = body(metal).expect_err(metal);
        assert!(error.starts_with(&format!("k.metal:{line}: ")) && error.contains("help: "), "{error}");
    }
}

#[test]
fn lines_stay_where_they_are() {
    let text = "float a;\nthreadgroup float\n  b[4];\n#include <metal_stdlib>\nsimd_sum(\n a);\n";
    let after = body(text).unwrap();
    // A declaration may join its own lines, but must not move the lines after it.
    assert_eq!(after.lines().count(), text.lines().count(), "{after}");
}

#[test]
fn indices_that_may_wrap_are_looked_at() {
    let index = |text: &str| body(&format!("x[{text}]")).unwrap();
    for (text, tracked) in [
        ("a * b + c", "metal::tracked(a) * metal::tracked(b) + metal::tracked(c)"),
        ("(a + 1) * b", "(metal::tracked(a) + 1) * metal::tracked(b)"),
        ("int(a * b)", "metal::tracked_as<int>(metal::tracked(a) * metal::tracked(b))"),
        ("(size_t)a * b", "metal::tracked_as<size_t>(metal::tracked(a)) * metal::tracked(b)"),
        ("f(a, b) * p.x", "metal::tracked(f(a, b)) * metal::tracked(p.x)"),
        ("a / b * c", "metal::tracked(a / b) * metal::tracked(c)"),
    ] {
        assert_eq!(index(text), format!("x[metal::index({tracked})]"), "{text}");
    }
    for untouched in ["i", "i + 1", "4 * i", "h % n", "a * b % n", "a * b & 63", "f(a * b)", "-a"] {
        assert_eq!(index(untouched), format!("x[{untouched}]"));
    }
    assert_eq!(index("(a * b) >> 3"), "x[(a * b) >> metal::shift() * 3]");
    for untouched in ["float a[N * M];", "threadgroup float* f(float a[N * M])", "[[attribute(a * b)]] a"] {
        assert!(!body(untouched).unwrap().contains("index"), "{untouched}");
    }
    let known = body("{ const uint a = b * c; x[a + 1]; } x[a + 1];").unwrap();
    assert!(known.contains("metal::tracked(a, a_unwrapped_)") && known.ends_with("x[a + 1];"), "{known}");
    assert_eq!(body("(float)p + a * b").unwrap(), "(float)p + a * b");
}

#[test]
fn shifts_take_their_distance_modulo_the_width() {
    for (metal, host) in [
        ("a << b + 1", "a << metal::shift() * b + 1"),
        ("a >>= b | c;", "a >>= metal::shift() * (b | c);"),
        ("f(i < n, a >> 1)", "f(i < n, a >> metal::shift() * 1)"),
        ("vec<vec<T, 4>>(a)", "vec<vec<T, 4>>(a)"),
        ("static_cast<array<float, (N >> 1)>>(a)", "static_cast<array<float, (N >> metal::shift() * 1)>>(a)"),
    ] {
        assert_eq!(body(metal).unwrap(), host);
    }
}
