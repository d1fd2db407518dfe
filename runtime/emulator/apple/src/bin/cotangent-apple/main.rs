//! Runs MLX's kernels as Apple's compiler made them beside their sources in the emulator.

mod survey;
mod wheel;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use cotangent_apple::{Llvm, Workshop};
use cotangent_emulator::Emulator;

use wheel::Wheel;

/// Runs MLX's kernels as Apple's compiler made them beside their sources in the emulator.
#[derive(Parser)]
struct Arguments {
    /// Kernels of MLX's library to describe
    kernels: Vec<String>,
    /// The folder for the package and what is made of it
    #[arg(long, value_name = "FOLDER", default_value = "target/apple")]
    cache: PathBuf,
    /// Lower every N-th kernel of the library instead, and count what is refused
    #[arg(long, value_name = "N", conflicts_with = "kernels")]
    survey: Option<usize>,
    /// With --survey: compile them, too
    #[arg(long, requires = "survey")]
    compile: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    let llvm = Llvm::find().context(Llvm::MISSING)?;
    let wheel = Wheel::in_cache(&arguments.cache)?;
    let library = wheel.library()?;
    let emulator = Emulator::with_cache(&arguments.cache.join("emulator"))?;
    let workshop = Workshop::new(llvm, &emulator, &arguments.cache.join("objects"))?;
    if let Some(step) = arguments.survey {
        return survey::survey(&library, &workshop, step, arguments.compile);
    }
    let mut good = true;
    for kernel in &arguments.kernels {
        good &= survey::describe(&library, &workshop, kernel)?;
    }
    Ok(good)
}
