//! Times the loss over the vocabulary at full size; a table on standard output.

use std::process::ExitCode;

fn main() -> ExitCode {
    match cotangent_tests::loss_times::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
