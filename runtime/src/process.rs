//! The end of a program.

use std::io::Write as _;
use std::process::ExitCode;

use crate::{Backend, backend, ffi};

/// What `main` returns for an exit `code`; on an NVIDIA GPU the process ends here, with what was printed written out.
///
/// There MLX destroys its graphs and modules after `main`, often when the driver has gone: of 250 finished
/// processes on an H100 that shared it by the dozen, 34 then aborted, some with corrupted memory.
pub fn leave(code: u8) -> ExitCode {
    if ffi::is_initialised() && backend() == Ok(Backend::Cuda) {
        // Nothing is left to tell of a stream that is closed.
        let _ = std::io::stdout().flush();
        let _ = std::io::stderr().flush();
        ffi::end_process(code);
    }
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_cuda_main_ends_as_always() {
        if backend() != Ok(Backend::Cuda) {
            assert_eq!(leave(3), ExitCode::from(3));
        }
    }
}
