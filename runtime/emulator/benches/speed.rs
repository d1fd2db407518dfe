//! How many threads a second the emulator runs: of a step-by-step gated delta rule (64 steps, two simdgroup sums a step),
//! and of a product of matrices that pass through threadgroup memory (256 reads of it a thread). Takes kernel names.

use std::time::Instant;

use cotangent_emulator::{Buffer, Checks, Dtype, Emulator, KernelText, Launch, TemplateValue};

const STEPS: usize = 64;
const HEADS: usize = 4;
const KEY_DIM: usize = 128;
const VALUE_DIM: usize = 128;

/// A lane holds four rows of one column of the state. S' = g S + k (b (v - (g S)ᵀ k))ᵀ, o = S'ᵀ q.
const BODY: &str = "
    uint lane = thread_index_in_simdgroup;
    uint column = thread_position_in_grid.y;
    uint head = thread_position_in_grid.z;
    float s[ROWS];
    for (int r = 0; r < ROWS; ++r) s[r] = 0;
    for (int t = 0; t < STEPS; ++t) {
        const device T* qt = q + (t * HEADS + head) * KEY_DIM;
        const device T* kt = k + (t * HEADS + head) * KEY_DIM;
        float decay = g[t * HEADS + head];
        float seen = 0;
        for (int r = 0; r < ROWS; ++r) {
            s[r] *= decay;
            seen += s[r] * kt[ROWS * lane + r];
        }
        seen = simd_sum(seen);
        float delta = (v[(t * HEADS + head) * VALUE_DIM + column] - seen) * beta[t * HEADS + head];
        float out = 0;
        for (int r = 0; r < ROWS; ++r) {
            s[r] += kt[ROWS * lane + r] * delta;
            out += s[r] * qt[ROWS * lane + r];
        }
        out = simd_sum(out);
        if (lane == 0) o[(t * HEADS + head) * VALUE_DIM + column] = static_cast<T>(out);
    }";

fn gated_delta() -> (KernelText, Launch<'static>) {
    let int = |n: usize| TemplateValue::Int(n as i32);
    let mut kernel = KernelText::new("gated_delta", BODY)
        .template("T", TemplateValue::Dtype(Dtype::F32))
        .template("STEPS", int(STEPS))
        .template("HEADS", int(HEADS))
        .template("KEY_DIM", int(KEY_DIM))
        .template("VALUE_DIM", int(VALUE_DIM))
        .template("ROWS", int(KEY_DIM / 32))
        .output("o", Dtype::F32);
    let mut launch = Launch {
        grid: [32, VALUE_DIM as u32, HEADS as u32],
        threadgroup: [32, 4, 1],
        output_shapes: vec![vec![STEPS, HEADS, VALUE_DIM]],
        ..Launch::default()
    };
    for (name, shape) in [
        ("q", vec![STEPS, HEADS, KEY_DIM]),
        ("k", vec![STEPS, HEADS, KEY_DIM]),
        ("v", vec![STEPS, HEADS, VALUE_DIM]),
        ("g", vec![STEPS, HEADS]),
        ("beta", vec![STEPS, HEADS]),
    ] {
        kernel = kernel.input(name, Dtype::F32);
        launch.inputs.push(waves(shape));
    }
    (kernel, launch)
}

/// C = A B for 128 by 128 matrices, in blocks of 16 by 16 that pass through threadgroup memory.
const PRODUCT: &str = "
    uint row = thread_position_in_grid.y, column = thread_position_in_grid.x;
    uint r = thread_position_in_threadgroup.y, c = thread_position_in_threadgroup.x;
    threadgroup float a[16][16], b[16][16];
    float sum = 0;
    for (uint k = 0; k < 128; k += 16) {
        a[r][c] = left[row * 128 + k + c];
        b[r][c] = right[(k + r) * 128 + column];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint i = 0; i < 16; ++i) sum += a[r][i] * b[i][c];
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    product[row * 128 + column] = sum;";

fn product() -> (KernelText, Launch<'static>) {
    let kernel = KernelText::new("product", PRODUCT)
        .input("left", Dtype::F32)
        .input("right", Dtype::F32)
        .output("product", Dtype::F32);
    let launch = Launch {
        grid: [128, 128, 1],
        threadgroup: [16, 16, 1],
        inputs: vec![waves(vec![128, 128]), waves(vec![128, 128])],
        output_shapes: vec![vec![128, 128]],
        ..Launch::default()
    };
    (kernel, launch)
}

fn waves(shape: Vec<usize>) -> Buffer<'static> {
    let size: usize = shape.iter().product();
    Buffer::from_values(Dtype::F32, shape, (0..size).map(|i| (i as f64 * 0.37).sin() * 0.1))
}

/// Seconds that all threads of this process have computed so far, where the system tells: on a busy machine the only
/// figure that means something.
fn processor_time() -> Option<f64> {
    // Linux counts in ticks of a hundredth of a second, and writes the counts after the name in parentheses.
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let ticks: Vec<f64> = text.rsplit(')').next()?.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // The state, a letter, does not parse and is left out; user and system time are the eleventh and twelfth numbers.
    Some((ticks.get(10)? + ticks.get(11)?) / 100.0)
}

fn main() {
    let emulator = Emulator::global().unwrap_or_else(|e| panic!("{e}"));
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    for (kernel, launch) in [gated_delta(), product()] {
        if !wanted.is_empty() && !wanted.contains(&kernel.name) {
            continue;
        }
        for (checks, workers) in [(Checks::On, Some(1)), (Checks::Off, Some(1)), (Checks::On, None)] {
            let launch = Launch { checks, workers, ..launch.clone() };
            let threads = f64::from(launch.grid.iter().product::<u32>());
            let mut best = f64::INFINITY;
            let (mut runs, computed) = (0.0, processor_time());
            for _ in 0..8 {
                let start = Instant::now();
                let run = emulator.run(&kernel, &launch).unwrap_or_else(|e| panic!("{e}"));
                assert!(run.is_clean(), "{:?}", run.findings);
                best = best.min(start.elapsed().as_secs_f64());
                runs += 1.0;
            }
            let cores = workers.map_or("all cores".into(), |n| format!("{n} core"));
            print!("{}, checks {checks:?}, {cores}: {:.0} threads/s at best", kernel.name, threads / best);
            match (computed, processor_time()) {
                (Some(before), Some(now)) => {
                    println!(", {:.0} a second of processor time", threads * runs / (now - before))
                }
                _ => println!(),
            }
        }
    }
}
