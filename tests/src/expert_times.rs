//! Times the products of many experts at the sizes of Qwen3.6-35B-A3B, in several ways, and compares them first.

use std::time::Instant;

use anyhow::Context;
use cotangent::random::Key;
use cotangent::{
    Backend, CodeFormat, CodeMode, Dtype, Frozen, Graph, Indices, Infer, Packed, Result, Session, Stored, Tensor,
    Train, Trainable, memory, value_and_grad,
};
use cotangent_kernels::grouped_linear::{Blocks, GroupedProductInputs, grouped_product};
use cotangent_kernels::{grouped_linear, grouped_packed_linear};

use crate::deviation::deviation;

/// Measured runs, after one that is not counted.
const RUNS: usize = 7;

/// Calls in one run, so that waiting for the device does not count.
const CALLS: usize = 4;

/// The way in which a product is computed.
#[derive(Clone)]
enum Way {
    /// Nothing is computed: this is the time of the measurement of a gradient itself, at the size of the result.
    Nothing(i32),
    /// The way of a model.
    Model,
    /// The way of a model, in other blocks.
    Blocks(Blocks),
    /// MLX's gathered product.
    Gathered,
    /// The way of a model with codes.
    Codes(Packed),
    /// The matrices decoded, then as a model does.
    Decoded(Packed),
    /// The matrices decoded, then MLX's gathered product.
    DecodedGathered(Packed),
}

impl Way {
    fn name(&self) -> String {
        match self {
            Way::Nothing(_) => "the measurement itself".into(),
            Way::Model => "grouped_linear".into(),
            Way::Blocks(Blocks { rows, columns, depth }) => {
                format!("the same in blocks of {rows} x {columns} x {depth}")
            }
            Way::Gathered => "gather_mm".into(),
            Way::Codes(_) => "grouped_packed_linear".into(),
            Way::Decoded(_) => "decoded, then grouped_linear".into(),
            Way::DecodedGathered(_) => "decoded, then gather_mm".into(),
        }
    }
}

type Host = (Way, Indices);
type Inputs<M> = Vec<Tensor<M>>;

fn multiply<M: Graph>(inputs: &[Tensor<M>], (way, counts): &Host) -> Result<Tensor<M>> {
    let x = &inputs[0];
    // Adapters come after rows and matrices.
    let adapter = inputs.get(3).map(|b| ([&inputs[2], b], 1.0));
    let decode = |matrices: &Packed| Ok::<_, cotangent::Error>(matrices.decode(x.dtype())?.to_tensor::<M>());
    match way {
        Way::Nothing(width) => x.slice(1, 0, (*width).min(x.dimension(1))),
        Way::Model => grouped_linear(x, &inputs[1], adapter, counts),
        Way::Blocks(Blocks { rows, columns, depth }) => {
            let (weight, rows, columns, depth) = (&inputs[1], *rows, *columns, *depth);
            let (lora_a, lora_b, scale, rank) = (None, None, 1.0, 8);
            let inputs = GroupedProductInputs { x, weight, lora_a, lora_b, counts, scale, rank, rows, columns, depth };
            grouped_product(inputs)
        }
        Way::Gathered => x.grouped_matmul(&inputs[1].swap_axes(1, 2)?, counts),
        Way::Codes(matrices) => grouped_packed_linear(x, matrices, adapter, counts),
        Way::Decoded(matrices) => grouped_linear(x, &decode(matrices)?, None, counts),
        Way::DecodedGathered(matrices) => x.grouped_matmul(&decode(matrices)?.swap_axes(1, 2)?, counts),
    }
}

fn forward(session: &mut Session, inputs: &Inputs<Stored>, (host, calls): (&Host, usize)) -> Result<Inputs<Stored>> {
    let call = |inputs: &Inputs<Infer>, _: &Inputs<Infer>, (host, calls): &(Host, usize)| {
        (0..*calls).map(|_| multiply(inputs, host)).collect::<Result<Vec<_>>>()
    };
    session.infer(inputs, &Vec::<Tensor<Stored>>::new(), &(host.clone(), calls), call)
}

#[allow(clippy::ptr_arg, reason = "the parameters are a `Vec` here, and the driver passes them by reference")]
fn loss(inputs: &Inputs<Train>, (host, calls): &(Host, usize)) -> Result<Tensor<Train>> {
    let mut sum = multiply(inputs, host)?.square()?.sum_all()?.cast(Dtype::F32)?;
    for _ in 1..*calls {
        sum = sum.add(&multiply(inputs, host)?.square()?.sum_all()?.cast(Dtype::F32)?)?;
    }
    Ok(sum)
}

