//! The beginning and the end of a program.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crate::{Backend, backend, ffi};

/// How long threads of OpenBLAS stay awake after a product of matrices, as a power of two of the processor's ticks; it reads
/// the variable when it is loaded.
const BLAS_TIMEOUT: (&str, &str) = ("OPENBLAS_THREAD_TIMEOUT", "14");

/// What `main` does first: on Linux, the program begins once more in the same process, with the environment that OpenBLAS
/// needs, unless the user has set it. Without it programs are right and, on a CPU, slower.
///
/// OpenBLAS keeps its threads awake for some twenty milliseconds after a product, so that they always are while a model
/// trains: on two virtual cores that took a fifth of the speed of all other operations.
pub fn enter() {
    if cfg!(target_os = "linux")
        && let Some(mut again) = again(std::env::var_os(BLAS_TIMEOUT.0).as_deref())
    {
        // It returns only if it fails.
        let _ = again.exec();
    }
}

/// This program with the variable, where it has none.
fn again(value: Option<&OsStr>) -> Option<Command> {
    let program = std::env::current_exe().ok().filter(|_| value.is_none())?;
    let mut arguments = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments).env(BLAS_TIMEOUT.0, BLAS_TIMEOUT.1);
    Some(command)
}

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

/// Whether the process ignores SIGHUP, as programs under `nohup` do. To be asked before the signal is handled.
pub fn ignores_hangup() -> bool {
    ffi::ignores_hangup()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_begins_again_where_the_variable_is_missing() {
        assert!(again(Some(OsStr::new("26"))).is_none());
        let command = again(None).unwrap();
        let variables: Vec<_> = command.get_envs().collect();
        assert_eq!(variables, [(OsStr::new("OPENBLAS_THREAD_TIMEOUT"), Some(OsStr::new("14")))]);
        assert!(command.get_args().eq(std::env::args_os().skip(1)));
    }

    #[test]
    fn without_cuda_main_ends_as_always() {
        if backend() != Ok(Backend::Cuda) {
            assert_eq!(leave(3), ExitCode::from(3));
        }
    }
}
