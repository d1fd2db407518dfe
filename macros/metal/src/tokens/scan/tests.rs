//! Tests of what is found in sources, in Rust or in a file.

use super::*;
use crate::names::{is_constant, is_type};
use crate::tokens::token;
use AccessKind::{Accumulate, Address, Alias, Atomic, Given, Move, Read, Store};

fn arrays() -> Vec<String> {
    ["x", "y", "z", "d_y"].map(str::to_owned).to_vec()
}

/// All but the places.
fn summary(scan: &Scan) -> String {
    let accesses: Vec<_> =
        scan.accesses.iter().map(|access| (&access.name.text, access.kind, &access.through, access.is_used)).collect();
    let shared: Vec<_> = scan.threadgroup.iter().map(|shared| (&shared.element, &shared.lengths)).collect();
    format!("{:?} {accesses:?} {shared:?} {}", scan.declared, scan.reserved.len())
}

fn scan(text: &str) -> Scan {
    let (from_file, mistakes) = crate::tokens::lexer::lex(text);
    assert!(mistakes.is_empty(), "{mistakes:?}");
    let scan = Scan::new(&token::from_rust(text.parse().unwrap()), arrays());
    // The same text in a file has the same meaning.
    assert_eq!(summary(&scan), summary(&Scan::new(&from_file, arrays())), "{text}");
    scan
}

fn kinds(text: &str, name: &str) -> Vec<AccessKind> {
    scan(text).of_name(name).map(|access| access.kind).collect()
}

#[test]
fn declarations_are_found_wherever_they_stand() {
    let found = scan(
        "uint i = thread_position_in_grid.x, j;\n\
         const device float* p = x + i;\n\
         threadgroup float tile_a[16][17];\n\
         #define LANES 32\n\
         for (int k = 0; k < 4; ++k) { vec<float, 4> v; metal::array<int, 3> w = {}; }\n\
         auto square = [&](float a, float b) { return a * b; };\n\
         if (i > 3) float late = 1.0f;\n\
         unsigned u = 3; unsigned int n = 4;\n\
         enum class Op : int { Add, Mul = 3 }; enum Kind { One };\n\
         struct Pair { float first; int second; };",
    );
    for name in [
        "i", "j", "p", "tile_a", "LANES", "k", "v", "w", "square", "a", "b", "late", "u", "n", "Pair", "first",
        "second", "Op", "Add", "Kind", "One",
    ] {
        assert!(found.declared.contains(name), "{name}: {:?}", found.declared);
    }
    let array = &found.threadgroup[0];
    assert_eq!(
        (&array.element, &array.lengths[..]),
        (&Some(Element::Bytes(4)), &["16".to_owned(), "17".to_owned()][..])
    );
}

#[test]
fn nothing_that_metal_allows_seems_undeclared() {
    for text in [
        "uint bits = as_type<uint>(1.0f); float top = numeric_limits<float>::max();",
        "const auto n = uint(3); T acc[4]{}; float4 v = {1, 2, 3, 4}, w = v.wzyx;",
        "if constexpr (sizeof(T) == 4) { half late = half(1); late += 1.0h; }",
        "for (ushort i = 0, end = 4; i < end; i += 2) { simdgroup_float8x8 m; simdgroup_load(m, &i, 8); }",
        "threadgroup_barrier(mem_flags::mem_threadgroup); float s = simd_sum(metal::precise::exp(-INFINITY));",
        "auto f = [=](float a, thread float& b) -> float { b = a; return a > b ? a : -b; };",
        "constexpr int LANES = 32; threadgroup float part[LANES * 2]; part[0] = M_PI_F;",
        "typedef vec<float, 2> pair; pair p = pair(1, 2); using other = half; other q = other(p.x);",
        "#define SQUARE(z) ((z) * (z))\nfloat r = SQUARE(2.0f);\nfloat last = r;",
        "tile<float, 16, 16> t(0.0f); tile_for_each(t, row, column, value) { value += row * column; }",
        "tile_rows<int> m(0); tile<int, 16, 16> u; tile_with_rows(u, m, r, c, x, of_row) { x = of_row + r - c; }",
        "switch (3) { case 1: { int one = 1; one++; break; } default: break; }",
        "do { int k = 0; while (k < 3) ++k; } while (false);",
        "enum class Op : int { Add, Mul }; Op op = Op::Mul; if (op == Op::Add) return;",
        "struct Pair { float a; int b; } pair; pair.a = 1; Pair other = {1, 2}; other.b += 1;",
        "int i = 3; //!< the index\n/*! block */ i++; ///< after",
    ] {
        let found = scan(text);
        let unknown: Vec<String> = found
            .accesses
            .iter()
            .filter(|access| access.kind != AccessKind::Call)
            .map(|access| access.name.text.clone())
            .filter(|name| {
                let known = found.declared.contains(name) || is_type(name) || is_constant(name);
                !known && name != "T"
            })
            .collect();
        assert_eq!(unknown, Vec::<String>::new(), "{text}\n{:?}", found.declared);
    }
}

