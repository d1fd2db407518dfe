//! Broken kernels, one defect of memory each: every one must be found, named, and placed on its line, in three schedules; and
//! nothing else must be found.

#[allow(dead_code)]
mod table;

use cotangent_emulator::Dtype;
use cotangent_emulator::FindingKind::*;
use table::{defect, judge};

#[test]
fn data_races() {
    judge(&[
        defect(
            DataRace,
            "missing barrier",
            "uint i = thread_position_in_grid.x;
             threadgroup float s[64];
             s[i] = x[i];
             y[i] = s[63 - i]; //!",
        ),
        defect(
            DataRace,
            "one element for all threads, and none for the others",
            "uint i = thread_position_in_grid.y;
             y[i] = x[i]; //!",
        ),
        defect(
            DataRace,
            "missing second barrier in a loop",
            "uint i = thread_position_in_grid.x;
             threadgroup float s[64];
             float sum = 0;
             for (int step = 0; step < 3; ++step) {
                 s[i] = x[i] + step; //!
                 threadgroup_barrier(mem_flags::mem_threadgroup);
                 sum += s[63 - i]; //!
             }
             y[i] = sum;",
        ),
        defect(
            DataRace,
            "mem_device where mem_threadgroup is needed",
            "uint i = thread_position_in_grid.x;
             threadgroup float s[64];
             s[i] = x[i];
             threadgroup_barrier(mem_flags::mem_device);
             y[i] = s[63 - i]; //!",
        ),
        defect(
            DataRace,
            "mem_threadgroup where mem_device is needed",
            "uint i = thread_position_in_grid.x;
             y[i] = x[i];
             threadgroup_barrier(mem_flags::mem_threadgroup);
             float other = y[63 - i]; //!
             threadgroup_barrier(mem_flags::mem_device);
             y[i] = other;",
        ),
        defect(
            DataRace,
            "mem_none orders nothing",
            "uint i = thread_position_in_grid.x;
             threadgroup float s[64];
             s[i] = x[i];
             threadgroup_barrier(mem_flags::mem_none);
             y[i] = s[63 - i]; //!",
        ),
        defect(
            DataRace,
            "simdgroup barrier across two simdgroups",
            "uint i = thread_position_in_grid.x;
             threadgroup float s[64];
             s[i] = x[i];
             simdgroup_barrier(mem_flags::mem_threadgroup);
             y[i] = s[63 - i]; //!",
        ),
        defect(
            DataRace,
            "trusting lockstep within a simdgroup",
            "uint i = thread_position_in_grid.x;
             threadgroup float s[32];
             s[i] = x[i];
             y[i] = s[31 - i]; //!",
        )
        .threads(32, 32)
        .y(Dtype::F32, &[32]),
        defect(
            DataRace,
            "two threadgroups write one element",
            "uint i = thread_position_in_grid.x;
             y[i / 2] = x[i]; //!",
        )
        .threads(64, 1)
        .y(Dtype::F32, &[32]),
        defect(
            DataRace,
            "one threadgroup reads what another wrote",
            "uint g = threadgroup_position_in_grid.x;
             y[g] = x[g]; //!
             if (g == 1) z[0] = y[0]; //!
             if (g == 0) z[1] = y[1]; //!",
        )
        .threads(2, 1)
        .y(Dtype::F32, &[2])
        .init(0.0)
        .output("z", Dtype::F32, &[2]),
        defect(
            DataRace,
            "shared counter without atomics",
            "threadgroup int count[1];
             uint i = thread_position_in_grid.x;
             if (i == 0) count[0] = 0;
             threadgroup_barrier(mem_flags::mem_threadgroup);
             count[0] += 1; //!
             threadgroup_barrier(mem_flags::mem_threadgroup);
             y[i] = count[0];",
        ),
        defect(
            DataRace,
            "plain read of an atomic counter",
            "threadgroup atomic_int count[1];
             uint i = thread_position_in_grid.x;
             if (i == 0) atomic_store_explicit(&count[0], 0, memory_order_relaxed);
             threadgroup_barrier(mem_flags::mem_threadgroup);
             atomic_fetch_add_explicit(&count[0], 1, memory_order_relaxed); //!
             y[i] = float(*(threadgroup int*)count); //!",
        ),
        defect(
            DataRace,
            "plain store beside an atomic one",
            "uint i = thread_position_in_grid.x;
             if (i == 40) *(device float*)y = 1.0; //!
             else atomic_fetch_add_explicit(&y[0], 1.0f, memory_order_relaxed); //!",
        )
        .atomic()
        .init(0.0)
        .y(Dtype::F32, &[1]),
        defect(
            DataRace,
            "windows that overlap by one",
            "uint i = thread_position_in_grid.x;
             for (uint k = 0; k < 3; ++k) y[2 * i + k] = x[i]; //!",
        )
        .y(Dtype::F32, &[129]),
        defect(
            DataRace,
            "race through a wider pointer",
            "uint i = thread_position_in_grid.x;
             threadgroup float s[64];
             s[i] = x[i]; //!
             float4 v = ((threadgroup float4*)s)[i / 4]; //!
             y[i] = v.x + v.y + v.z + v.w;",
        ),
        defect(
            DataRace,
            "race on half elements",
            "uint i = thread_position_in_grid.x;
             threadgroup half s[64];
             s[i] = half(x[i]);
             y[i] = s[i ^ 1]; //!",
        ),
        defect(
            DataRace,
            "race in a helper",
            "uint i = thread_position_in_grid.x;
             threadgroup float s[64];
             s[i] = x[i];
             y[i] = neighbour(s, i);",
        )
        .header("inline float neighbour(threadgroup const float* s, uint i) {\n  return s[i ^ 32]; //!\n}"),
        defect(
            DataRace,
            "two simdgroups store one tile",
            "tile<float, 16, 16> t(1.0f);
             tile_store(t, y, 16); //!",
        )
        .y(Dtype::F32, &[16, 16]),
    ]);
}

