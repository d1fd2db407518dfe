//! One layer of the gated delta rule at full size: medians, peak memory, and how far kernel and operations are apart.
//!
//! On a CPU, rows of 256 to 4096 tokens, or as many as an argument says, with 16 key and 32 value heads of 128; on a GPU, 8192 tokens with 16 heads of 128.
//! Where the backend has kernels, they are measured beside the operations that are their fallback. What is evaluated last
//! can be told apart, as nothing is computed that nobody asks for: the final state needs no outputs, and its gradient no
//! gradients of tokens.

use std::fmt;
use std::time::{Duration, Instant};

use cotangent::random::Key;
use cotangent::{
    Backend, Dtype, Graph, Infer, Result, Session, Stored, Tensor, Train, Trainable, memory, value_and_grad,
};
use cotangent_kernels::delta_rule::gated_delta_in_operations;
use cotangent_kernels::{chunk_length, gated_delta, l2norm};

/// Batch, tokens, key heads, value heads, head dimension.
type Sizes = [i32; 5];
type Inputs<M> = Vec<Tensor<M>>;

/// Runs of each measurement, after one that is not counted.
const RUNS: usize = 5;

fn draw([batch, time, key_heads, value_heads, dim]: Sizes, dtype: Dtype) -> Result<Inputs<Stored>> {
    let (first, second) = Key::new(1)?.split()?;
    let (third, fourth) = second.split()?;
    let of_keys = [batch, time, key_heads, dim];
    let of_gates = [batch, time, value_heads];
    let raw = vec![
        first.normal(&of_keys)?,
        second.normal(&of_keys)?,
        third.normal(&[batch, time, value_heads, dim])?,
        first.uniform(-1.0, 0.0, &of_gates)?,
        second.uniform(0.0, 1.0, &of_gates)?,
        fourth.normal(&[batch, value_heads, dim, dim])?,
    ];
    Session::new()?.infer(&raw, &raw[..0].to_vec(), &dtype, |raw: &Inputs<Infer>, _, dtype| {
        let mut inputs = raw.clone();
        inputs[0] = l2norm(&raw[0], (raw[0].dimension(-1) as f32).powf(-0.5), 1e-6)?.cast(*dtype)?;
        inputs[1] = l2norm(&raw[1], 1.0, 1e-6)?.cast(*dtype)?;
        inputs[2] = raw[2].cast(*dtype)?;
        Ok(inputs)
    })
}

/// The kernel, or its fallback: `y` and the final state.
fn rule<M: Graph>(inputs: &Inputs<M>, in_operations: bool) -> Result<[Tensor<M>; 2]> {
    let [queries, keys, values, log_decay, beta, state] = inputs.as_slice() else { panic!("six inputs") };
    let chunk = chunk_length(cotangent::backend()?);
    if in_operations {
        let outputs = gated_delta_in_operations(queries, keys, values, log_decay, beta, state, chunk)?;
        Ok([outputs.y, outputs.final_state])
    } else {
        let outputs = gated_delta(queries, keys, values, log_decay, beta, state, chunk)?;
        Ok([outputs.y, outputs.final_state])
    }
}

/// Something cheap whose cotangents are neither zero nor constant.
fn loss(inputs: &Inputs<Train>, in_operations: &bool) -> Result<Tensor<Train>> {
    let [y, state] = rule(inputs, *in_operations)?;
    y.cast(Dtype::F32)?.square()?.sum_all()?.add(&state.square()?.sum_all()?)
}

struct Measured {
    median: Duration,
    fastest: Duration,
    peak: usize,
}

impl fmt::Display for Measured {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, fastest] = [self.median, self.fastest].map(|time| time.as_secs_f64() * 1e3);
        write!(formatter, "{median:9.3} ms  {fastest:9.3} ms  {:6} MB", self.peak >> 20)
    }
}

fn measure(mut run: impl FnMut() -> Result<()>) -> Result<Measured> {
    run()?;
    memory::reset_peak()?;
    let before = memory::active()?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(Measured { median: times[RUNS / 2], fastest: times[0], peak: memory::peak()?.saturating_sub(before) })
}

fn forward(session: &mut Session, inputs: &Inputs<Stored>, way: (bool, bool)) -> Result<Inputs<Stored>> {
    session.infer(inputs, &inputs[..0].to_vec(), &way, |inputs, _, (in_operations, only_state)| {
        let [y, state] = rule(inputs, *in_operations)?;
        Ok(if *only_state { vec![state] } else { vec![y, state] })
    })
}