#[test]
fn lengths_of_threadgroup_arrays_follow_constants_of_the_text() {
    let float = || Some(Element::Bytes(4));
    for (text, element, lengths) in [
        ("threadgroup float a[8][4];", float(), vec!["8", "4"]),
        (
            "constexpr int LANES = 32, ROWS = LANES / 4; threadgroup half a[ROWS * 2u][LANES];",
            Some(Element::Bytes(2)),
            vec!["((32) / 4) * 2", "(32)"],
        ),
        ("#define TILE 16\n#define AREA (TILE * TILE)\nthreadgroup float b[AREA];", float(), vec!["(16 * 16)"]),
        ("const uint n = 4; { const uint n = 8; threadgroup float a[n]; }", float(), vec!["()"]),
        ("threadgroup float a[D];", float(), vec!["D"]),
        ("threadgroup T b[4];", Some(Element::Type("T".to_owned())), vec!["4"]),
    ] {
        let shared = scan(text).threadgroup.remove(0);
        assert_eq!((shared.element, shared.lengths.iter().map(String::as_str).collect()), (element, lengths), "{text}");
    }
    let (tokens, _) = crate::tokens::lexer::lex("#if A\nthreadgroup int a[4];\n#else\nthreadgroup int a[8];\n#endif");
    assert_eq!(Scan::new(&tokens, arrays()).threadgroup.len(), 1);
}