#[test]
fn out_of_bounds() {
    judge(&[
        defect(
            OutOfBounds,
            "read past the end",
            "uint i = thread_position_in_grid.x;
             y[i] = x[i + 1]; //!",
        )
        .init(0.0),
        defect(
            OutOfBounds,
            "write past the end",
            "uint i = thread_position_in_grid.x;
             y[i] = x[i];
             if (i == 63) y[i + 1] = 0; //!",
        ),
        defect(
            OutOfBounds,
            "negative index",
            "int i = thread_position_in_grid.x;
             y[i] = x[i - 1]; //!",
        )
        .init(0.0),
        defect(
            OutOfBounds,
            "grid rounded up without a guard",
            "uint i = thread_position_in_grid.x;
             y[i] = 1; //!",
        )
        .threads(96, 32)
        .y(Dtype::F32, &[70]),
        defect(
            OutOfBounds,
            "read past a threadgroup array",
            "uint i = thread_position_in_grid.x;
             threadgroup float s[64];
             s[i] = x[i];
             threadgroup_barrier(mem_flags::mem_threadgroup);
             y[i] = s[i + 1]; //!",
        )
        .init(0.0),
        defect(
            OutOfBounds,
            "write past a threadgroup array into the next",
            "uint i = thread_position_in_grid.x;
             threadgroup float a[32], b[64];
             b[i] = 1;
             a[i] = x[i]; //!
             y[i] = b[i];",
        )
        .init(0.0),
        defect(
            OutOfBounds,
            "wider pointer past the end",
            "uint i = thread_position_in_grid.x;
             y[i] = ((device const float4*)x)[i / 4 + 1].w; //!",
        )
        .init(0.0),
        defect(
            OutOfBounds,
            "pointer far away",
            "uint i = thread_position_in_grid.x;
             y[i] = x[i + (1 << 28)]; //!",
        )
        .init(0.0),
        defect(
            OutOfBounds,
            "null pointer",
            "device float* p = nullptr;
             if (x[0] == 1) p = y;
             *p = 1; //!",
        )
        .init(0.0),
        defect(
            OutOfBounds,
            "write to an input",
            "uint i = thread_position_in_grid.x;
             const_cast<device float*>(x)[i] = 1; //!
             y[i] = x[i];",
        )
        .init(0.0),
        defect(
            OutOfBounds,
            "past a small input",
            "uint i = thread_position_in_grid.x;
             y[i] = w[i]; //!",
        )
        .init(0.0)
        .input("w", Dtype::F32, &[3], [1.0, 2.0, 3.0]),
        defect(
            OutOfBounds,
            "past a shape",
            "uint i = thread_position_in_grid.x;
             y[i] = x_shape[1]; //!",
        )
        .init(0.0),
        defect(
            OutOfBounds,
            "private array",
            "uint i = thread_position_in_grid.x;
             float a[4] = {1, 2, 3, 4};
             for (uint k = 0; k < 4; ++k) a[k] += x[i];
             y[i] = a[i]; //!",
        )
        .init(0.0),
        defect(
            OutOfBounds,
            "component of a vector",
            "uint i = thread_position_in_grid.x;
             float4 v(1, 2, 3, 4);
             y[i] = v[int(x[i])]; //!",
        )
        .init(0.0),
        defect(
            OutOfBounds,
            "constant table",
            "uint i = thread_position_in_grid.x;
             y[i] = table[i]; //!",
        )
        .init(0.0)
        .header("constant float table[4] = {1, 2, 3, 4};"),
        defect(
            OutOfBounds,
            "matrix load past the end",
            "simdgroup_matrix<float, 8, 8> m;
             simdgroup_load(m, x, 9); //!
             simdgroup_store(m, y, 8);",
        )
        .init(0.0)
        .threads(32, 32),
        defect(
            OutOfBounds,
            "struct copied past the end",
            "uint i = thread_position_in_grid.x;
             device const Triple* p = (device const Triple*)x;
             Triple t = p[i]; //!
             y[i] = t.a + t.b + t.c;",
        )
        .init(0.0)
        .header("struct Triple { float a, b, c; };"),
    ]);
}