/// The gradients of those of the inputs that train.
fn backward(
    session: &mut Session,
    inputs: &Inputs<Stored>,
    (host, calls): (&Host, usize),
    trains: &[usize],
) -> Result<Inputs<Stored>> {
    let trainable = Trainable::new(inputs, |name| name.parse().is_ok_and(|index: usize| trains.contains(&index)))?;
    let (_, gradients) = value_and_grad(session, inputs, &trainable, &(host.clone(), calls), loss)?;
    Ok(trains.iter().filter_map(|index| gradients.get(&index.to_string()).cloned()).collect())
}

/// The median of a call in milliseconds.
fn median(mut run: impl FnMut() -> Result<Inputs<Stored>>) -> Result<f64> {
    drop(run()?);
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        drop(run()?);
        times.push(start.elapsed().as_secs_f64() * 1e3 / CALLS as f64);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[RUNS / 2])
}

/// Returns the deviations of one way from another: the product, and its gradient by each input that trains.
fn deviations(
    session: &mut Session,
    inputs: &Inputs<Stored>,
    found: &Host,
    expected: &Host,
    trains: &[usize],
) -> anyhow::Result<Vec<String>> {
    let mut results = |host: &Host| -> anyhow::Result<Inputs<Stored>> {
        let mut results = forward(session, inputs, (host, 1)).with_context(|| host.0.name())?;
        for &input in trains {
            let gradients = backward(session, inputs, (host, 1), &[input]);
            results.extend(gradients.with_context(|| format!("{}, the gradient of input {input}", host.0.name()))?);
        }
        Ok(results)
    };
    let (found, expected) = (results(found)?, results(expected)?);
    found.iter().zip(&expected).map(|(found, expected)| Ok(format!("{:.1e}", deviation(found, expected)?))).collect()
}

/// Rows of each expert, of `tokens` that each choose `chosen`: scores are those of a router whose experts differ in bias, and
/// come from a linear congruential generator.
fn counts(tokens: i32, experts: i32, chosen: usize) -> Vec<i32> {
    let mut state = 1_u64;
    let mut normal = || {
        // The sum of twelve uniform numbers has a variance of one.
        (0..12).fold(-6.0_f64, |sum, _| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            sum + (state >> 33) as f64 / f64::from(1_u32 << 31)
        })
    };
    let biases: Vec<f64> = (0..experts).map(|_| 0.3 * normal()).collect();
    let mut counts = vec![0; experts as usize];
    for _ in 0..tokens {
        let mut scores: Vec<(f64, usize)> =
            biases.iter().enumerate().map(|(expert, bias)| (bias + normal(), expert)).collect();
        scores.sort_by(|left, right| right.0.total_cmp(&left.0));
        scores.iter().take(chosen).for_each(|(_, expert)| counts[*expert] += 1);
    }
    counts
}

fn draw(session: &mut Session, shape: &[i32], seed: u64, scale: f32) -> Result<Tensor<Stored>> {
    let drawn = vec![Key::new(seed)?.normal(shape)?];
    let scaled = |inputs: &Inputs<Infer>, _: &Inputs<Infer>, scale: &f32| {
        Ok(vec![inputs[0].multiply(*scale)?.cast(Dtype::BF16)?])
    };
    Ok(session.infer(&drawn, &Vec::<Tensor<Stored>>::new(), &scale, scaled)?.swap_remove(0))
}

fn packed(weight: &Tensor<Stored>, bits: usize) -> Result<Packed> {
    let format = CodeFormat::new(CodeMode::Affine, Some(64), Some(bits))?;
    let mut parts = weight.quantize(format)?.into_iter().map(Frozen::new);
    let parts: Vec<_> = parts.by_ref().collect();
    Packed::new(&parts[0], &parts[1], parts.get(2), format, Dtype::BF16)
}

