//! `cargo xtask check`: what machinery checks of every kernel, at each of its cases; prints all comparisons.
//!
//! The built program needs nothing of the workspace: it can be carried to a machine with a GPU.

use std::process::{Command, ExitCode};

use cotangent::leave;
use cotangent_tests::check::{Arguments, USAGE, run};

/// MLX multiplies float32 matrices in ten bits on NVIDIA's GPUs, unless it is set otherwise.
const TENSOR_FLOAT: &str = "MLX_ENABLE_TF32";

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("error: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if std::env::var_os(TENSOR_FLOAT).is_none() {
        return again();
    }
    match run(&arguments) {
        Ok(true) => leave(0),
        Ok(false) => leave(1),
        Err(error) => {
            eprintln!("error: {}", cotangent_tests::describe(&error));
            leave(1)
        }
    }
}

/// Runs this program with float32 products in all their bits: MLX reads the variable when it starts.
fn again() -> ExitCode {
    let status = std::env::current_exe()
        .and_then(|program| Command::new(program).args(std::env::args_os().skip(1)).env(TENSOR_FLOAT, "0").status());
    match status {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("error: cannot start this program again: {error}");
            leave(1)
        }
    }
}