#[test]
fn uninitialised_memory() {
    judge(&[
        defect(
            UninitialisedRead,
            "sum into an output without initial value",
            "uint i = thread_position_in_grid.x;
             y[i] += x[i]; //!",
        ),
        defect(
            UninitialisedRead,
            "atomic sum into an output without initial value",
            "atomic_fetch_add_explicit(&y[0], 1.0f, memory_order_relaxed); //!",
        )
        .atomic()
        .y(Dtype::F32, &[1]),
        defect(
            UninitialisedRead,
            "threadgroup memory never written",
            "uint i = thread_position_in_grid.x;
             threadgroup float s[64];
             y[i] = s[i]; //!",
        ),
        defect(
            UninitialisedRead,
            "threadgroup memory written by half the threads",
            "uint i = thread_position_in_grid.x;
             threadgroup float s[64];
             if (i < 32) s[i] = x[i];
             threadgroup_barrier(mem_flags::mem_threadgroup);
             y[i] = s[i]; //!",
        ),
        defect(
            UninitialisedRead,
            "threadgroup memory kept from the threadgroup before",
            "uint i = thread_position_in_grid.x;
             threadgroup float s[1];
             if (i == 0 || i == 63) s[0] = x[i];
             y[i] = s[0]; //!",
        )
        .threads(64, 1),
        defect(
            UninitialisedRead,
            "private variable never set",
            "uint i = thread_position_in_grid.x;
             float sum;
             sum += x[i]; //!
             y[i] = sum;",
        ),
        defect(
            UninitialisedRead,
            "private array set in part",
            "uint i = thread_position_in_grid.x;
             float a[4];
             for (int k = 0; k < 3; ++k) a[k] = x[i];
             y[i] = a[i % 4] + x[i]; //!",
        ),
        defect(
            UninitialisedRead,
            "half of an element",
            "uint i = thread_position_in_grid.x;
             threadgroup uint s[64];
             ((threadgroup ushort*)s)[2 * i] = 1;
             y[i] = s[i]; //!",
        ),
        defect(
            UninitialisedRead,
            "accumulator of a ragged row",
            "uint i = thread_position_in_grid.x;
             threadgroup float partial[2];
             float sum = simd_sum(x[i]);
             if (simdgroup_index_in_threadgroup == 0 && thread_index_in_simdgroup == 0) partial[0] = sum;
             threadgroup_barrier(mem_flags::mem_threadgroup);
             y[i] = partial[0] + partial[1]; //!",
        ),
    ]);
}

#[test]
fn unwritten_outputs() {
    judge(&[
        defect(
            UnwrittenOutput,
            "guard that cuts off the last element",
            "uint i = thread_position_in_grid.x;
             if (i < 63) y[i] = x[i];",
        ),
        defect(UnwrittenOutput, "grid too small", "uint i = thread_position_in_grid.x; y[i] = x[i];").threads(32, 32),
        defect(UnwrittenOutput, "every other element", "uint i = thread_position_in_grid.x; y[2 * i] = x[i];")
            .y(Dtype::F32, &[127]),
        defect(UnwrittenOutput, "second output forgotten", "uint i = thread_position_in_grid.x; y[i] = x[i];").output(
            "z",
            Dtype::F16,
            &[3],
        ),
        defect(
            UnwrittenOutput,
            "half of each element",
            "uint i = thread_position_in_grid.x;
             ((device ushort*)y)[2 * i] = 7;",
        )
        .y(Dtype::U32, &[64]),
    ]);
}