/// Compares, then prints a table for each product, each line as soon as it is measured.
///
/// # Errors
/// What a backend returns; what one way cannot do is printed on standard error, and the rest goes on.
pub fn run() -> Result<()> {
    let mut session = Session::new()?;
    println!("{}; milliseconds a call, medians of {RUNS} runs of {CALLS}; bfloat16", session.description());
    let gpu = matches!(session.backend(), Backend::Cuda | Backend::Metal);
    let (tokens, chosen, experts, hidden, width) = if gpu { (8192, 8, 256, 2048, 512) } else { (16, 2, 4, 128, 64) };
    let of_experts = counts(tokens, experts, chosen);
    let rows = tokens * chosen as i32;
    let (least, most) = (of_experts.iter().min().copied(), of_experts.iter().max().copied());
    println!("{rows} rows of {experts} experts, {} to {} each", least.unwrap_or(0), most.unwrap_or(0));
    let counts = Indices::from_slice(&of_experts, &[experts])?;
    for (inputs, outputs) in [(hidden, width), (width, hidden)] {
        let x = draw(&mut session, &[rows, inputs], 1, 1.0)?;
        let weight = draw(&mut session, &[experts, outputs, inputs], 2, 0.02)?;
        let (eight, four) = (packed(&weight, 8)?, packed(&weight, 4)?);
        let packed_eight = eight.clone();
        let host = |way: Way| (way, counts.clone());
        let all = vec![x.clone(), weight.clone()];
        let alone = vec![x.clone()];
        println!("\n{inputs} to {outputs}, the largest deviation over the largest value:");
        for (name, inputs, found, expected, trains) in [
            ("bfloat16 from gather_mm", &all, Way::Model, Way::Gathered, &[0, 1][..]),
            ("8 bits from decoded", &alone, Way::Codes(eight.clone()), Way::DecodedGathered(eight.clone()), &[0]),
            ("4 bits from decoded", &alone, Way::Codes(four.clone()), Way::DecodedGathered(four.clone()), &[0]),
        ] {
            let (found, expected) = (host(found), host(expected));
            match deviations(&mut session, inputs, &found, &expected, trains) {
                Ok(deviations) => println!("- {name}: {}", deviations.join(", ")),
                Err(error) => eprintln!("- {name}: {error:#}"),
            }
        }
        println!(
            "\n| {inputs} to {outputs} | forward | TFLOP/s | forward and backward | dx, without forward and measurement | TFLOP/s | peak |"
        );
        println!("|---|---:|---:|---:|---:|---:|---:|");
        let blocks = |rows, columns, depth| Way::Blocks(Blocks { rows, columns, depth });
        let mut ways = vec![Way::Nothing(outputs), Way::Model];
        if gpu {
            ways.extend([blocks(64, 128, 32), blocks(128, 64, 32), blocks(64, 64, 32), blocks(128, 128, 16)]);
        }
        ways.extend([Way::Gathered, Way::Codes(eight.clone()), Way::Codes(four.clone())]);
        ways.extend([Way::Decoded(eight.clone()), Way::DecodedGathered(eight)]);
        let flops = 2.0 * f64::from(rows) * f64::from(inputs) * f64::from(outputs);
        let mut measurement = 0.0;
        for way in ways {
            let name = match &way {
                Way::Codes(matrices) | Way::Decoded(matrices) | Way::DecodedGathered(matrices) => {
                    format!("{}, {} bits", way.name(), matrices.format().bits())
                }
                other => other.name(),
            };
            let is_nothing = matches!(way, Way::Nothing(_));
            let host = host(way);
            memory::reset_peak()?;
            let measured = median(|| forward(&mut session, &all, (&host, CALLS))).and_then(|first| {
                let both = median(|| backward(&mut session, &all, (&host, CALLS), &[0]))?;
                Ok((first, both, memory::peak()?))
            });
            match measured {
                Ok((first, both, peak)) => {
                    if is_nothing {
                        measurement = both;
                    }
                    let dx = (both - first - measurement).max(1e-6);
                    let speed = |time: f64| if is_nothing { 0.0 } else { flops / time * 1e-9 };
                    println!(
                        "| {name} | {first:.3} | {:.0} | {both:.3} | {dx:.3} | {:.0} | {:.2} GiB |",
                        speed(first),
                        speed(dx),
                        peak as f64 / f64::from(1 << 30)
                    );
                }
                Err(error) => eprintln!("{name}: {error}"),
            }
        }
        adapters(&mut session, &[x, weight], &counts, packed_eight)?;
    }
    Ok(())
}

/// Times products with dense and quantized matrices and adapters of rank 8, with the gradients of adapters and rows; then the two
/// products of an adapter alone.
fn adapters(session: &mut Session, [x, weight]: &[Tensor<Stored>; 2], counts: &Indices, eight: Packed) -> Result<()> {
    let &[experts, outputs, inputs] = weight.shape() else { return Ok(()) };
    let narrow = draw(session, &[experts, 8, inputs], 3, 0.02)?;
    let wide = draw(session, &[experts, outputs, 8], 4, 0.02)?;
    let down = draw(session, &[x.dimension(0), 8], 5, 1.0)?;
    let adapted = [x, weight, &narrow, &wide].map(Tensor::clone).to_vec();
    for (name, way, inputs, trains) in [
        ("dense, with adapters", Way::Model, adapted.clone(), &[0, 2, 3][..]),
        ("8 bits, with adapters", Way::Codes(eight), adapted, &[0, 2, 3]),
        ("adapter, to rank 8", Way::Model, vec![x.clone(), narrow], &[0, 1]),
        ("adapter, from rank 8", Way::Model, vec![down, wide], &[0, 1]),
    ] {
        let host = (way, counts.clone());
        let first = median(|| forward(session, &inputs, (&host, CALLS)))?;
        let both = median(|| backward(session, &inputs, (&host, CALLS), trains))?;
        println!("| {name}, its gradients with the measurement | {first:.3} | | {both:.3} | | | |");
    }
    Ok(())
}
