//! The commands of `cargo cotangent` about the kernels of a program: [`kernels`] lists them, [`check`] checks them,
//! [`mutate`] makes mistakes in their gradients.
//!
//! A kernel is known only to a program that links it. So each command is the whole of a program's `main`, which names the
//! crates that it is about:
//!
//! ```no_run
//! use cotangent as _; // a crate of kernels
//!
//! fn main() -> std::process::ExitCode {
//!     cotangent_commands::kernels(&["my_kernels"])
//! }
//! ```
//!
//! `cargo cotangent` writes such programs, for any crate.

mod check;
mod mutate;
mod table;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use cotangent::kernel::Declaration;

pub use table::{Sizes, cuda, kernel, names, table};

/// Prints the table of all kernels of `crates`; all about one; or the CUDA source of one, as the program's arguments say.
pub fn kernels(crates: &[&str]) -> ExitCode {
    match arguments().and_then(|arguments| table::answer(&kernels_of(crates), arguments)) {
        Ok(text) => {
            // A write fails only if the reader has stopped.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {}", describe(&error));
            ExitCode::FAILURE
        }
    }
}

/// Checks the kernels of `crates` at each of their cases, and prints all comparisons.
///
/// The built program needs nothing of the workspace: it can be carried to a machine with a GPU.
pub fn check(crates: &[&str]) -> ExitCode {
    let arguments = match arguments().and_then(check::Arguments::parse) {
        Ok(arguments) => arguments,
        Err(error) => return misunderstood(&error, check::USAGE),
    };
    if std::env::var_os(TENSOR_FLOAT).is_none() {
        return again();
    }
    leave(check::run(kernels_of(crates), &arguments))
}

/// Makes mistakes in the gradients of the kernels of `crates`, and prints those that their generated checks miss.
pub fn mutate(crates: &[&str]) -> ExitCode {
    match arguments().and_then(mutate::Arguments::parse) {
        Ok(arguments) => leave(mutate::run(&kernels_of(crates), &arguments)),
        Err(error) => misunderstood(&error, mutate::USAGE),
    }
}

/// The kernels that are linked of `crates`, by file and line; of all crates if none is named.
///
/// # Panics
/// If the program links no kernel.
pub fn kernels_of(crates: &[&str]) -> Vec<&'static Declaration> {
    let mut kernels = cotangent::kernel::kernels();
    kernels.retain(|kernel| {
        let own = kernel.signature.module.split("::").next().unwrap_or_default();
        crates.is_empty() || crates.contains(&own)
    });
    kernels.sort_by_key(|kernel| (kernel.file, kernel.line));
    kernels
}

/// The words that a person typed before the name of the command, for messages.
fn caller() -> String {
    std::env::var("COTANGENT_CALLER").unwrap_or_else(|_| "cargo cotangent".to_owned())
}

fn arguments() -> Result<Vec<String>> {
    let read = |argument: OsString| {
        argument.into_string().ok().context("an argument is not UTF-8\n  help: use names that are")
    };
    std::env::args_os().skip(1).map(read).collect()
}

fn misunderstood(error: &anyhow::Error, usage: &str) -> ExitCode {
    eprintln!("error: {error}\n{usage}");
    ExitCode::from(2)
}

/// Ends the program: with success if all that was asked passed.
fn leave(passed: Result<bool>) -> ExitCode {
    match passed {
        Ok(true) => cotangent::leave(0),
        Ok(false) => cotangent::leave(1),
        Err(error) => {
            eprintln!("error: {}", describe(&error));
            cotangent::leave(1)
        }
    }
}

/// MLX multiplies float32 matrices in ten bits on NVIDIA's GPUs, unless it is set otherwise.
const TENSOR_FLOAT: &str = "MLX_ENABLE_TF32";

/// Runs this program with float32 products in all their bits: MLX reads the variable when it starts.
fn again() -> ExitCode {
    let status = std::env::current_exe()
        .and_then(|program| Command::new(program).args(std::env::args_os().skip(1)).env(TENSOR_FLOAT, "0").status());
    match status {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("error: cannot start this program again: {error}");
            cotangent::leave(1)
        }
    }
}

/// Returns an error with its causes in one line, without causes that its own message contains.
pub fn describe(error: &anyhow::Error) -> String {
    error
        .chain()
        .skip(1)
        .map(ToString::to_string)
        .fold(error.to_string(), |told, cause| if told.contains(&cause) { told } else { format!("{told}: {cause}") })
}
