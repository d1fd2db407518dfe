//! Loops that do not end, spin locks among them: each is found on its line, in every schedule, in little time. Loops that
//! do end are left alone.

#[allow(dead_code)]
mod table;

use std::time::{Duration, Instant};

use cotangent_emulator::FindingKind::*;
use table::{defect, judge, sound};

#[test]
fn loops_that_never_end() {
    let start = Instant::now();
    judge(&[
        defect(
            NoProgress,
            "a condition that always holds",
            "int k = 0;
             while (k >= 0) { k = (k + 1) & 1023; } //!
             y[thread_position_in_grid.x] = k;",
        ),
        defect(NoProgress, "nothing in it", "for (;;) {} //!\n y[thread_position_in_grid.x] = 1;"),
        defect(
            NoProgress,
            "do, with a step of nothing",
            "uint i = 0;
             float sum = 0;
             do { sum += x[i & 63]; i += 0; } while (i < 64); //!
             y[thread_position_in_grid.x] = sum;",
        ),
        defect(
            NoProgress,
            "an unsigned counter that goes down to zero",
            "float sum = 0;
             for (uint k = 8; k >= 0; --k) sum += x[k & 7]; //!
             y[thread_position_in_grid.x] = sum;",
        ),
        defect(
            NoProgress,
            "one of two loops, the inner one, in one thread alone",
            "uint i = thread_position_in_grid.x;
             float sum = 0;
             for (uint j = 0; j < 4; ++j)
                 for (uint k = i; k < 64; k += (i == 5 ? 0 : 1)) sum += x[k]; //!
             y[i] = sum;",
        ),
        defect(
            NoProgress,
            "a barrier in each turn",
            "uint i = thread_position_in_grid.x, k = 0;
             threadgroup float s[64];
             s[i] = x[i];
             while (k < 10) { //!
                 threadgroup_barrier(mem_flags::mem_threadgroup);
                 k = (k + 1) % 10;
             }
             y[i] = s[63 - i];",
        ),
        defect(
            NoProgress,
            "a sum over lanes in each turn",
            "float sum = 1;
             while (sum != 0) sum = simd_sum(1.0f); //!
             y[thread_position_in_grid.x] = sum;",
        ),
        defect(NoProgress, "in a helper", "y[thread_position_in_grid.x] = halvings(x[0] - 1);").header(
            "inline int halvings(float v) {
                int n = 0;
                while (v != 0) { v = v < 0 ? -1.0f : v / 2; ++n; } //!
                return n;
            }",
        ),
        defect(NoProgress, "in a macro", "uint i = thread_position_in_grid.x; AGAIN(i) y[i] = 1;\n")
            .header("#define AGAIN(i) while (i < 99) {}"),
    ]);
    assert!(start.elapsed() < Duration::from_secs(30), "it took {:?}", start.elapsed());
}

#[test]
fn loops_that_end() {
    judge(&[
        sound(
            "many turns",
            "uint i = thread_position_in_grid.x;
             float sum = 0;
             for (int n = 0; n < 100000; ++n) if ((n & 63) == int(i)) sum += 1;
             y[i] = sum;",
        )
        .threads(2, 2)
        .y(cotangent_emulator::Dtype::F32, &[2])
        .gives([1563.0, 1563.0]),
        sound(
            "every form of loop, empty parts and declarations among them",
            "uint i = thread_position_in_grid.x;
             int n = 0, m = 3;
             for (;;) { if (++n > 3) break; }
             for (int k = 0, j = 4; k < j; ++k, --j) n += k;
             while (m) m -= 1;
             do { n += 1; if (n & 1) continue; } while (n < 10);
             while (int left = 12 - n) { n += left > 0 ? 1 : -1; }
             y[i] = n;",
        )
        .gives([12.0; 64]),
        sound(
            "a loop of compare and exchange that tries again",
            "uint i = thread_position_in_grid.x;
             float old = atomic_load_explicit(&y[0], memory_order_relaxed);
             while (!atomic_compare_exchange_weak_explicit(&y[0], &old, max(old, x[i]), memory_order_relaxed,
                                                            memory_order_relaxed)) {}",
        )
        .y(cotangent_emulator::Dtype::F32, &[1])
        .atomic()
        .init(0.0)
        .gives([63.0]),
    ]);
}
