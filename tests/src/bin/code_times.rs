//! Times products with packed codes on a CPU; a table on standard output.

use std::process::ExitCode;

use cotangent::{enter, leave};

fn main() -> ExitCode {
    enter();
    match cotangent_tests::code_times::run() {
        Ok(()) => leave(0),
        Err(error) => {
            eprintln!("error: {error}");
            leave(1)
        }
    }
}
