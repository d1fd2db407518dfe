//! Arithmetic and accesses that leave the result open: signed overflow, memory taken for a type that it is not aligned for,
//! an index past a private array. What Metal defines, such as the arithmetic of hashes, is left alone.

#[allow(dead_code)]
mod table;

use cotangent_emulator::FindingKind::*;
use cotangent_emulator::{Checks, Dtype, Schedule};
use table::{Case, defect, judge, sound};

const I: &str = "uint i = thread_position_in_grid.x;";

fn wrong(kind: cotangent_emulator::FindingKind, name: &'static str, body: &str) -> Case {
    defect(kind, name, &format!("{I}\n{body} //!"))
}

fn right(name: &'static str, body: &str) -> Case {
    sound(name, &format!("{I}\n{body}"))
}

#[test]
fn floats_that_no_integer_holds() {
    judge(&[
        wrong(UndefinedArithmetic, "too large for an int", "y[i] = float(int(x[i] * 1e9f + 3e9f));"),
        wrong(UndefinedArithmetic, "without a cast", "int a = x[i] * -1e9f - 3e9f; y[i] = float(a);"),
        wrong(UndefinedArithmetic, "negative for a uint", "y[i] = float(uint(x[i] - 5.0f));"),
        wrong(UndefinedArithmetic, "too large for a char", "y[i] = float(char(x[i] + 128.0f));"),
        wrong(UndefinedArithmetic, "of half", "y[i] = float(short(half(x[i]) + 33000.0h));"),
        wrong(UndefinedArithmetic, "infinite", "y[i] = float(int((x[i] + 1.0f) * INFINITY));"),
        right("cut off toward zero", "y[i] = float(uint(-0.75f - x[0])) + float(char(127.5f + x[0]));")
            .gives([127.0; 64]),
        right("the smallest int", "y[i] = int(-2147483648.0f - x[0]) < 0 ? 1.0f : 0.0f;").gives([1.0; 64]),
        right("clamped", "y[i] = float(int(clamp(x[i] * 1e9f, -1.0f, 1.0f)));"),
        right("to a bool", "y[i] = bool(x[i] * 1e30f) ? 1.0f : 0.0f;"),
    ]);
}

#[test]
fn signed_overflow() {
    judge(&[
        wrong(UndefinedArithmetic, "a product of extents", "int n = int(x[1]) * 70000; y[i] = x[(n * n) & 63];"),
        wrong(
            UndefinedArithmetic,
            "a row by its stride",
            "int row = int(i) * 50000; int at = row * 50000; y[i] = x[at & 63];",
        ),
        wrong(UndefinedArithmetic, "a sum", "int a = 2147483647 - int(i); y[i] = float(a + int(x[5]));"),
        wrong(UndefinedArithmetic, "a difference", "int a = -2147483600 - int(i); y[i] = float(a - 50);"),
        wrong(
            UndefinedArithmetic,
            "a counter",
            "int a = 2147483640 + int(x[1]); for (int k = 0; k < 8; ++k) ++a; y[i] = float(a);",
        ),
        wrong(UndefinedArithmetic, "a sign", "int a = int(x[0]) - 2147483647 - 1; y[i] = float(-a);"),
        wrong(UndefinedArithmetic, "of long", "long a = long(i + 2) << 61; y[i] = float(a * 3);"),
        wrong(UndefinedArithmetic, "in a vector", "int2 v = int2(65536) + int(i); y[i] = float((v * v).x);"),
        wrong(
            UndefinedArithmetic,
            "the smallest by -1",
            "int a = -2147483647 - 1 + int(x[0]); y[i] = a / (int(x[0]) - 1);",
        ),
    ]);
}

