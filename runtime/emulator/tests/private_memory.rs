//! Private variables without a value: a read that no write came before is found, whatever is computed from it, under every
//! compiler. What is set on the way to its read is left alone.

#[allow(dead_code)]
mod table;

use cotangent_emulator::Dtype;
use cotangent_emulator::FindingKind::*;
use table::{Case, defect, judge, sound};

const I: &str = "uint i = thread_position_in_grid.x;";

fn unset(name: &'static str, body: &str) -> Case {
    defect(UninitialisedRead, name, &format!("{I}\n{body}"))
}

fn set(name: &'static str, body: &str) -> Case {
    sound(name, &format!("{I}\n{body}"))
}

#[test]
fn reads_of_what_nothing_has_set() {
    judge(&[
        unset(
            "the largest of a row",
            "float m; for (int k = 0; k < 4; ++k) m = max(m, x[(i + k) & 63]); y[i] = m; //!",
        ),
        unset(
            "the smallest of a row",
            "float m;\nfor (int k = 0; k < 4; ++k)\n m = min(x[(i + k) & 63], m); //!\ny[i] = m;",
        ),
        unset(
            "a sum in each of four",
            "float a[4];\nfor (int k = 0; k < 4; ++k) a[k] += x[i] * k; //!\ny[i] = a[0] + a[3];",
        ),
        unset("a comparison", "float best;\nif (x[i] > best) best = x[i]; //!\ny[i] = best; //!"),
        unset("a count", "int n;\nfor (uint k = 0; k < i; ++k) n++; //!\ny[i] = n; //!"),
        unset("an index", "uint j;\nif (i > 99) j = 0;\ny[i] = x[j & 63]; //!"),
        unset("a flag", "bool seen;\nif (x[i] > 90) seen = true;\ny[i] = seen ? 1 : 0; //!"),
        unset("one thread's path", "float v;\nif (i != 5) v = x[i];\ny[i] = v; //!"),
        unset("a member of a struct", "struct P { float m; float s; }; P p; p.m = x[i];\ny[i] = p.m + p.s; //!"),
        unset("a component of a vector", "float4 v; v.x = x[i]; v.y = 1; v.z = 2;\ny[i] = v.x + v.w; //!"),
        unset("a whole vector", "float4 v;\nv += float4(x[i]); //!\ny[i] = v.x;"),
        unset("a vector copied from one that nothing set", "float4 v;\nfloat4 w = v; //!\nw.x = 1; y[i] = w.y;"),
        unset("in half", "half m;\nm = max(m, half(x[i])); //!\ny[i] = m;"),
        unset(
            "again in each turn",
            "float s = 0;\nfor (int k = 0; k < 3; ++k) { float t;\nif (k == 0) t = x[i];\ns += t; } //!\ny[i] = s;",
        ),
        unset("the second of two", "float a = 1, b;\ny[i] = a + b; //!"),
        unset("behind a pointer", "float v; thread float* p = &v;\ny[i] = *p; //!"),
        unset("the rest of an array", "float a[5]; for (int k = 0; k < 4; ++k) a[k] = k;\ny[i] = a[i % 5]; //!"),
        unset(
            "a tile that is added to",
            "tile<float, 16, 16> a(1.0f), b(1.0f), c;\ntile_multiply_accumulate(c, a, b); //!\ntile_store(c, y, 16);",
        )
        .threads(32, 32)
        .y(Dtype::F32, &[256]),
        unset("in a helper", "y[i] = largest(x[i], x[0]);").header(
            "inline float largest(float a, float b) {\nfloat m;\nif (a > m) m = a; //!\nreturn max(m, b); //!\n}",
        ),
        unset("in a functor", "y[i] = Largest()(x[i]);")
            .header("struct Largest { float operator()(float a) const {\nfloat m;\nreturn max(m, a); //!\n} };"),
        unset("given to a helper", "float v;\ny[i] = twice(v); //!")
            .header("inline float twice(float v) { return v + v; }"),
        unset("in a vote", "bool here;\ny[i] = simd_any(here) ? 1 : 0; //!"),
    ]);
}

