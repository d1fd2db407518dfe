//! `cotangent-emulator KERNEL.metal LAUNCH.toml`: runs a plain Metal body, or a kernel function of a whole file, and prints
//! findings and outputs.
//!
//! The exit code is 0 if nothing was found, 1 if something was, and 2 if the kernel could not be run.

mod description;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use cotangent_emulator::{Dtype, Emulator, Finding, Source};
use description::{Description, Function};

const USAGE: &str = "usage: cotangent-emulator KERNEL.metal LAUNCH.toml

KERNEL.metal  the body of a kernel, without signature, as MLX's metal_kernel takes it; or a whole file, if
              LAUNCH.toml names a function of it
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
    N = 4

    For a whole file: function = \"name\", buffer = 0 in each of the inputs and outputs (their order without it),
    and optionally [constants] and [threadgroup_memory], by number.";

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
    let description = Description::read(launch)?;
    if description.is_of_function() {
        return run_function(description, body, folder);
    }
    let (kernel, launch) = description.resolve(body, folder)?;
    let run = Emulator::global()?.run(&kernel, &launch)?;
    for ((port, shape), bytes) in kernel.outputs.iter().zip(&launch.output_shapes).zip(&run.outputs) {
        println!("{} {} {shape:?} = {}", port.name, port.dtype, shown(port.dtype, bytes));
    }
    report(&run.findings, &run.notes, run.threads);
    Ok(run.is_clean())
}

/// Runs a kernel function of a whole file.
fn run_function(description: Description, source: Source, folder: &Path) -> Result<bool> {
    let Function { text, launch, outputs } = description.resolve_function(source, folder)?;
    let run = Emulator::global()?.run_function(&text, &launch)?;
    for (number, shape) in outputs {
        let bound = launch.buffers.iter().find(|bound| bound.index == number);
        if let (Some(bound), Some(bytes)) = (bound, run.buffer(number)) {
            println!("{} {} {shape:?} = {}", bound.name, bound.dtype, shown(bound.dtype, bytes));
        }
    }
    report(&run.findings, &run.notes, launch.grid.iter().map(|&n| u64::from(n)).product());
    Ok(run.findings.is_empty())
}

fn report(findings: &[Finding], notes: &[Finding], threads: u64) {
    for finding in findings {
        println!("\n{finding}");
    }
    for note in notes {
        println!("\nnote: {note}");
    }
    let found = match findings.len() {
        0 => "nothing found".to_owned(),
        1 => "1 finding".to_owned(),
        n => format!("{n} findings"),
    };
    println!("\n{threads} threads, {found}");
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
