//! `cargo xtask parity DIR [REFERENCES]`: a table of deviations from the references in a folder; fails past a bound.

use std::path::Path;
use std::process::ExitCode;

use cotangent::kernel::{self, Calls};
use cotangent::leave;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (dir, references) = match arguments.as_slice() {
        [dir] => (dir, dir),
        [dir, references] => (dir, references),
        _ => {
            eprintln!(
                "usage: parity DIR [REFERENCES]   (a folder with config.json and safetensors, and the one with \
                 reference.safetensors, if that is another)"
            );
            return ExitCode::from(2);
        }
    };
    match cotangent_tests::parity::run(Path::new(dir), Path::new(references)) {
        Ok(table) => {
            print!("{table}");
            println!("kernels that ran: {}", counted(|calls| calls.kernel));
            println!("kernels whose fallbacks ran: {}", counted(|calls| calls.fallback));
            leave(u8::from(!table.passed()))
        }
        Err(error) => {
            eprintln!("error: {}", cotangent_tests::describe(&error));
            leave(1)
        }
    }
}

/// The kernels with calls of this kind, and how many.
fn counted(of: impl Fn(&Calls) -> u64) -> String {
    let calls = kernel::calls();
    let counted = calls.iter().map(|(name, calls)| (name, of(calls))).filter(|(_, count)| *count > 0);
    let counted: Vec<String> = counted.map(|(name, count)| format!("{name} {count}")).collect();
    if counted.is_empty() { "none".to_owned() } else { counted.join(", ") }
}
