//! `cotangent-emulator KERNEL.metal LAUNCH.toml`: runs a plain Metal body and prints findings and outputs.
//!
//! Ends with 0 if nothing was found, 1 if something was, 2 if the kernel could not be run.

mod description;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use cotangent_emulator::{Dtype, Emulator, Run, Source};
use description::Description;

const USAGE: &str = "usage: cotangent-emulator KERNEL.metal LAUNCH.toml

KERNEL.metal  the body of a kernel, without signature, as MLX's metal_kernel takes it
LAUNCH.toml   sizes, inputs, outputs and template parameters:

    grid = [64]
    threadgroup = [64]

    [[inputs]]
    name = \"x\"
    dtype = \"f32\"
    shape = [64]
    values = \"count\"        # or \"random\", a number, numbers; or file = \"x.bin\"

    [[outputs]]
    name = \"y\"
    dtype = \"f32\"
    shape = [64]

    [template]              # optional, as are schedule, checks, init_value, atomic_outputs, header
    T = \"f32\"
    N = 4";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kernel, launch] = arguments.as_slice() else {
        eprintln!("{USAGE}");
        let asked = arguments.iter().any(|a| a == "--help" || a == "-h");
        return ExitCode::from(if asked { 0 } else { 2 });
    };
    match run(Path::new(kernel), Path::new(launch)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Returns whether the kernel is clean.
fn run(kernel: &Path, launch: &Path) -> Result<bool> {
    let text = std::fs::read_to_string(kernel).with_context(|| format!("cannot read {}", kernel.display()))?;
    let body = Source::new(kernel.to_string_lossy(), text);
    let folder = launch.parent().unwrap_or(Path::new(""));
    let (kernel, launch) = Description::read(launch)?.resolve(body, folder)?;
    let run = Emulator::global()?.run(&kernel, &launch)?;
    for ((port, shape), bytes) in kernel.outputs.iter().zip(&launch.output_shapes).zip(&run.outputs) {
        println!("{} {} {shape:?} = {}", port.name, port.dtype, shown(port.dtype, bytes));
    }
    report(&run);
    Ok(run.is_clean())
}

fn report(run: &Run) {
    for finding in &run.findings {
        println!("\n{finding}");
    }
    for note in &run.notes {
        println!("\nnote: {note}");
    }
    let found = match run.findings.len() {
        0 => "nothing found".to_owned(),
        1 => "1 finding".to_owned(),
        n => format!("{n} findings"),
    };
    println!("\n{} threads, {found}", run.threads);
}

/// All elements, or the first ones of many.
fn shown(dtype: Dtype, bytes: &[u8]) -> String {
    const SHOWN: usize = 64;
    let values = dtype.decode(bytes);
    let first: Vec<String> = values.iter().take(SHOWN).map(f64::to_string).collect();
    let more = values.len().saturating_sub(SHOWN);
    let rest = if more > 0 { format!(" … and {more} more") } else { String::new() };
    format!("[{}{rest}]", first.join(", "))
}
