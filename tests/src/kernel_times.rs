//! Times the smaller kernels at the sizes of Qwen3.5-0.8B, each beside its fallback.

use std::fmt::Write as _;
use std::time::Instant;

use cotangent::kernel::{Preference, with_preference};
use cotangent::random::Key;
use cotangent::{
    Backend, Dtype, Graph, Indices, Infer, Result, Session, Stored, Tensor, Train, Trainable, value_and_grad,
};
use cotangent_kernels::{
    AxisChoice, Frequencies, Pairing, RotaryLayout, TableLayout, adapted_linear, attention_gate, causal_conv_silu,
    gates, l2norm, rms_norm_gated, rms_norm_zero_centred, rotary, swiglu, verify_linear, verify_quantised_linear,
    verify_switch_linear,
};

/// Measured runs, after one that is not counted.
const RUNS: usize = 10;

/// Calls in one run, so that waiting for the device does not count.
const CALLS: usize = 8;

const EPSILON: f32 = 1e-6;

/// The sizes of all inputs.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    rows: i32,
    tokens: i32,
    /// Divides the widths of the model.
    shrunk: i32,
}

impl Sizes {
    fn new(backend: Backend) -> Self {
        match backend {
            Backend::Metal | Backend::Cuda => Sizes { rows: 4, tokens: 2048, shrunk: 1 },
            Backend::Cpu => Sizes { rows: 1, tokens: 256, shrunk: 1 },
            Backend::Emulated => Sizes { rows: 1, tokens: 5, shrunk: 16 },
        }
    }
}

/// A function of tensors: one kernel as a model calls it.
#[derive(Clone)]
enum Call {
    /// The cotangent alone: what the measurement itself costs.
    Nothing,
    RmsNorm,
    RmsNormOfSlice,
    RmsNormGated,
    Swiglu,
    AttentionGate,
    L2NormOfSlice,
    Gates,
    CausalConv,
    MRope(Frequencies, Indices),
    Rotary(RotaryLayout),
    AdaptedLinear,
    /// The layer as it would be written without the kernel.
    LinearAndAdapter,
    VerifyLinear,
    VerifySwitch(Indices),
    VerifyQuantised(Indices),
}

impl Call {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Tensor<M>> {
        let half = |wide: &Tensor<M>| wide.slice(-1, 0, wide.dimension(-1) / 2);
        match self {
            Call::Nothing => Ok(inputs[0].clone()),
            Call::RmsNorm => rms_norm_zero_centred(&inputs[0], &inputs[1], EPSILON),
            Call::RmsNormOfSlice => rms_norm_zero_centred(&half(&inputs[0])?, &inputs[1], EPSILON),
            Call::RmsNormGated => rms_norm_gated(&inputs[0], &inputs[1], &inputs[2], EPSILON),
            Call::Swiglu => swiglu(&inputs[0], &inputs[1]),
            Call::AttentionGate => attention_gate(&inputs[0], &half(&inputs[1])?),
            Call::L2NormOfSlice => l2norm(&half(&inputs[0])?, 0.1, EPSILON),
            Call::Gates => {
                let gates = gates(&inputs[0], &inputs[1], &inputs[2], &inputs[3])?;
                gates.log_decay.add(&gates.beta)
            }
            Call::CausalConv => causal_conv_silu(&inputs[0], &inputs[1], None, None),
            Call::MRope(frequencies, positions) => frequencies.rotate(&inputs[0].swap_axes(1, 2)?, positions),
            Call::Rotary(layout) => rotary(&inputs[0].swap_axes(1, 2)?, &inputs[1], &inputs[2], *layout),
            Call::AdaptedLinear => adapted_linear(&inputs[0], &inputs[1], &inputs[2], &inputs[3], 2.0),
            Call::LinearAndAdapter => {
                let [lora_a, lora_b] = [&inputs[2], &inputs[3]].map(|lora| lora.cast(inputs[0].dtype()));
                let adapted = inputs[0].matmul_rows(&lora_a?)?.multiply(2.0)?.matmul_rows(&lora_b?)?;
                inputs[0].linear(&inputs[1])?.add(&adapted)
            }
            Call::VerifyLinear => verify_linear(&inputs[0], &inputs[1]),
            Call::VerifySwitch(experts) => verify_switch_linear(&inputs[0], &inputs[1], experts),
            Call::VerifyQuantised(codes) => verify_quantised_linear(&inputs[0], codes, &inputs[1], &inputs[2], 64, 4),
        }
    }
}

/// One line of the table.
struct Line {
    name: &'static str,
    call: Call,
    inputs: Vec<Tensor<Stored>>,
    /// The inputs that train.
    trains: &'static [usize],
}

