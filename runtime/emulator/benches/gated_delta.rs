//! How many threads a second one core runs of a step-by-step gated delta rule: 64 steps, two simdgroup sums a step.

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

fn main() {
    let int = |n: usize| TemplateValue::Int(n as i32);
    let mut kernel = KernelText::new("gated_delta", BODY)
        .template("T", TemplateValue::Dtype(Dtype::F32))
        .template("STEPS", int(STEPS))
        .template("HEADS", int(HEADS))
        .template("KEY_DIM", int(KEY_DIM))
        .template("VALUE_DIM", int(VALUE_DIM))
        .template("ROWS", int(KEY_DIM / 32))
        .output("o", Dtype::F32);
    let mut inputs = Vec::new();
    for (name, shape) in [
        ("q", vec![STEPS, HEADS, KEY_DIM]),
        ("k", vec![STEPS, HEADS, KEY_DIM]),
        ("v", vec![STEPS, HEADS, VALUE_DIM]),
        ("g", vec![STEPS, HEADS]),
        ("beta", vec![STEPS, HEADS]),
    ] {
        kernel = kernel.input(name, Dtype::F32);
        let size: usize = shape.iter().product();
        inputs.push(Buffer::of(Dtype::F32, shape, (0..size).map(|i| (i as f64 * 0.37).sin() * 0.1)));
    }
    let emulator = Emulator::global().unwrap_or_else(|e| panic!("{e}"));
    for (checks, workers) in [(Checks::On, Some(1)), (Checks::Off, Some(1)), (Checks::On, None)] {
        let launch = Launch {
            grid: [32, VALUE_DIM as u32, HEADS as u32],
            threadgroup: [32, 4, 1],
            inputs: inputs.clone(),
            output_shapes: vec![vec![STEPS, HEADS, VALUE_DIM]],
            checks,
            workers,
            ..Launch::default()
        };
        let mut best = f64::INFINITY;
        for _ in 0..6 {
            let start = Instant::now();
            let run = emulator.run(&kernel, &launch).unwrap_or_else(|e| panic!("{e}"));
            assert!(run.is_clean(), "{:?}", run.findings);
            best = best.min(start.elapsed().as_secs_f64());
        }
        let threads = f64::from(launch.grid.iter().product::<u32>());
        let cores = workers.map_or("all cores".into(), |n| format!("{n} core"));
        println!("checks {checks:?}, {cores}: {:.0} threads/s", threads / best);
    }
}
