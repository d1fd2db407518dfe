//! Times causal attention at full size, in blocks beside strips; a table on standard output.

use std::process::ExitCode;

use cotangent::leave;

fn main() -> ExitCode {
    match cotangent_tests::attention_times::run() {
        Ok(()) => leave(0),
        Err(error) => {
            eprintln!("error: {error}");
            leave(1)
        }
    }
}