#[test]
fn names_in_lengths_are_those_that_no_constant_of_the_text_has() {
    for (text, expected) in [
        ("threadgroup float a[D * 2];", vec![("D", false)]),
        ("int n = 3; float a[n];", vec![("n", true)]),
        ("constexpr int n = 3; float a[n + 1];", vec![]),
        ("enum { N = 3 }; threadgroup float a[N];", vec![]),
        ("threadgroup float a[sizeof(T) * 4];", vec![]),
        ("threadgroup float* a = b;", vec![]),
    ] {
        let found = scan(text).lengths;
        let found: Vec<_> = found.iter().map(|length| (length.name.as_str(), length.is_local)).collect();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn reserved_words_are_no_variables() {
    for (text, expected) in [
        ("uint thread = 3;", vec!["thread"]),
        ("const float device = 1.0f;", vec!["device"]),
        ("uint threads = 3;", vec![]),
    ] {
        let names: Vec<String> = scan(text).reserved.iter().map(|name| name.text.clone()).collect();
        assert_eq!(names, expected, "{text}");
    }
}

#[test]
fn uses_are_distinguished() {
    for (text, expected) in [
        ("y[i] = 1;", vec![Store]),
        ("y[i].x = 1;", vec![Store]),
        ("(y)[i] = 1;", vec![Store]),
        ("*y = 1;", vec![Store]),
        ("*(y + i) = 1;", vec![Store]),
        ("y->x = 1;", vec![Store]),
        ("y[i] += 1;", vec![Accumulate]),
        ("y[i] <<= 1;", vec![Accumulate]),
        ("y[i]++;", vec![Accumulate]),
        ("--y[i];", vec![Accumulate]),
        ("*y++ = 1;", vec![Store]),
        ("float a = y[i] * 2;", vec![Read]),
        ("float a = 1 - -y[i];", vec![Read]),
        ("float a = z[i] - -y[i], b = z[i] + +y[i];", vec![Read, Read]),
        ("if (y[i] == 1) return;", vec![Read]),
        ("if (y[i] <= 1) return;", vec![Read]),
        ("float a = exp(y[i]);", vec![Read]),
        ("store(y, 3);", vec![Address]),
        ("store(y + 3);", vec![Address]),
        ("store(&y[3]);", vec![Address]),
        ("store(y[3]);", vec![Given]),
        ("Pair p = {y, 3};", vec![Address]),
        ("p.first = y;", vec![Address]),
        ("atomic_fetch_add_explicit(&y[i], 1.0f, memory_order_relaxed);", vec![Atomic]),
        ("atomic_load_explicit(&y[i], memory_order_relaxed);", vec![Read]),
        ("auto put = [&](uint i) { y[i] = 3; }; put(2);", vec![Store]),
        ("for (uint i = 0; i < 4; y[i++] = 1) {}", vec![Store]),
        ("y[i] = z[i] = 1;", vec![Store]),
        ("a = b ? c : y[i];", vec![Read]),
    ] {
        assert_eq!(kinds(text, "y"), expected, "{text}");
    }
}

#[test]
fn moving_a_pointer_is_no_write() {
    for (text, expected) in [
        ("y += b * 4;", vec![Move]),
        ("y++;", vec![Move]),
        ("y = y + 3;", vec![Move, Alias]),
        ("y += 4; y[i] = 1;", vec![Move, Store]),
        ("y += 4; y[i] += 1;", vec![Move, Accumulate]),
        ("device float* row = y + i;", vec![Alias]),
        ("device float* row = y + i; row += 3;", vec![Alias, Alias]),
    ] {
        assert_eq!(kinds(text, "y"), expected, "{text}");
    }
}

#[test]
fn pointers_and_references_are_followed() {
    for (text, expected) in [
        ("device float* row = y + i; row[2] = 1;", vec![Alias, Store]),
        ("device float* row = &y[3]; *row += 1;", vec![Alias, Accumulate]),
        ("auto row = y + i; row[2] = 1;", vec![Alias, Store]),
        ("auto row = y + i, other = row + 1; other[2] = 1;", vec![Alias, Alias, Store]),
        ("device float& r = y[i]; r = 1;", vec![Alias, Store]),
        ("device float& r = y[i]; r += 1;", vec![Alias, Accumulate]),
        ("auto v = y[i]; v = 1;", vec![Read]),
        ("float v = y[i]; v += 1;", vec![Read]),
        ("((device float4*)y)[i] = 1;", vec![Store]),
        ("*(device float4*)(y + i) = 1;", vec![Store]),
        ("reinterpret_cast<device float4*>(y)[i] = 1;", vec![Store]),
        ("auto q = (device uchar*)(y); q[0] = 1;", vec![Alias, Store]),
        ("(c ? y : z)[i] = 1;", vec![Address]),
        ("device float* p = c ? y : z; p[i] = 1;", vec![Alias, Address]),
        ("device float* p; p = y; p[i] = 1;", vec![Alias, Store]),
        ("device float* p = z; p = y; p[i] = 1;", vec![Alias, Address]),
        ("const device float* p = y; float v = p[i];", vec![Alias, Read]),
        (
            "auto t = (device atomic_float*)y; atomic_fetch_add_explicit(t, 1.0f, memory_order_relaxed);",
            vec![Alias, Accumulate],
        ),
        ("#define PUT(a, b) a[i] = (b)\nPUT(y, 3);", vec![Store]),
        ("#define STORE(i, v) y[i] = v\nSTORE(1, 3);", vec![Store]),
        ("#define SUM(i) y[i] +=\nSUM(1) 3;", vec![Accumulate]),
    ] {
        assert_eq!(kinds(text, "y"), expected, "{text}");
    }
}

#[test]
fn a_local_hides_what_has_its_name_as_long_as_its_block_lasts() {
    for (text, expected) in [
        ("{ float y = 1.0f; y = 2; } y[i] = 1;", vec![Store]),
        ("for (int y = 0; y < 3; ++y) { a += y; }", vec![]),
        ("if (int y = 3) { y += 1; } float b = y[0];", vec![Read]),
        ("auto f = [](float y) { return y * 2; };", vec![]),
        ("struct S { device float* y; }; S s; s.y = z;", vec![]),
        ("tile_for_each(t, row, column, y) { y += 1; }", vec![]),
    ] {
        assert_eq!(kinds(text, "y"), expected, "{text}");
    }
    let found = scan("float a; { float b; } for (int c = 0; ;) {} struct S { float d; };");
    let names = |names: &[Name]| names.iter().map(|name| name.text.clone()).collect::<Vec<_>>();
    assert_eq!((names(&found.outermost), names(&found.inner)), (vec!["a".into()], vec!["b".into(), "c".into()]));
}

#[test]
fn values_that_reach_nothing_are_not_used() {
    for (text, expected) in [
        ("y[i] = d_y[i];", true),
        ("(void)d_y;", false),
        ("(void)d_y[0];", false),
        ("d_y[i];", false),
        ("float g = d_y[i];", false),
        ("float g = d_y[i]; (void)g;", false),
        ("float g = d_y[i], h = g * 2; (void)h;", false),
        ("float g = d_y[i], h = g * 2; y[i] = h;", true),
        ("float g; g = d_y[i]; g += 1;", false),
        ("float g = 0; for (int k = 0; k < 3; ++k) g += d_y[k];", false),
        ("float g = 0; for (int k = 0; k < 3; ++k) g += d_y[k]; y[i] = g;", true),
        ("if (false) { y[i] = d_y[i]; }", false),
        ("if (0) y[i] = d_y[i]; else y[i] = 1;", false),
        ("if (true) { y[i] = 1; } else { y[i] = d_y[i]; }", false),
        ("while (false) { y[i] = d_y[i]; }", false),
        ("#if 0\ny[i] = d_y[i];\n#endif", false),
        ("float g[4]; g[0] = d_y[i];", false),
        ("threadgroup float g[4]; g[0] = d_y[i]; y[i] = g[1];", true),
        ("if (d_y[i] > 0) y[i] = 1;", true),
        ("const device float* row = d_y + 3; y[i] = row[1];", true),
        ("const device float* row = d_y + 3; float g = row[1];", false),
        ("float g = helper(d_y, i);", true),
        ("float g = exp(d_y[i]);", false),
        ("Pair p = {d_y, 3}; y[i] = p.first[1];", true),
        ("auto put = [&](float v) { y[i] = v; }; put(d_y[i]);", true),
        ("auto q = [&](int k) { return d_y[k]; }; y[i] = q(1);", true),
        ("float g = d_y[i]; thread float* p = &g; y[i] = *p;", true),
    ] {
        let found = scan(text);
        assert_eq!(found.of_name("d_y").any(|access| access.is_used), expected, "{text}");
    }
}

#[test]
fn members_scopes_and_attributes_are_no_values() {
    let found = scan("[[unroll]] for (;;) { a.y = metal::y(3); p->y = mem_flags::y; }\n#pragma y y\nb = 1;");
    assert!(found.accesses.iter().all(|access| access.name.text != "y"), "{:?}", found.accesses);
}

#[test]
fn components_of_attributes_are_noted() {
    let found = scan("uint w = thread_position_in_grid.w, s = thread_index_in_simdgroup; a.x = b.y;");
    let found: Vec<_> = found.components.iter().map(|(name, part)| format!("{}.{}", name.text, part.text)).collect();
    assert_eq!(found, ["thread_position_in_grid.w"]);
}

#[test]
fn doubles_are_found_in_types_casts_and_macros() {
    for text in [
        "double a = 1;",
        "float a = (double)b;",
        "float a = static_cast<double>(b);",
        "float a = double(b);",
        "vec<double, 2> a;",
        "#define REAL double\nREAL a = 1;",
        "using real = double;",
        "auto f = [](double a) { return a; };",
    ] {
        assert_eq!(scan(text).doubles.len(), 1, "{text}");
    }
}

#[test]
fn depth_without_end_is_left() {
    for text in ["-".repeat(50_000), "(int)".repeat(50_000), "a = ".repeat(50_000), "do ".repeat(50_000)] {
        let (tokens, _) = crate::tokens::lexer::lex(&text);
        Scan::new(&tokens, arrays());
    }
}
