//! One layer of the gated delta rule at full size: medians, peak memory, and how far kernel and operations are apart.
//!
//! On a CPU, rows of 256 to 4096 tokens, or as many as an argument says, with 16 key and 32 value heads of 128; on a GPU, 8192
//! tokens with 16 heads of 128. `heads` measures the rule with a gate for each head, `channels` that with one for each channel
//! of the keys, `chunk=16` chunks of another length; without either word, heads first and then channels.
//!
//! Where the backend has kernels, they are measured beside the operations that are their fallback; a CPU goes token by token
//! too, which only `steps` asks for, as it takes 8 MB a token. What is evaluated last can be distinguished, as nothing is
//! computed that is not asked for: the final state needs no outputs, and its gradient no gradients of tokens.

use std::fmt;
use std::time::{Duration, Instant};

use cotangent::random::Key;
use cotangent::{
    Backend, Dtype, Graph, Infer, Result, Session, Stored, Tensor, Train, Trainable, memory, value_and_grad,
};
use cotangent_kernels::delta_rule::{GatedDeltaInOperationsInputs, gated_delta_in_operations};
use cotangent_kernels::{
    GatedDeltaByChannelInputs, GatedDeltaByChannelStepInputs, GatedDeltaInputs, GatedDeltaStepInputs, chunk_length,
    gated_delta, gated_delta_by_channel, gated_delta_by_channel_steps, gated_delta_steps, l2norm,
};

/// Batch, tokens, key heads, value heads, head dimension.
type Sizes = [i32; 5];
type Inputs<M> = Vec<Tensor<M>>;

/// Runs of each measurement, after one that is not counted.
const RUNS: usize = 5;

/// The part of the model that has a gate: each head, or each channel of its keys.
#[derive(Clone, Copy, PartialEq)]
enum Gates {
    Heads,
    Channels,
}

#[derive(Clone, Copy)]
enum Form {
    Kernel,
    /// The kernel's fallback, with chunks of this number of tokens.
    Operations(usize),
    Steps,
}

#[derive(Clone, Copy)]
struct Way {
    gates: Gates,
    form: Form,
    /// Whether only the final state is computed, and not `y`.
    only_state: bool,
}

