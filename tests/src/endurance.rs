//! Trains on rows whose length is drawn again for each step, and watches memory: what is kept by shape, such as CUDA graphs
//! and compiled programs, must neither fill memory nor end the program.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use cotangent::memory;

use crate::bench::{Spread, Training, memory_of_process};

/// Lines of the table, and so the parts of a run that are compared.
const PARTS: usize = 10;

/// Growth from the middle of a run to its end that is noise: of all it has, and in bytes.
const NOISE: (f64, u64) = (0.05, 64 << 20);

/// The memory of a process at one moment, in bytes.
struct Holds {
    /// The bytes of living arrays.
    arrays: u64,
    /// The bytes of memory on the host, if the system says so.
    resident: Option<u64>,
}

impl Holds {
    fn now() -> Result<Self> {
        memory::clear_cache()?;
        Ok(Holds { arrays: memory::active()? as u64, resident: memory_of_process("VmRSS:") })
    }
}

fn grew(name: &str, before: u64, after: u64) -> Result<()> {
    if after <= before + NOISE.1.max((before as f64 * NOISE.0) as u64) {
        return Ok(());
    }
    let [before, after] = [before, after].map(|bytes| bytes >> 20);
    bail!("{name} grew from {before} MiB in the middle of the run to {after} MiB at its end")
}

/// Makes `steps` steps of the model that the file `path` describes, of 1 to as many tokens a row as it says. Prints a
/// table on standard output.
///
/// # Errors
/// If a step fails, a loss is not finite, or memory grows.
pub fn run(path: &Path, steps: usize) -> Result<()> {
    if steps < PARTS {
        bail!("{steps} steps are too few to compare, expected at least {PARTS}");
    }
    let mut training = Training::described(path)?;
    let mut spread = Spread(7);
    let mut halfway = None;
    println!(
        "{:>6} {:>9} {:>12} {:>12} {:>14} {:>8}",
        "steps", "tokens/s", "arrays MiB", "peak MiB", "resident MiB", "loss"
    );
    for part in 0..PARTS {
        memory::reset_peak()?;
        let range = steps * part / PARTS..steps * (part + 1) / PARTS;
        let (start, mut tokens, mut loss) = (Instant::now(), 0, f32::NAN);
        for step in range.clone() {
            let length = 1 + (spread.next() * training.tokens() as f32) as usize;
            let batch = training.batch_of(length.min(training.tokens()))?;
            loss = training.step(&batch)?;
            tokens += batch.tokens.shape().iter().product::<i32>();
            if !loss.is_finite() {
                bail!("the loss of step {step}, of {length} tokens a row, is {loss}");
            }
        }
        let speed = f64::from(tokens) / start.elapsed().as_secs_f64();
        let peak = memory::peak()? >> 20;
        let holds = Holds::now()?;
        let resident = holds.resident.map_or("?".to_owned(), |bytes| (bytes >> 20).to_string());
        println!("{:>6} {speed:>9.0} {:>12} {peak:>12} {resident:>14} {loss:>8.4}", range.end, holds.arrays >> 20);
        if part + 1 == PARTS / 2 {
            halfway = Some(holds);
        } else if let (true, Some(before)) = (part + 1 == PARTS, &halfway) {
            grew("memory in arrays", before.arrays, holds.arrays)?;
            if let (Some(before), Some(after)) = (before.resident, holds.resident) {
                grew("resident memory", before, after)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_past_noise_is_an_error() {
        assert!(grew("memory", 1 << 30, (1 << 30) + (63 << 20)).is_ok());
        assert!(grew("memory", 100 << 30, 104 << 30).is_ok());
        let error = grew("memory", 1 << 30, 2 << 30).unwrap_err().to_string();
        assert_eq!(error, "memory grew from 1024 MiB in the middle of the run to 2048 MiB at its end");
    }

    #[test]
    fn a_model_trains_on_rows_of_many_lengths_in_the_same_memory() {
        run(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/bench/tiny.json")), 40).unwrap();
    }
}
