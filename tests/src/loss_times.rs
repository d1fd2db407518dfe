//! Times the loss over the vocabulary at the size of Qwen3.5-0.8B: the softmax of a chunk as a kernel and by operations.

use std::time::Instant;

use cotangent::kernel::{Preference, with_preference};
use cotangent::random::Key;
use cotangent::{Backend, Dtype, Result, Session, Stored, Tensor, Train, Trainable, memory, value_and_grad};
use cotangent_kernels::{Labels, cross_entropy};

/// Measured runs, after one that is not counted.
const RUNS: usize = 7;

type Inputs<M> = Vec<Tensor<M>>;

fn loss(inputs: &Inputs<Train>, labels: &Labels) -> Result<Tensor<Train>> {
    cross_entropy(&inputs[0], &inputs[1], labels, 1.0 / labels.count().max(1) as f32)
}

/// Prints a table, each line as soon as it is measured.
///
/// # Errors
/// What a backend returns.
pub fn run() -> Result<()> {
    let mut session = Session::new()?;
    println!("{}; milliseconds, medians of {RUNS}; bfloat16, the head is frozen", session.description());
    println!("| rows x width x vocabulary | softmax | loss | loss and gradient of the hidden states | peak |");
    println!("|---|---|---:|---:|---:|");
    let gpu = matches!(session.backend(), Backend::Cuda | Backend::Metal);
    let (rows, width, vocabulary) = if gpu { (8192, 1024, 248_320) } else { (64, 64, 1000) };
    let (first, second) = Key::new(1)?.split()?;
    let inputs: Vec<Tensor<Stored>> =
        vec![first.normal(&[rows, width])?.cast(Dtype::BF16)?, second.normal(&[vocabulary, width])?.cast(Dtype::BF16)?];
    let labels: Vec<i32> = (0..rows).map(|row| row * 31 % vocabulary).collect();
    let labels = Labels::from_slice(&labels)?;
    for preference in [Preference::Kernel, Preference::Fallback] {
        let mut times = [0.0; 2];
        memory::reset_peak()?;
        for (time, trains) in times.iter_mut().zip([false, true]) {
            let trainable = Trainable::new(&inputs, |name| trains && name == "0")?;
            let mut run = || {
                with_preference(preference, || {
                    let start = Instant::now();
                    let (value, _) = value_and_grad(&mut session, &inputs, &trainable, &labels, loss)?;
                    value.item::<f32>()?;
                    Ok(start.elapsed().as_secs_f64() * 1e3)
                })
            };
            run()?;
            let mut measured = (0..RUNS).map(|_| run()).collect::<Result<Vec<f64>>>()?;
            measured.sort_by(f64::total_cmp);
            *time = measured[RUNS / 2];
        }
        println!(
            "| {rows} x {width} x {vocabulary} | {preference:?} | {:.2} | {:.2} | {:.2} GiB |",
            times[0],
            times[1],
            memory::peak()? as f64 / f64::from(1 << 30)
        );
    }
    Ok(())
}
