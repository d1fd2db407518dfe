//! Times the loss over the vocabulary at full size; a table on standard output.

use std::process::ExitCode;

use cotangent::leave;

fn main() -> ExitCode {
    match cotangent_tests::loss_times::run() {
        Ok(()) => leave(0),
        Err(error) => {
            eprintln!("error: {error}");
            leave(1)
        }
    }
}
