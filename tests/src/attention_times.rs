//! Times causal attention at the sizes of Qwen3.5-0.8B, in blocks and in strips, and compares the two first.

use std::time::Instant;

use cotangent::random::Key;
use cotangent::{
    Backend, Dtype, Graph, Infer, Result, Session, Stored, Tensor, Train, Trainable, memory, value_and_grad,
};
use cotangent_kernels::Documents;
use cotangent_kernels::attention::{Strips, causal_attention_in_strips};
use cotangent_kernels::causal_attention;

use crate::deviation::deviation;

/// Measured runs, after one that is not counted.
const RUNS: usize = 7;

const SCALE: f32 = 0.0625;

/// The way in which attention is computed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// The way of a model.
    Model,
    /// The way of a model, with two documents a row.
    Documents,
    Strips,
}

/// Rows, tokens, query heads, key heads, width of a head.
type Sizes = [i32; 5];

fn attend<M: Graph>(inputs: &[Tensor<M>], way: Way) -> Result<Tensor<M>> {
    let [queries, keys, values] = inputs else { unreachable!("three inputs") };
    match way {
        Way::Model => causal_attention(queries, keys, values, SCALE, None),
        Way::Documents => {
            let tokens = queries.dimension(2);
            let row = vec![tokens / 2, tokens - tokens / 2];
            let documents = Documents::new(&vec![row; queries.dimension(0) as usize], tokens, tokens)?;
            causal_attention(queries, keys, values, SCALE, Some(&documents))
        }
        Way::Strips => {
            let strips = Strips::new(cotangent::backend()?);
            causal_attention_in_strips(queries, keys, values, SCALE, None, strips)
        }
    }
}

fn draw([rows, tokens, heads, key_heads, width]: Sizes, dtype: Dtype) -> Result<Vec<Tensor<Stored>>> {
    let (first, rest) = Key::new(1)?.split()?;
    let (second, third) = rest.split()?;
    let of = |key: Key, heads: i32| key.normal(&[rows, heads, tokens, width])?.cast(dtype);
    Ok(vec![of(first, heads)?, of(second, key_heads)?, of(third, key_heads)?])
}

type Inputs<M> = Vec<Tensor<M>>;

fn forward(session: &mut Session, inputs: &Inputs<Stored>, way: Way) -> Result<Vec<Tensor<Stored>>> {
    let attended = |inputs: &Inputs<Infer>, _: &Inputs<Infer>, way: &Way| Ok(vec![attend(inputs, *way)?]);
    session.infer(inputs, &Vec::<Tensor<Stored>>::new(), &way, attended)
}

fn loss(inputs: &Inputs<Train>, way: &Way) -> Result<Tensor<Train>> {
    attend(inputs, *way)?.square()?.cast(Dtype::F32)?.sum_all()
}

fn backward(session: &mut Session, inputs: &Inputs<Stored>, way: Way) -> Result<Vec<Tensor<Stored>>> {
    let trainable = Trainable::new(inputs, |_| true)?;
    let (_, gradients) = value_and_grad(session, inputs, &trainable, &way, loss)?;
    Ok((0..3).filter_map(|index: usize| gradients.get(&index.to_string()).cloned()).collect())
}

/// The median in milliseconds.
fn median(mut run: impl FnMut() -> Result<Vec<Tensor<Stored>>>) -> Result<f64> {
    drop(run()?);
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        drop(run()?);
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[RUNS / 2])
}

fn compare(session: &mut Session, sizes: Sizes, dtype: Dtype) -> Result<()> {
    let inputs = draw(sizes, dtype)?;
    let wide = inputs.iter().map(|input| input.cast(Dtype::F32)).collect::<Result<Vec<_>>>()?;
    let found: Vec<_> = [forward(session, &inputs, Way::Model)?, backward(session, &inputs, Way::Model)?]
        .into_iter()
        .flatten()
        .collect();
    let expected: Vec<_> =
        [forward(session, &wide, Way::Strips)?, backward(session, &wide, Way::Strips)?].into_iter().flatten().collect();
    print!("{sizes:?} {dtype}, blocks against float32 strips:");
    for (name, (found, expected)) in ["output", "dq", "dk", "dv"].iter().zip(found.iter().zip(&expected)) {
        print!(" {name} {:.1e}", deviation(found, expected)?);
    }
    println!();
    Ok(())
}

/// Compares, then prints a table, each line as soon as it is measured.
///
/// # Errors
/// What a backend returns; what one way cannot do is printed on standard error, and the rest goes on.
pub fn run() -> Result<()> {
    let mut session = Session::new()?;
    println!("{}; milliseconds, medians of {RUNS}", session.description());
    let small = session.backend() != Backend::Cuda && session.backend() != Backend::Metal;
    let wide = if small { 32 } else { 256 };
    for (sizes, dtype) in [
        ([2, 45, 4, 2, 32], Dtype::F32),
        ([1, 77, 8, 2, wide], Dtype::BF16),
        ([2, 70, 4, 1, 64], Dtype::F16),
        ([1, if small { 90 } else { 1000 }, 8, 2, wide], Dtype::BF16),
    ] {
        compare(&mut session, sizes, dtype)?;
    }
    println!("| rows x tokens | way | forward | TFLOP/s | forward and backward | TFLOP/s | peak |");
    println!("|---|---|---:|---:|---:|---:|---:|");
    let all: &[Sizes] = if small {
        &[[1, 130, 4, 2, 32]]
    } else {
        &[[4, 2048, 8, 2, 256], [1, 8192, 8, 2, 256], [1, 32768, 8, 2, 256], [4, 2048, 16, 8, 128]]
    };
    for &sizes in all {
        let [rows, tokens, heads, key_heads, width] = sizes;
        let inputs = draw(sizes, Dtype::BF16)?;
        // The forward pass has two products over half of the keys; the backward pass has five.
        let flops = 2.0 * f64::from(rows * heads) * f64::from(tokens).powi(2) * f64::from(width);
        for way in [Way::Model, Way::Documents, Way::Strips] {
            memory::reset_peak()?;
            let measured = median(|| forward(&mut session, &inputs, way))
                .and_then(|first| Ok((first, median(|| backward(&mut session, &inputs, way))?)));
            match measured {
                Ok((first, both)) => {
                    let flops = if way == Way::Documents { flops / 2.0 } else { flops };
                    println!(
                        "| {rows} x {tokens}, {heads} and {key_heads} heads of {width} | {way:?} | {first:.3} | {:.0} | {both:.3} | {:.0} | {:.2} GiB |",
                        flops / first * 1e-9,
                        3.5 * flops / both * 1e-9,
                        memory::peak()? as f64 / f64::from(1 << 30)
                    );
                }
                Err(error) => eprintln!("{sizes:?}, {way:?}: {error}"),
            }
        }
    }
    Ok(())
}
