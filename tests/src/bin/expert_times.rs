//! Times the products of many experts at full size, in several ways; tables on standard output.

use std::process::ExitCode;

use cotangent::leave;

fn main() -> ExitCode {
    match cotangent_tests::expert_times::run() {
        Ok(()) => leave(0),
        Err(error) => {
            eprintln!("error: {error}");
            leave(1)
        }
    }
}
