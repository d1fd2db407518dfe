//! Times the smaller kernels at full size, each beside its fallback; a table on standard output.

use std::process::ExitCode;

use cotangent::leave;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (only, None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: kernel_times [PART OF A NAME]");
        return ExitCode::from(2);
    };
    match cotangent_tests::kernel_times::run(only.as_deref()) {
        Ok(()) => leave(0),
        Err(error) => {
            eprintln!("error: {error}");
            leave(1)
        }
    }
}