#[test]
fn what_is_set_before_it_is_read() {
    judge(&[
        set("an array by a loop", "float a[4]; for (int k = 0; k < 4; ++k) a[k] = x[i] + k; y[i] = a[i % 4];"),
        set("on both paths", "float v; if (i & 1) v = 1; else v = 2; y[i] = v;").gives((0..64).map(|i| if i % 2 == 1 { 1.0 } else { 2.0 })),
        set("member by member, then copied", "struct P { float m; int n; bool b; }; P p; p.m = x[i]; p.n = 2; p.b = true; P q = p; y[i] = q.m * q.n;")
            .gives((0..64).map(|i| 2.0 * f64::from(i))),
        set("three components, then copied", "float3 v; v.x = x[i]; v.y = 1; v.z = 2; float3 w = v; y[i] = w.x + w.z;"),
        set("half3 and short3", "half3 v; v.x = 1; v.y = 2; v.z = 3; half3 w = v; short3 s; s.x = s.y = s.z = 1; short3 t = s; y[i] = w.z + t.z;"),
        set("by a helper through a reference", "float whole; float part = split(x[i] + 0.25f, whole); y[i] = part + whole;")
            .header("inline float split(float v, thread float& whole) { whole = floor(v); return v - whole; }")
            .gives((0..64).map(|i| f64::from(i) + 0.25)),
        set("by a helper through a pointer", "float a[4]; fill(a, x[i]); y[i] = a[3];")
            .header("inline void fill(thread float* a, float v) { for (int k = 0; k < 4; ++k) a[k] = v; }"),
        set("by sincos", "float c; float s = sincos(x[i], c); y[i] = s * s + c * c > 0.99f ? 1 : 0;").gives([1.0; 64]),
        set("in a switch", "float v; switch (i & 3) { case 0: v = 1; break; case 1: v = 2; break; default: v = 3; } y[i] = v;"),
        set("one place for two scopes", "float s = 0; { float a[8]; for (int k = 0; k < 8; ++k) a[k] = k; s += a[i & 7]; } { float b[8]; for (int k = 0; k < 8; ++k) b[k] = 1; s += b[i & 7]; } y[i] = s;"),
        set("with a constructor", "A a; y[i] = a.v + a.w;").header("struct A { float v = 1; float w; A() : w(2) {} };").gives([3.0; 64]),
        set("used only where set", "float v; bool there = i > 5; if (there) v = x[i]; y[i] = there ? v : 0;"),
        set("a struct in an array", "struct P { float m; uint n; }; P p[3]; for (int k = 0; k < 3; ++k) { p[k].m = k; p[k].n = k; } P q = p[i % 3]; y[i] = q.m + q.n;"),
        set("what an exchange expects", "int e; e = 0; atomic_compare_exchange_weak_explicit(&y[0], &e, 1, memory_order_relaxed, memory_order_relaxed);")
            .y(Dtype::I32, &[1])
            .atomic()
            .init(0.0),
        set("tiles", "tile<float, 16, 16> a, b(0.0f), c; tile_load(a, x, 16); { float w[40]; for (int k = 0; k < 40; ++k) w[k] = k; b = tile_transpose(a); c = tile<float, 16, 16>(w[i & 31] * 0); } tile_multiply_accumulate(c, a, b); tile_store(c, y, 16);")
            .threads(32, 32)
            .x(Dtype::F32, &[256], (0..256).map(|v| f64::from(v % 7)))
            .y(Dtype::F32, &[256]),
        set("matrices", "simdgroup_float8x8 a, b, c; simdgroup_load(a, x, 8); { float w[40]; for (int k = 0; k < 40; ++k) w[k] = k; simdgroup_load(b, x + int(w[0]), 8); } simdgroup_multiply(c, a, b); simdgroup_store(c, y, 8);")
            .threads(32, 32),
        set("a struct by value to a helper that is not inlined", "float r = 0; for (int k = 0; k < 3; ++k) { float t[16]; for (int j = 0; j < 16; ++j) t[j] = j; r += t[k]; Big b = {{1, 2, 3, 4, 5, 6, 7, 8, 9}}; r += sum(b); } y[i] = r;")
            .header("struct Big { float v[9]; };\n__attribute__((noinline)) static float sum(Big b) { float u[20]; for (int k = 0; k < 20; ++k) u[k] = b.v[k % 9]; thread float* p = b.v; return u[19] + p[8]; }"),
        set(
            "in the place of a variable whose scope has ended",
            "threadgroup half s[64]; s[i] = half(x[i]); threadgroup_barrier(mem_flags::mem_threadgroup);
             { half gone[4]; if (x[0] < -1e9f) { for (int k = 0; k < 4; ++k) gone[k] = s[k]; y[i] = gone[i & 3]; } }
             half sum = 0; short a = 0, b = 0;
             for (int k = 0; k < 8; ++k) {
                 auto p = (a < 4) ? s[a] : half(99); auto q = (b < 4) ? s[8 + b] : half(99);
                 bool second = (b < 4) && (a >= 4 || q < p);
                 sum += second ? q : p; b += short(second); a += short(!second);
             }
             y[i] = sum;",
        )
        .threads(64, 64),
    ]);
}
