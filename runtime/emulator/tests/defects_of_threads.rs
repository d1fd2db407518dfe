//! Broken kernels, one defect each of how threads meet, of arithmetic, or beyond a limit: every one must be found, named,
//! and placed on its line, in three schedules; and nothing else must be found.

#[allow(dead_code)]
mod table;

use cotangent_emulator::FindingKind::*;
use cotangent_emulator::{Dtype, TemplateValue};
use table::{defect, judge};

#[test]
fn divergent_barriers() {
    judge(&[
        defect(
            DivergentBarrier,
            "barrier in a branch",
            "uint i = thread_position_in_grid.x;
             y[i] = x[i];
             if (i < 40)
                 threadgroup_barrier(mem_flags::mem_threadgroup); //!",
        ),
        defect(
            DivergentBarrier,
            "return in front of a barrier",
            "uint i = thread_position_in_grid.x;
             y[i] = x[i];
             if (i == 5) return;
             threadgroup_barrier(mem_flags::mem_threadgroup); //!",
        ),
        defect(
            DivergentBarrier,
            "loop left at different times",
            "uint i = thread_position_in_grid.x;
             y[i] = x[i];
             for (uint k = 0; k <= simdgroup_index_in_threadgroup; ++k)
                 threadgroup_barrier(mem_flags::mem_threadgroup); //!",
        ),
        defect(
            DivergentBarrier,
            "a barrier in each branch",
            "uint i = thread_position_in_grid.x;
             if (i < 32) {
                 y[i] = x[i];
                 threadgroup_barrier(mem_flags::mem_device); //!
             } else {
                 threadgroup_barrier(mem_flags::mem_device); //!
                 y[i] = x[i];
             }",
        ),
    ]);
}

#[test]
fn divergent_simdgroup_operations() {
    judge(&[
        defect(
            DivergentSimd,
            "reduction in a branch",
            "uint i = thread_position_in_grid.x;
             float sum = 0;
             if (x[i] > 5)
                 sum = simd_sum(x[i]); //!
             y[i] = sum;",
        ),
        defect(
            DivergentSimd,
            "return in front of a reduction",
            "uint i = thread_position_in_grid.x;
             y[i] = 0;
             if (i >= 50) return;
             y[i] = simd_max(x[i]); //!",
        ),
        defect(
            DivergentSimd,
            "the same reduction in both branches",
            "uint i = thread_position_in_grid.x;
             float sum;
             if (i % 2) sum = simd_sum(x[i]); //!
             else sum = simd_sum(x[i]); //!
             y[i] = sum;",
        ),
        defect(
            DivergentSimd,
            "both branches on one line",
            "uint i = thread_position_in_grid.x;
             y[i] = i % 2 ? simd_sum(x[i]) : simd_sum(x[i]); //!",
        ),
        defect(
            DivergentSimd,
            "quadgroup reduction in a branch",
            "uint i = thread_position_in_grid.x;
             y[i] = 0;
             if (i % 4 != 3) y[i] = quad_sum(x[i]); //!",
        ),
        defect(
            DivergentSimd,
            "simdgroup barrier in a branch",
            "uint i = thread_position_in_grid.x;
             y[i] = x[i];
             if (i < 10) simdgroup_barrier(mem_flags::mem_threadgroup); //!",
        ),
        defect(
            DivergentSimd,
            "shuffles in a loop left at different times",
            "uint i = thread_position_in_grid.x;
             float v = x[i];
             for (uint k = 0; k < i % 3; ++k)
                 v += simd_shuffle_xor(v, 0); //!
             y[i] = v;",
        ),
        defect(
            DivergentSimd,
            "vote behind a vote's branch",
            "uint i = thread_position_in_grid.x;
             bool odd = i % 2;
             y[i] = odd && simd_any(odd) ? 1 : 0; //!",
        ),
        defect(
            DivergentSimd,
            "matrix product by half a simdgroup",
            "simdgroup_matrix<float, 8, 8> a, b, c;
             a = make_filled_simdgroup_matrix<float, 8, 8>(1.0f);
             b = a;
             c = a;
             if (thread_index_in_simdgroup < 16)
                 simdgroup_multiply_accumulate(c, a, b, c); //!
             simdgroup_store(c, y, 8);",
        )
        .threads(32, 32),
    ]);
}

#[test]
fn absent_lanes() {
    judge(&[
        defect(
            AbsentLane,
            "shuffle from beyond a ragged simdgroup",
            "uint i = thread_position_in_grid.x;
             float v = simd_shuffle(x[i], 31); //!
             y[i] = i < 32 ? v : 0;",
        )
        .threads(40, 40)
        .y(Dtype::F32, &[40]),
        defect(
            AbsentLane,
            "broadcast from lane 40",
            "uint i = thread_position_in_grid.x;
             float v = simd_broadcast(x[i], 40); //!
             y[i] = isnan(v) ? 0.0 : v;",
        ),
        defect(
            AbsentLane,
            "butterfly in a ragged simdgroup",
            "uint i = thread_position_in_grid.x;
             float v = simd_shuffle_xor(x[i], 16); //!
             y[i] = isnan(v) ? 0.0 : v;",
        )
        .threads(20, 20)
        .y(Dtype::F32, &[20]),
        defect(
            AbsentLane,
            "quad_shuffle from lane 5",
            "uint i = thread_position_in_grid.x;
             float v = quad_shuffle(x[i], 5); //!
             y[i] = isnan(v) ? 0.0 : v;",
        ),
    ]);
}

