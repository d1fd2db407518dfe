//! `cargo xtask apple --own`: the project's kernels as clang compiles them in C++ for OpenCL, beside the emulator's results.

use std::process::ExitCode;

use clap::Parser as _;
use cotangent::leave;

fn main() -> ExitCode {
    match cotangent_tests::compiled::run(&cotangent_tests::compiled::Arguments::parse()) {
        Ok(good) => leave(u8::from(!good)),
        Err(error) => {
            eprintln!("error: {error:#}");
            leave(2)
        }
    }
}
