//! `cargo xtask parity DIR`: a table of deviations from the references in a folder; fails past a bound.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(dir), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: parity DIR   (a folder with config.json, safetensors and reference.safetensors)");
        return ExitCode::from(2);
    };
    match cotangent_tests::parity::run(Path::new(&dir)) {
        Ok(table) => {
            print!("{table}");
            if table.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {}", cotangent_tests::describe(&error));
            ExitCode::FAILURE
        }
    }
}