#[test]
fn the_first_nan() {
    judge(&[
        defect(
            NanBorn,
            "zero by zero",
            "uint i = thread_position_in_grid.x;
             float v = x[i] / x[i];
             y[i] = v; //!",
        ),
        defect(
            NanBorn,
            "logarithm of a negative number",
            "uint i = thread_position_in_grid.x;
             threadgroup float s[64];
             s[i] = log(x[i] - 10); //!
             y[i] = s[i];",
        ),
        defect(
            NanBorn,
            "softmax of a row that is masked out",
            "uint i = thread_position_in_grid.x;
             float v = -INFINITY;
             float top = simd_max(v);
             float e = exp(v - top);
             y[i] = e / simd_sum(e); //!",
        ),
        defect(
            NanBorn,
            "NaN in bfloat",
            "uint i = thread_position_in_grid.x;
             y[i] = static_cast<bfloat>(sqrt(-1.0 - x[i])); //!",
        )
        .y(Dtype::BF16, &[64]),
    ]);
}

#[test]
fn arithmetic_and_progress() {
    judge(&[
        defect(
            UndefinedArithmetic,
            "integer division by zero",
            "uint i = thread_position_in_grid.x;
             int by = int(x[i]);
             y[i] = 7 / by; //!",
        )
        .init(0.0),
        defect(
            UndefinedArithmetic,
            "remainder by zero",
            "uint i = thread_position_in_grid.x;
             uint by = uint(x[i]) & 1u;
             y[i] = i % by; //!",
        )
        .init(0.0),
        defect(
            NoProgress,
            "spinning on a plain flag",
            "threadgroup volatile int flag[1];
             uint i = thread_position_in_grid.x;
             if (i == 0) flag[0] = 0;
             threadgroup_barrier(mem_flags::mem_threadgroup);
             while (flag[0] == 0) {} //!
             y[i] = x[i];",
        )
        .init(0.0)
        .threads(2, 2),
        defect(
            NoProgress,
            "spinning on a flag",
            "threadgroup atomic_int flag[1];
             uint i = thread_position_in_grid.x;
             if (i == 0) atomic_store_explicit(&flag[0], 0, memory_order_relaxed);
             threadgroup_barrier(mem_flags::mem_threadgroup);
             if (i == 32) {
                 threadgroup_barrier(mem_flags::mem_threadgroup);
                 atomic_store_explicit(&flag[0], 1, memory_order_relaxed);
             }
             while (atomic_load_explicit(&flag[0], memory_order_relaxed) == 0) {} //!
             y[i] = x[i];",
        )
        .init(0.0),
    ]);
}

/// Threads that wait at one line, and came there by different calls of a helper.
#[test]
fn meetings_through_different_calls() {
    let total = "inline float total(float v) {\n  return simd_sum(v); //!\n}";
    let twice = "inline float total(float v) {\n  return simd_sum(v); //!\n}\ninline float twice(float v) { return 2 * total(v); }";
    let of_row = "struct Row { float first; float total(float v) {\n  return first + simd_sum(v); //!\n} };";
    let in_macro = "#define TOTAL(v) (2 * simd_sum(v)) //!\n";
    let everyone = "inline void everyone() {\n  threadgroup_barrier(mem_flags::mem_device); //!\n}";
    let body = "uint i = thread_position_in_grid.x; float sum = 0; ";
    let case =
        |kind, name, header: &str, arms: &str| defect(kind, name, &format!("{body}{arms} y[i] = sum;")).header(header);
    judge(&[
        case(DivergentSimd, "a sum", total, "if (i % 2) sum = total(x[i]); else sum = 1 + total(x[i]);"),
        case(
            DivergentSimd,
            "a sum behind two calls",
            twice,
            "if (i % 2) sum = twice(x[i]); else sum = 1 + twice(x[i]);",
        ),
        case(DivergentSimd, "arms of ?:", total, "sum = i % 2 ? total(x[i]) : total(2 * x[i]);"),
        case(
            DivergentSimd,
            "a method",
            of_row,
            "Row r{1}; if (i % 2) sum = r.total(x[i]); else sum = 1 + r.total(x[i]);",
        ),
        case(DivergentSimd, "a macro", in_macro, "if (i % 2) sum = TOTAL(x[i]); else sum = 1 + TOTAL(x[i]);"),
        case(
            DivergentBarrier,
            "a barrier",
            everyone,
            "if (i < 32) { sum = 1; everyone(); } else { everyone(); sum = 2; }",
        ),
        case(
            DivergentSimd,
            "a template",
            &total.replace("inline float total(float", "template <typename T, int N> T total(T"),
            "if (i % 2) sum = total<float, 2>(x[i]); else sum = 1 + total<float, 2>(x[i]);",
        ),
    ]);
}

#[test]
fn limits() {
    let many = (0..32).fold(defect(Limit, "32 buffers", "y[thread_position_in_grid.x] = x[0];"), |case, i| {
        case.input(&format!("n{i}"), Dtype::F32, &[1], [0.0])
    });
    judge(&[
        defect(Limit, "2048 threads", "y[thread_position_in_grid.x] = 0;").threads(4096, 2048),
        defect(
            Limit,
            "more threadgroup memory than there is",
            "uint i = thread_position_in_grid.x;
             threadgroup T s[SIZE];
             s[i] = x[i];
             y[i] = s[i];",
        )
        .template("T", TemplateValue::Dtype(Dtype::F32))
        .template("SIZE", TemplateValue::Int(8193)),
        many,
    ]);
}
