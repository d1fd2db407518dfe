//! `cargo xtask mutate`: which mistakes in the kernels' gradients the generated checks miss.

use std::process::ExitCode;

use cotangent::leave;
use cotangent_tests::mutate::{Arguments, USAGE, run};

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("error: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(true) => leave(0),
        Ok(false) => leave(1),
        Err(error) => {
            eprintln!("error: {}", cotangent_tests::describe(&error));
            leave(1)
        }
    }
}
