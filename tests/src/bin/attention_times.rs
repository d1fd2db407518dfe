//! Times causal attention at full size, in blocks beside strips; a table on standard output.

use std::process::ExitCode;

fn main() -> ExitCode {
    match cotangent_tests::attention_times::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
