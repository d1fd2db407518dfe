//! `cargo xtask bench CONFIG.json`: times LoRA training steps; JSON on standard output, progress on standard error. With
//! `--record` it writes the gradients of one step instead, which `--against` compares with those of another backend.

use std::path::Path;
use std::process::ExitCode;

use cotangent::{enter, leave};

const USAGE: &str =
    "usage: bench CONFIG.json [--random-lengths STEPS | --record FILE | --against FILE]   (see tests/bench)";

fn main() -> ExitCode {
    enter();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [file] if !file.starts_with('-') => {
            cotangent_tests::bench::run(Path::new(file)).map(|report| println!("{report:#}"))
        }
        [file, "--random-lengths", steps] if steps.parse::<usize>().is_ok() => {
            cotangent_tests::endurance::run(Path::new(file), steps.parse().unwrap_or_default())
        }
        [file, "--record", record] => cotangent_tests::bench::record(Path::new(file), Path::new(record)),
        [file, "--against", record] => {
            cotangent_tests::bench::compare(Path::new(file), Path::new(record)).and_then(|table| {
                print!("{table}");
                for comparison in table.all() {
                    println!("{:>9.1e}  {}", comparison.deviation, comparison.tensor);
                }
                if table.passed() { Ok(()) } else { Err(anyhow::anyhow!("a deviation is past its bound")) }
            })
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => leave(0),
        Err(error) => {
            eprintln!("error: {}", cotangent_tests::describe(&error));
            leave(1)
        }
    }
}