fn draw([batch, time, key_heads, value_heads, dim]: Sizes, dtype: Dtype, gates: Gates) -> Result<Inputs<Stored>> {
    let (first, second) = Key::new(1)?.split()?;
    let (third, fourth) = second.split()?;
    let of_keys = [batch, time, key_heads, dim];
    let of_heads = [batch, time, value_heads];
    let of_channels = [batch, time, value_heads, dim];
    let raw = vec![
        first.normal(&of_keys)?,
        second.normal(&of_keys)?,
        third.normal(&[batch, time, value_heads, dim])?,
        first.uniform(-1.0, 0.0, if gates == Gates::Heads { &of_heads[..] } else { &of_channels[..] })?,
        second.uniform(0.0, 1.0, &of_heads)?,
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

/// `y` and the final state.
fn rule<M: Graph>(inputs: &Inputs<M>, way: &Way) -> Result<[Tensor<M>; 2]> {
    let [queries, keys, values, log_decay, beta, state] = inputs.as_slice() else { panic!("six inputs") };
    match (way.gates, way.form) {
        (Gates::Heads, Form::Kernel) => {
            let chunk = chunk_length(cotangent::backend()?);
            let outputs =
                gated_delta(GatedDeltaInputs { queries, keys, values, log_decay, beta, initial_state: state, chunk })?;
            Ok([outputs.y, outputs.final_state])
        }
        (gates, Form::Operations(chunk)) => {
            let log_decay = if gates == Gates::Heads { log_decay.expand_dims(3)? } else { log_decay.clone() };
            let outputs = gated_delta_in_operations(GatedDeltaInOperationsInputs {
                queries,
                keys,
                values,
                log_decay: &log_decay,
                beta,
                initial_state: state,
                chunk,
            })?;
            Ok([outputs.y, outputs.final_state])
        }
        (Gates::Heads, Form::Steps) => {
            let outputs = gated_delta_steps(GatedDeltaStepInputs { queries, keys, values, log_decay, beta, state })?;
            Ok([outputs.y, outputs.final_state])
        }
        (Gates::Channels, Form::Kernel) => {
            let chunk = chunk_length(cotangent::backend()?);
            let outputs = gated_delta_by_channel(GatedDeltaByChannelInputs {
                queries,
                keys,
                values,
                log_decay,
                beta,
                initial_state: state,
                chunk,
            })?;
            Ok([outputs.y, outputs.final_state])
        }
        (Gates::Channels, Form::Steps) => {
            let outputs = gated_delta_by_channel_steps(GatedDeltaByChannelStepInputs {
                queries,
                keys,
                values,
                log_decay,
                beta,
                state,
            })?;
            Ok([outputs.y, outputs.final_state])
        }
    }
}

/// Something cheap whose cotangents are neither zero nor constant.
fn loss(inputs: &Inputs<Train>, way: &Way) -> Result<Tensor<Train>> {
    let [y, state] = rule(inputs, way)?;
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

fn forward(session: &mut Session, inputs: &Inputs<Stored>, way: Way) -> Result<Inputs<Stored>> {
    session.infer(inputs, &inputs[..0].to_vec(), &way, |inputs, _, way| {
        let [y, state] = rule(inputs, way)?;
        Ok(if way.only_state { vec![state] } else { vec![y, state] })
    })
}

fn gradients(session: &mut Session, inputs: &Inputs<Stored>, way: Way) -> Result<Vec<Tensor<Stored>>> {
    let trainable = Trainable::new(inputs, |name| !way.only_state || name == "5")?;
    let (_, gradients) = value_and_grad(session, inputs, &trainable, &way, loss)?;
    Ok((0..inputs.len()).filter_map(|index| gradients.get(&index.to_string()).cloned()).collect())
}

/// The largest difference over the largest magnitude.
fn deviation(found: &Tensor<Stored>, expected: &Tensor<Stored>) -> Result<f32> {
    let (found, expected) = (found.cast(Dtype::F32)?.to_vec::<f32>()?, expected.cast(Dtype::F32)?.to_vec::<f32>()?);
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let worst = found.iter().zip(&expected).map(|(found, expected)| (found - expected).abs());
    Ok(worst.fold(0.0, |worst, difference| if difference <= worst { worst } else { difference }) / largest)
}

fn compare(session: &mut Session, inputs: &Inputs<Stored>, gates: Gates, chunk: usize) -> Result<String> {
    let mut line = String::new();
    let names = ["y", "state", "dq", "dk", "dv", "dlog_decay", "dbeta", "dstate"];
    let all = |session: &mut Session, form| -> Result<Vec<Tensor<Stored>>> {
        let way = Way { gates, form, only_state: false };
        let mut all = forward(session, inputs, way)?;
        all.extend(gradients(session, inputs, way)?);
        Ok(all)
    };
    let (found, expected) = (all(session, Form::Kernel)?, all(session, Form::Operations(chunk))?);
    for ((name, found), expected) in names.iter().zip(&found).zip(&expected) {
        line += &format!("{name} {:.1e}  ", deviation(found, expected)?);
    }
    Ok(line)
}

/// The measurements that the arguments ask for.
struct Asked {
    tokens: Vec<i32>,
    gates: Vec<Gates>,
    chunk: Option<usize>,
    steps: bool,
}

impl Asked {
    fn new(arguments: impl Iterator<Item = String>) -> Self {
        let mut asked = Asked { tokens: Vec::new(), gates: Vec::new(), chunk: None, steps: false };
        for argument in arguments {
            match argument.as_str() {
                "heads" => asked.gates.push(Gates::Heads),
                "channels" => asked.gates.push(Gates::Channels),
                "steps" => asked.steps = true,
                other => match other.strip_prefix("chunk=") {
                    Some(chunk) => asked.chunk = Some(chunk.parse().expect("tokens of a chunk")),
                    None => asked.tokens.extend(other.parse::<i32>()),
                },
            }
        }
        if asked.gates.is_empty() {
            asked.gates = vec![Gates::Heads, Gates::Channels];
        }
        asked
    }
}

fn main() -> Result<()> {
    cotangent::enter();
    let mut session = Session::new()?;
    let asked = Asked::new(std::env::args().skip(1));
    println!("backend {}; median and fastest of {RUNS} runs, peak memory beyond the inputs", session.backend());
    for &gates in &asked.gates {
        measure_gates(&mut session, &asked, gates)?;
    }
    Ok(())
}

fn measure_gates(session: &mut Session, asked: &Asked, gates: Gates) -> Result<()> {
    let backend = session.backend();
    let chunk = asked.chunk.unwrap_or_else(|| chunk_length(backend));
    let operations = Form::Operations(chunk);
    let (layers, forms): (Vec<(Sizes, Dtype)>, Vec<Form>) = match backend {
        Backend::Cpu => {
            let tokens = if asked.tokens.is_empty() { vec![256, 512, 1024, 2048, 4096] } else { asked.tokens.clone() };
            let layers = tokens.into_iter().map(|time| ([1, time, 16, 32, 128], Dtype::F32));
            (layers.collect(), if asked.steps { vec![operations, Form::Steps] } else { vec![operations] })
        }
        Backend::Emulated => {
            (vec![([1, 40, 1, 2, 32], Dtype::F32), ([1, 40, 1, 2, 32], Dtype::BF16)], vec![Form::Kernel])
        }
        Backend::Metal | Backend::Cuda => {
            let tokens = [[4, 2048, 16, 16, 128], [1, 8192, 16, 16, 128]];
            let layers = tokens.into_iter().flat_map(|sizes| [(sizes, Dtype::BF16), (sizes, Dtype::F32)]);
            (layers.collect(), vec![Form::Kernel, operations])
        }
    };
    let of_whom = if gates == Gates::Heads { "gates of heads" } else { "gates of channels" };
    if backend != Backend::Cpu {
        for (sizes, dtype) in
            [([2, 100, 2, 4, 40], Dtype::F32), ([1, 512, 2, 2, 128], Dtype::F32), ([1, 512, 2, 2, 128], Dtype::BF16)]
        {
            let inputs = draw(if backend == Backend::Emulated { [1, 40, 1, 2, 32] } else { sizes }, dtype, gates)?;
            let deviations = compare(session, &inputs, gates, chunk)?;
            println!("{of_whom}, kernel against operations, {sizes:?} {dtype}: {deviations}");
        }
    }
    for (sizes, dtype) in layers {
        let inputs = draw(sizes, dtype, gates)?;
        for &form in &forms {
            let named = match form {
                Form::Kernel => "kernel".into(),
                Form::Operations(chunk) => format!("operations, chunks of {chunk}"),
                Form::Steps => "token by token".into(),
            };
            println!("{of_whom}, {sizes:?} {dtype}, {named}:");
            for only_state in [true, false] {
                let what = if only_state { "final state alone" } else { "forward" };
                let way = Way { gates, form, only_state };
                println!("  {}  {what}", measure(|| forward(session, &inputs, way).map(drop))?);
            }
            for only_state in [true, false] {
                let what = if only_state { "forward, gradient of the state alone" } else { "forward and backward" };
                let way = Way { gates, form, only_state };
                println!("  {}  {what}", measure(|| gradients(session, &inputs, way).map(drop))?);
            }
        }
    }
    Ok(())
}
