//! `cargo xtask bench CONFIG.json`: times LoRA training steps; JSON on standard output, progress on standard error.

use std::path::Path;
use std::process::ExitCode;

use cotangent::leave;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(file), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: bench CONFIG.json   (see tests/reference/bench_small.json)");
        return ExitCode::from(2);
    };
    match cotangent_tests::bench::run(Path::new(&file)) {
        Ok(report) => {
            println!("{report:#}");
            leave(0)
        }
        Err(error) => {
            eprintln!("error: {}", cotangent_tests::describe(&error));
            leave(1)
        }
    }
}