/// Draws inputs, a key for each.
struct Draw {
    key: Key,
    dtype: Dtype,
}

impl Draw {
    fn wide(&mut self, shape: &[i32]) -> Result<Tensor<Stored>> {
        let (key, next) = self.key.split()?;
        self.key = next;
        key.normal(shape)
    }

    fn narrow(&mut self, shape: &[i32]) -> Result<Tensor<Stored>> {
        let dtype = self.dtype;
        self.wide(shape)?.cast(dtype)
    }
}

fn lines(sizes: Sizes, dtype: Dtype) -> Result<Vec<Line>> {
    let Sizes { rows, tokens, shrunk } = sizes;
    let mut draw = Draw { key: Key::new(1)?, dtype };
    let (hidden, intermediate, convolved) = (1024 / shrunk, 3584 / shrunk, 6144 / shrunk);
    let (head_dim, dim) = (256 / shrunk, 128 / shrunk);
    let rotated = head_dim / 4;
    let count = (rows * tokens) as usize;
    let positions: Vec<i32> = (0..3 * count).map(|index| index as i32 % tokens).collect();
    let positions = Indices::from_slice(&positions, &[3, rows, tokens])?;
    let section = [rotated as usize / 2, 0, 0];
    let frequencies = Frequencies::new(1e7, rotated as usize, section)?;
    let layout = RotaryLayout {
        pairing: Pairing::HalfSplit,
        table: TableLayout::Half,
        choice: Some(AxisChoice::Sectioned(section)),
    };
    let table = [3, rows, tokens, rotated / 2];
    let drafted = 8;
    let experts: Vec<i32> = (0..drafted * 8).map(|index| index * 5 % 16).collect();
    let words: Vec<u32> =
        (0..(intermediate * hidden / 8) as u32).map(|index| index.wrapping_mul(2_654_435_761)).collect();

    let mut lines = Vec::new();
    let mut add = |name, call, inputs, trains| lines.push(Line { name, call, inputs, trains });
    let flow = [rows, tokens, hidden];
    let heads = [rows, tokens, 8, head_dim];
    let states = [rows, tokens, 16, dim];
    add("the measurement itself", Call::Nothing, vec![draw.narrow(&flow)?], &[0]);
    let norm = vec![draw.narrow(&flow)?, draw.wide(&[hidden])?];
    add("rms_norm, hidden", Call::RmsNorm, norm.clone(), &[0]);
    add("rms_norm, hidden, weight trains", Call::RmsNorm, norm, &[0, 1]);
    let norm = vec![draw.narrow(&[rows, tokens, 8, 2 * head_dim])?, draw.wide(&[head_dim])?];
    add("rms_norm, query heads", Call::RmsNormOfSlice, norm, &[0]);
    let gated = vec![draw.narrow(&states)?, draw.narrow(&states)?, draw.wide(&[dim])?];
    add("rms_norm_gated", Call::RmsNormGated, gated.clone(), &[0, 1]);
    add("rms_norm_gated, weight trains", Call::RmsNormGated, gated, &[0, 1, 2]);
    let wide = [rows, tokens, intermediate];
    add("swiglu", Call::Swiglu, vec![draw.narrow(&wide)?, draw.narrow(&wide)?], &[0, 1]);
    let gate = vec![draw.narrow(&[rows, 8, tokens, head_dim])?, draw.narrow(&[rows, tokens, 8, 2 * head_dim])?];
    add("attention_gate", Call::AttentionGate, gate, &[0, 1]);
    add("l2norm, heads", Call::L2NormOfSlice, vec![draw.narrow(&[rows, tokens, 16, 2 * dim])?], &[0]);
    let logits = [rows, tokens, 16];
    let gate_inputs = vec![draw.narrow(&logits)?, draw.narrow(&logits)?, draw.wide(&[16])?, draw.wide(&[16])?];
    add("gates", Call::Gates, gate_inputs.clone(), &[0, 1]);
    add("gates, a_log and dt_bias train", Call::Gates, gate_inputs, &[0, 1, 2, 3]);
    let conv = vec![draw.narrow(&[rows, tokens, convolved])?, draw.narrow(&[convolved, 1, 4])?];
    add("causal_conv_silu", Call::CausalConv, conv.clone(), &[0]);
    add("causal_conv_silu, weight trains", Call::CausalConv, conv, &[0, 1]);
    add("mrope, query heads", Call::MRope(frequencies, positions), vec![draw.narrow(&heads)?], &[0]);
    let tables = vec![draw.narrow(&heads)?, draw.wide(&table)?, draw.wide(&table)?];
    add("rotary, query heads", Call::Rotary(layout), tables.clone(), &[0]);
    add("rotary, tables train", Call::Rotary(layout), tables, &[0, 1, 2]);
    let adapter = vec![
        draw.narrow(&flow)?,
        draw.narrow(&[intermediate, hidden])?,
        draw.wide(&[hidden, 16])?,
        draw.wide(&[16, intermediate])?,
    ];
    add("adapted_linear, rank 16", Call::AdaptedLinear, adapter.clone(), &[0, 2, 3]);
    add("the same in operations", Call::LinearAndAdapter, adapter, &[0, 2, 3]);
    let verify = vec![draw.narrow(&[drafted, hidden])?, draw.narrow(&[intermediate, hidden])?];
    add("verify_linear, 8 rows", Call::VerifyLinear, verify, &[0, 1]);
    let switch = vec![draw.narrow(&[drafted, hidden])?, draw.narrow(&[16, 512 / shrunk, hidden])?];
    let experts = Indices::from_slice(&experts, &[drafted, 8])?;
    add("verify_switch_linear, 8 of 16", Call::VerifySwitch(experts), switch, &[0, 1]);
    let groups = [intermediate, hidden / 64];
    let quantised = vec![draw.narrow(&[drafted, hidden])?, draw.narrow(&groups)?, draw.narrow(&groups)?];
    let codes = Indices::from_words(&words, &[intermediate, hidden / 8])?;
    add("verify_quantised_linear, 4 bits", Call::VerifyQuantised(codes), quantised, &[0, 1, 2]);
    Ok(lines)
}