/// An index must not wrap around, because it may be inside by chance. A separate thread runs each line.
#[test]
fn wrapped_indices() {
    let header = "inline float first(device const float* p) { return *p; }\n#define AT(p, n, i) p[(n) * (n) + (i)]\n\
                  inline uint square(uint n) { return n * n; }\n\
                  inline uint at(uint n, uint i) { uint row = n * n; if (n > 1) return row + i; return i; }\n\
                  template <typename T> inline int scaled(T n) { return square(n) * 1; }\n";
    let lines = [
        "y[i] = x[n * n + i];",
        "uint row = n * n; y[i] = x[row + i];",
        "const uint rows = n * n, start = rows + i; y[i] = x[rows + i] + start;",
        "const uint row = n * 65536; const uint start = row + i; y[i] = x[start];",
        "y[i] = x[size_t(n * n) + i];",
        "y[i] = x[int(n * n) + int(i)];",
        "size_t row = n * n; y[i] = x[row + i];",
        "y[i] = x[(ulong)(n * n) + (uint)i];",
        "y[i] = x[static_cast<long>(n * n) + i];",
        "y[i] = x[(n << 16) + i];",
        "device const float* p = x + n * n; y[i] = p[i];",
        "device const float* p = x; p += n * n; y[i] = p[i];",
        "y[i] = first(x + n * n + i);",
        "device const float* p = &x[n * n]; y[i] = p[i];",
        "y[n * n + i] = x[i];",
        "threadgroup float s[64]; s[n * n + i] = x[i]; y[i] = s[i];",
        "y[i] = AT(x, n, i);",
        "for (uint k = n * n; k < 1; ++k) y[i] = x[k + i];",
        "uint k; k = n * n; y[i] = x[k + i];",
        "uint k = 0, l; if (n > 1) k = n * n + i; y[i] = x[k]; l = 1; y[i] += float(l) * 0;",
        "uint k = n; k *= n; y[i] = x[k + i];",
        "uint k = 1; if (n < 2) { k = 2; } else k = n * n; k += i * 1; y[i] = x[k];",
        "y[i] = x[square(n) + i];",
        "y[i] = x[at(n, i)];",
        "uint k = at(n, i); y[i] = x[k];",
        "uint k; k = at(n, i); y[i] = x[k];",
        "y[i] = first(x + at(n, i));",
        "y[i] = x[scaled(n) + int(i)];",
    ];
    let own = |(thread, line): (usize, &&str)| format!("\nif (i == {thread}) {{ {line} }}");
    let body: String = lines.iter().enumerate().map(own).collect();
    // n is 65536.
    let case = sound("wraps", &format!("{I} uint n = uint(x[63]) + 65473;{body}")).header(header).init(0.0);
    let run = case.run(Schedule::Forward, Checks::On).unwrap();
    let found =
        |line: u32| run.findings.iter().any(|f| f.kind == WrappedIndex && f.at().is_some_and(|at| at.line == line));
    let missed: Vec<&str> = (2u32..).zip(lines).filter(|(line, _)| !found(*line)).map(|(_, line)| line).collect();
    assert!(missed.is_empty(), "{missed:#?}");
    assert_eq!(run.findings.len(), lines.len(), "{:?}", run.findings);
    assert!(run.findings[0].message.contains("where 4294967296 becomes 0"), "{}", run.findings[0]);

    let helper = "inline float at(device const float* p, uint n, uint i) {\n  return p[n * n + i]; //!\n}";
    judge(&[wrong(WrappedIndex, "in a helper", "y[i] = at(x, 65536 + uint(x[0]), i);").header(helper).init(0.0)]);
}

#[test]
fn arithmetic_that_wraps_is_defined() {
    judge(&[
        right(
            "shifts by the width or more",
            "uint by = uint(x[i]) + 32; short s = 3; constexpr int N = 1 << 3; float a[N >> 1] = {1, 2, 3, 4}; int b = 1;
             uint2 v(1, 2); int4 w = int4(8) >> 34; v <<= uint2(33, 32); b <<= 32 | 1;
             y[i] = (1u << by == 1u << (by & 31)) + (s << (by - i + 1)) + (ulong(1) << 65) + v.x + v.y + w.x + a[3] + b;",
        )
        .gives([21.0; 64]),
        right(
            "hashes and offsets that become indices",
            "uint h = (i + 1) * 2654435761u, slot = h % 64, s = i, left = 5; int by = -1 - int(i);
             for (int k = 0; k < 3; ++k) s = s * 1664525u + 1013904223u;
             float sum = x[slot] + x[(h * 40503u) >> 26] + x[h * h & 63] + x[s % 64u];
             for (uint k = i * 2654435761u, t = 0; t < 3; ++k, ++t) sum += x[k % 64];
             sum += x[(i - left) * 1 + left] + x[i * 1000000 + i - i * 1000000] + x[i * 70000 + i + 1 + uint(by) - i * 70000];
             uint row = (i + 65536) * 65537; sum += row; row = i; sum += x[row];
             uint later; later = h * 2246822519u; later ^= later >> 15; later *= h; sum += x[later & 63] + x[hashed(h) % 64];
             later = i * 65536 * 65536; later += i; later = i; sum += x[later] + x[offset(i, 8) / 8];
             uint mixed = hashed(i); mixed = mixed * 5 + 1; sum += x[mixed >> 26];
             ulong wide = (ulong(i) + 1) << 32 | i; sum += x[uint(wide * 1)];
             constexpr uint N = 2; float a[N * N * 16]; for (uint k = 0; k < N * N * 16; ++k) a[k] = x[k];
             y[i] = a[i] + sum * 0;",
        )
        .header("inline uint hashed(uint h) { h *= 2654435761u; return h * 40503u; } inline uint offset(uint i, uint n) { return i * n; }")
        .gives((0..64).map(f64::from)),
        right(
            "a hash",
            "uint h = (i + 1) * 2654435761u; h ^= h >> 15; h *= 2246822519u; h ^= h << 13; y[i] = x[h & 63];",
        ),
        right(
            "a generator of random numbers",
            "uint s = i * 747796405u + 2891336453u; s = ((s >> ((s >> 28) + 4)) ^ s) * 277803737u; y[i] = float((s >> 22) ^ s) * 2.0f > 0 ? 1 : 1;",
        ),
        right("an index below zero that a guard refuses", "uint left = i - 1; y[i] = left < 64 ? x[left] : 0;"),
        right("narrow types", "char c = char(100 + i); short s = short(32760 + i); y[i] = c + s;"),
        right("of ulong", "ulong a = ~0ul; a += i; y[i] = float(a & 63);"),
    ]);
}