fn gradients(
    session: &mut Session,
    inputs: &Inputs<Stored>,
    in_operations: bool,
    only_state: bool,
) -> Result<Vec<Tensor<Stored>>> {
    let trainable = Trainable::of(inputs, |name| !only_state || name == "5")?;
    let (_, gradients) = value_and_grad(session, inputs, &trainable, &in_operations, loss)?;
    Ok((0..inputs.len()).filter_map(|index| gradients.get(&index.to_string()).cloned()).collect())
}

/// The largest difference over the largest magnitude.
fn deviation(found: &Tensor<Stored>, expected: &Tensor<Stored>) -> Result<f32> {
    let (found, expected) = (found.cast(Dtype::F32)?.to_vec::<f32>()?, expected.cast(Dtype::F32)?.to_vec::<f32>()?);
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let worst = found.iter().zip(&expected).map(|(found, expected)| (found - expected).abs());
    Ok(worst.fold(0.0, |worst, difference| if difference <= worst { worst } else { difference }) / largest)
}

fn compare(session: &mut Session, inputs: &Inputs<Stored>) -> Result<String> {
    let mut line = String::new();
    let names = ["y", "state", "dq", "dk", "dv", "dlog_decay", "dbeta", "dstate"];
    let all = |session: &mut Session, in_operations| -> Result<Vec<Tensor<Stored>>> {
        let mut all = forward(session, inputs, (in_operations, false))?;
        all.extend(gradients(session, inputs, in_operations, false)?);
        Ok(all)
    };
    let (found, expected) = (all(session, false)?, all(session, true)?);
    for ((name, found), expected) in names.iter().zip(&found).zip(&expected) {
        line += &format!("{name} {:.1e}  ", deviation(found, expected)?);
    }
    Ok(line)
}

fn main() -> Result<()> {
    cotangent::enter();
    let mut session = Session::new()?;
    let backend = session.backend();
    let (layers, ways): (Vec<(Sizes, Dtype)>, &[bool]) = match backend {
        Backend::Cpu => {
            let asked: Vec<i32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
            let tokens = if asked.is_empty() { vec![256, 512, 1024, 2048, 4096] } else { asked };
            (tokens.into_iter().map(|time| ([1, time, 16, 32, 128], Dtype::F32)).collect(), &[true])
        }
        Backend::Emulated => (vec![([1, 40, 1, 2, 32], Dtype::F32), ([1, 40, 1, 2, 32], Dtype::BF16)], &[false]),
        Backend::Metal | Backend::Cuda => {
            let tokens = [[4, 2048, 16, 16, 128], [1, 8192, 16, 16, 128]];
            (tokens.into_iter().flat_map(|sizes| [(sizes, Dtype::BF16), (sizes, Dtype::F32)]).collect(), &[false, true])
        }
    };
    println!("backend {backend}; median and fastest of {RUNS} runs, peak memory beyond the inputs");
    if backend != Backend::Cpu {
        for (sizes, dtype) in
            [([2, 100, 2, 4, 40], Dtype::F32), ([1, 512, 2, 2, 128], Dtype::F32), ([1, 512, 2, 2, 128], Dtype::BF16)]
        {
            let inputs = draw(if backend == Backend::Emulated { [1, 40, 1, 2, 32] } else { sizes }, dtype)?;
            println!("kernel against operations, {sizes:?} {dtype}: {}", compare(&mut session, &inputs)?);
        }
    }
    for (sizes, dtype) in layers {
        let inputs = draw(sizes, dtype)?;
        for &in_operations in ways {
            let way = if in_operations { "operations" } else { "kernel" };
            println!("{sizes:?} {dtype}, {way}:");
            for only_state in [true, false] {
                let what = if only_state { "final state alone" } else { "forward" };
                let found = measure(|| forward(&mut session, &inputs, (in_operations, only_state)).map(drop))?;
                println!("  {found}  {what}");
            }
            for only_state in [true, false] {
                let what = if only_state { "forward, gradient of the state alone" } else { "forward and backward" };
                let found = measure(|| gradients(&mut session, &inputs, in_operations, only_state).map(drop))?;
                println!("  {found}  {what}");
            }
        }
    }
    Ok(())
}
