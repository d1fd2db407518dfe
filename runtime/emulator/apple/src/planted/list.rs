//! The defects, in the order of their kinds.
//!
//! `«bad|good»` stands for the defect and for its repair; `@` is a barrier for both memories. A snippet may use the input
//! `x`, which holds 0, 1, 2 …, the output `y`, threadgroup memory `s` of `SIZE` elements, all of type `T`; the thread's
//! element `i` of `count`, and its place `t` among the `n` threads of its threadgroup.

use super::Defect;
use super::Kind::{self, *};

const fn defect(kind: Kind, name: &'static str, frames: &'static str, text: &'static str) -> Defect {
    Defect { kind, name, frames, text }
}

/// All defects. A letter of the third column is a frame of `frame` in `mod.rs`.
pub const DEFECTS: &[Defect] = &[
    defect(Race, "two threads for one element", "oh", "y[«i / 2|i»] = x[i];"),
    defect(Race, "windows that overlap", "gm", "for (uint k = 0; k < 2; ++k) y[«min(i + k, count - 1)|i»] = x[i];"),
    defect(
        Race,
        "a counter without atomics",
        "td",
        "if (t == 0) s[0] = 0; @ «s[0] += 1;|if (t == 0) s[0] += 1;» @ y[i] = s[0];",
    ),
    defect(
        Race,
        "the output of another threadgroup",
        "rl",
        "y[i] = x[i]; threadgroup_barrier(mem_flags::mem_device); T v = y[«(i + SIZE) % count|i»]; if (v > T(1000)) y[i] = v;",
    ),
    defect(
        Race,
        "one place for the sums of two simdgroups",
        "om",
        "T v = simd_sum(x[i]); if (t % 32 == 0) s[«0|t / 32»] = v; @ y[i] = s[0];",
    ),
    defect(
        Race,
        "a transposed tile with a wrong stride",
        "gt",
        "s[t % 8 * «7|8» + t / 8] = x[i]; @ y[i] = s[t % 8 * «7|8» + t / 8];",
    ),
    defect(Barrier, "between a write and a read", "oh", "s[t] = x[i]; «|@» y[i] = s[n - 1 - t];"),
    defect(
        Barrier,
        "in a tree of sums",
        "gf",
        "s[t] = x[i]; @ for (uint k = n / 2; k > 0; k /= 2) { if (t < k) s[t] += s[t + k]; «|@» } @ y[i] = s[0];",
    ),
    defect(
        Barrier,
        "before the next write in a loop",
        "dm",
        "T v = 0; for (uint k = 0; k < 3; ++k) { s[t] = x[i] + T(k); @ v += s[n - 1 - t]; «|@» } y[i] = v;",
    ),
    defect(
        Barrier,
        "for the other memory",
        "tr",
        "s[t] = x[i]; threadgroup_barrier(mem_flags::«mem_device|mem_threadgroup»); y[i] = s[n - 1 - t];",
    ),
    defect(
        Barrier,
        "of a simdgroup for two",
        "ol",
        "s[t] = x[i]; «simdgroup_barrier|threadgroup_barrier»(mem_flags::mem_threadgroup); y[i] = s[n - 1 - t];",
    ),
    defect(
        Barrier,
        "for the output",
        "hg",
        "y[i] = x[i]; threadgroup_barrier(mem_flags::«mem_threadgroup|mem_device»); T v = y[i - t + n - 1 - t]; \
         threadgroup_barrier(mem_flags::mem_device); y[i] = v;",
    ),
    defect(
        Barrier,
        "between lanes of a simdgroup",
        "sd",
        "s[t] = x[i]; «|simdgroup_barrier(mem_flags::mem_threadgroup);» y[i] = s[t ^ 1];",
    ),
    defect(Bounds, "the element behind the last", "oh", "y[i] = x[«i + 1|i»];"),
    defect(Bounds, "a write behind the last", "gr", "y[«i + 1|i»] = x[i];"),
    defect(Bounds, "a negative index", "dm", "int j = int(i) - 1; y[i] = x[«j|max(j, 0)»];"),
    defect(Bounds, "threadgroup memory", "tl", "s[t] = x[i]; @ y[i] = s[«SIZE + t|t»];"),
    defect(Bounds, "a private array", "fs", "T a[4] = {T(1), T(2), T(3), T(4)}; y[i] = a[«t|t % 4»];"),
    defect(Bounds, "a vector behind the last", "go", "y[i] = ((const device vec<T, 4>*)x)[i / 4«+ 1|»].x;"),
    defect(Bounds, "an element of a vector", "dt", "vec<T, 4> v(x[i]); y[i] = v[«t|t % 4»];"),
    defect(Overflow, "an unsigned index below zero", "oh", "y[i] = x[«i - 1|max(i, 1u) - 1»];"),
    defect(Overflow, "a signed product", "gm", "int at = int(i) * «100000000|1»; y[i] = x[uint(at) % count];"),
    defect(Overflow, "a signed sum", "tl", "int at = «2147483600|0» + int(i); y[i] = x[uint(at) % count];"),
    defect(Overflow, "an unsigned product", "dr", "y[i] = x[i * «0x10000u * 0x10000u|1u»];"),
    defect(Overflow, "a shift", "of", "y[i] = x[i << «28 << 4|0»];"),
    defect(
        Overflow,
        "the distance of a pointer",
        "gh",
        "const device T* p = x + count; y[i] = «p[i - count]|p[int(i) - int(count)]»;",
    ),
    defect(Overflow, "a variable that becomes an index", "mt", "uint at = «i - 1|i»; y[i] = x[at];"),
    defect(Unset, "a private variable", "oh", "T v«| = 0»; v += x[i]; y[i] = v;"),
    defect(
        Unset,
        "a part of a private array",
        "gm",
        "T a[4]; for (int k = 0; k < «3|4»; ++k) a[k] = x[i]; y[i] = a[i % 4];",
    ),
    defect(Unset, "half of threadgroup memory", "dt", "if (t < «n / 2|n») s[t] = x[i]; @ y[i] = s[t];"),
    defect(Unset, "an output that is added to", "rf", "y[i] «+=|=» x[i];"),
    defect(Unset, "threadgroup memory", "ls", "«|s[t] = x[i];» y[i] = s[t];"),
    defect(Unset, "an element of a vector", "og", "vec<T, 4> v; v.x = x[i]; «|v.y = x[i];» y[i] = v.x + v.y;"),
    defect(Unset, "a variable that one branch sets", "th", "T v; if (x[i] «> T(5)|>= T(0)») v = x[i]; y[i] = v;"),
    defect(Unwritten, "a guard that is too narrow", "or", "if (i«+ 1|» < count) y[i] = x[i];"),
    defect(Unwritten, "every other element", "hg", "if (i % 2 == 0«|| true») y[i] = x[i];"),
    defect(Unwritten, "threads that return early", "md", "if («t == 0|false») return; y[i] = x[i];"),
    defect(Unwritten, "only the first lanes", "ls", "if («t % 32 == 0|true») y[i] = x[i];"),
    defect(
        Unwritten,
        "half of each vector",
        "tf",
        "if (i % 4 == 0) { vec<T, 4> v(x[i]); «((device vec<T, 2>*)y)[i / 2] = v.xy|((device vec<T, 4>*)y)[i / 4] = v»; }",
    ),
    defect(Unwritten, "a value that is left out", "og", "if (x[i] «!= T(7)|>= T(0)») y[i] = x[i];"),
    defect(Collective, "a barrier in a branch", "oh", "y[i] = x[i]; if (t < «5|n») @"),
    defect(Collective, "a return before a barrier", "gm", "y[i] = x[i]; if («t == 3|false») return; @"),
    defect(Collective, "a sum in a branch", "rd", "T v = 0; if (x[i] «> T(5)|>= T(0)») v = simd_sum(x[i]); y[i] = v;"),
    defect(
        Collective,
        "a barrier in each branch",
        "tf",
        "if (t < «n / 2|n») { y[i] = x[i]; @ } else { @ y[i] = x[i]; }",
    ),
    defect(
        Collective,
        "loops of different lengths",
        "ls",
        "T v = x[i]; for (uint k = 0; k < «t % 3|2»; ++k) v += simd_shuffle_xor(v, 1); y[i] = v;",
    ),
    defect(
        Collective,
        "a vote behind a condition",
        "og",
        "y[i] = «x[i] > T(3) &&|» simd_any(x[i] > T(3)) ? T(1) : T(0);",
    ),
    defect(
        Collective,
        "a simdgroup's barrier in a branch",
        "mh",
        "y[i] = x[i]; if (t % 32 < «10|32») simdgroup_barrier(mem_flags::mem_threadgroup);",
    ),
    defect(Misaligned, "a vector one element further", "oh", "y[i] = ((const device vec<T, 4>*)(x«+ 1|»))[i / 4].x;"),
    defect(
        Misaligned,
        "a pair at an odd place",
        "gm",
        "uint at = min(i, count - 2); y[i] = (*(const device vec<T, 2>*)(x + «at|(at & ~1u)»)).x;",
    ),
    defect(Misaligned, "a store", "dt", "if (i % 4 == 0) *(device vec<T, 2>*)(y + «i + 1|i») = vec<T, 2>(x[i]);"),
    defect(
        Misaligned,
        "threadgroup memory",
        "fl",
        "s[t] = x[i]; @ y[i] = (*(threadgroup vec<T, 2>*)(s + t / 2 * 2«+ 1|»)).x;",
    ),
    defect(Misaligned, "bytes", "rs", "y[i] = *(const device T*)((const device char*)x + «i + 1|i / 4 * 4»);"),
    defect(
        Misaligned,
        "a vector for a packed one",
        "oh",
        "y[i] = T((*(const device «float4|packed_float4»*)((const device float*)x + min(i, count - 4) / 2)).x);",
    ),
];