#[test]
fn misaligned_accesses() {
    judge(&[
        wrong(
            Misaligned,
            "four floats from the second",
            "device const float4* v = (device const float4*)(x + 1); float4 a = v[0]; y[i] = a.x + a.w;",
        ),
        wrong(
            Misaligned,
            "one of four only in some threads",
            "device const float4* v = (device const float4*)(x + (i & 4) + (i & 1)); y[i] = v[0].y;",
        ),
        wrong(Misaligned, "two floats", "y[i] = ((device const float2*)(x + 3))->x;"),
        wrong(
            Misaligned,
            "by reinterpret_cast",
            "float2 v = *reinterpret_cast<device const float2*>(x + 2 * (i & 7) + 1); y[i] = v.x;",
        ),
        wrong(
            Misaligned,
            "a float between bytes",
            "device const char* bytes = (device const char*)x; y[i] = *(device const float*)(bytes + 2 + i);",
        ),
        wrong(Misaligned, "a store of four", "if (i < 8) *(device float4*)(y + 4 * i + 2) = float4(x[i]);")
            .y(Dtype::F32, &[34])
            .init(0.0),
        wrong(
            Misaligned,
            "in threadgroup memory",
            "threadgroup half s[80]; s[i] = half(x[i]); threadgroup_barrier(mem_flags::mem_threadgroup); y[i] = float(((threadgroup half4*)(s + 2))->w);",
        ),
        right(
            "at multiples",
            "device const float4* v = (device const float4*)x; float4 a = v[i / 4]; y[i] = a[i % 4];",
        )
        .gives((0..64).map(f64::from)),
        right(
            "packed",
            "device const packed_float3* v = (device const packed_float3*)(x + 1); float3 a = v[i / 4]; y[i] = a.z;",
        ),
        right(
            "only where it is aligned",
            "device const float2* v = (device const float2*)(x + i); y[i] = (i & 1) ? x[i] : v->x;",
        )
        .gives((0..64).map(f64::from)),
        right("bytes of anything", "device const uchar* b = (device const uchar*)x; y[i] = b[i];"),
    ]);
}

#[test]
fn an_index_past_a_private_array_names_it() {
    for (name, body, element) in [
        (
            "sums",
            "float sums[4] = {0}; sums[i & 7] = x[i]; y[i] = sums[0]; //!",
            "index 4 of `sums`, which has 4 elements",
        ),
        (
            "weights",
            "const float weights[3] = {1, 2, 3}; float other[9] = {0};\ny[i] = weights[i % 4] + x[i]; //!",
            "index 3 of `weights`, which has 3 elements",
        ),
        ("both", "float both[2][3] = {};\ny[i] = both[1][i % 4]; //!", "index 3 of `both`, which has 3 elements"),
    ] {
        let case = wrong(OutOfBounds, name, body.trim_end_matches("//!"));
        case.verdict().unwrap();
        let run = case.run(Schedule::Forward, Checks::On).unwrap();
        assert_eq!((run.findings[0].message.as_str(), run.findings[0].subject.as_deref()), (element, Some(name)));
    }
}

#[test]
fn a_shuffle_from_an_absent_lane_is_named_as_that() {
    judge(&[
        defect(
            AbsentLane,
            "half of the lanes",
            "uint i = thread_position_in_grid.x;\nfloat v = x[i];\nif (i % 32 < 16) v = simd_shuffle(v, 20); //!\ny[i] = v;",
        ),
        defect(
            AbsentLane,
            "a broadcast from one that has left",
            "uint i = thread_position_in_grid.x;\nif (i % 32 == 3) { y[i] = 0; return; }\ny[i] = simd_broadcast(x[i], 3); //!",
        ),
        defect(
            AbsentLane,
            "the last simdgroup is short",
            "uint i = thread_position_in_grid.x;\ny[i] = simd_shuffle_xor(x[i], 8); //!",
        )
        .threads(40, 40)
        .y(Dtype::F32, &[40]),
        defect(
            DivergentSimd,
            "a lane that is there",
            "uint i = thread_position_in_grid.x;\nfloat v = x[i];\nif (i % 32 < 16) v = simd_shuffle(v, 2); //!\ny[i] = v;",
        ),
        sound(
            "down past the end",
            "uint i = thread_position_in_grid.x;\nfloat v = x[i];\nfor (ushort d = 16; d; d /= 2) v += simd_shuffle_down(v, d);\nv = simd_broadcast_first(v); y[i] = v;",
        ),
    ]);
}

#[test]
fn a_row_that_reaches_into_the_next_is_said_to() {
    let case = wrong(DataRace, "rows", "for (uint k = 0; k <= 4; ++k) y[i * 4 + k] = x[i];").y(Dtype::F32, &[257]);
    case.verdict().unwrap();
    let run = case.run(Schedule::Forward, Checks::On).unwrap();
    assert!(run.findings[0].advice.contains("check the extent"), "{}", run.findings[0]);
}