fn forward(session: &mut Session, line: &Line) -> Result<()> {
    let outputs = session.infer(
        &line.inputs,
        &Vec::<Tensor<Stored>>::new(),
        &line.call,
        |inputs: &Vec<Tensor<Infer>>, _, call: &Call| -> Result<Vec<Tensor<Infer>>> {
            (0..CALLS).map(|_| call.call(inputs)).collect()
        },
    )?;
    drop(outputs);
    Ok(())
}

#[allow(clippy::ptr_arg, reason = "the parameters are a `Vec` here, and the driver passes them by reference")]
/// The sum of squares of everything: a cotangent as large and as contiguous as the next layer's.
fn loss(inputs: &Vec<Tensor<Train>>, call: &Call) -> Result<Tensor<Train>> {
    let mut sum: Option<Tensor<Train>> = None;
    for _ in 0..CALLS {
        let term = call.call(inputs)?.square()?.sum_all()?.cast(Dtype::F32)?;
        sum = Some(sum.map_or(Ok(term.clone()), |sum| sum.add(&term))?);
    }
    sum.ok_or_else(|| cotangent::Error::Other("no calls".into()))
}

fn forward_and_backward(session: &mut Session, line: &Line) -> Result<()> {
    let trains = |name: &str| name.parse().is_ok_and(|index: usize| line.trains.contains(&index));
    let trainable = Trainable::new(&line.inputs, trains)?;
    value_and_grad(session, &line.inputs, &trainable, &line.call, loss).map(drop)
}

/// The median of a call, in microseconds.
fn median(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed().as_secs_f64() * 1e6 / CALLS as f64);
    }
    times.sort_by(f64::total_cmp);
    Ok((times[RUNS / 2 - 1] + times[RUNS / 2]) / 2.0)
}

/// The table, each line printed as soon as it is measured; `only` those whose name contains a text.
///
/// # Errors
/// What drawing inputs returns; a kernel or fallback that fails is printed on standard error.
pub fn run(only: Option<&str>) -> Result<()> {
    let mut session = Session::new()?;
    let sizes = Sizes::new(session.backend());
    // CPUs multiply bfloat16 matrices slowly.
    let dtype = if session.backend() == Backend::Cpu { Dtype::F32 } else { Dtype::BF16 };
    let device = session.description();
    println!("{device}, {sizes:?}, {dtype}; microseconds a call, medians of {RUNS} runs of {CALLS} calls");
    println!("| kernel | forward | fallback | forward and backward | fallback |");
    println!("|---|---:|---:|---:|---:|");
    for line in lines(sizes, dtype)?.iter().filter(|line| only.is_none_or(|only| line.name.contains(only))) {
        let mut row = format!("| {} |", line.name);
        for run in [forward, forward_and_backward] {
            for preference in [Preference::Kernel, Preference::Fallback] {
                // If one way fails, the others are still measured.
                match with_preference(preference, || median(|| run(&mut session, line))) {
                    Ok(time) => drop(write!(row, " {time:.1} |")),
                    Err(error) => {
                        eprintln!("`{}`, {preference:?}: {error}", line.name);
                        row.push_str(" failed |");
                    }
                }
            }
        }
        println!("{row}");
    }
    Ok(())
}
