//! The beginning and the end of a program.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crate::{Backend, backend, ffi};

/// The variable that says how long threads of OpenBLAS stay awake after a matrix product, as a power of two of the
/// processor's ticks. OpenBLAS reads it when it is loaded.
const BLAS_TIMEOUT: (&str, &str) = ("OPENBLAS_THREAD_TIMEOUT", "14");

/// Prepares the process; `main` calls it first.
///
/// On Linux it executes the program again in the same process, with `OPENBLAS_THREAD_TIMEOUT` set, unless the user has set that. Results
/// are the same without it, but training on a CPU is slower: OpenBLAS would keep its threads awake for 20 ms after each product, which on
/// two virtual cores took a fifth of the speed of all other operations.
pub fn enter() {
    if cfg!(target_os = "linux")
        && let Some(mut again) = again(std::env::var_os(BLAS_TIMEOUT.0).as_deref())
    {
        // `exec` returns only if it fails.
        let _ = again.exec();
    }
}

/// Returns the command of this program with the variable, if it has none.
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

/// Ends a program with the exit `code`: `main` returns the result. On an NVIDIA GPU the process ends inside this call, after
/// standard output is written out.
///
/// On such a GPU MLX destroys its graphs and modules after `main`, often when the driver has gone: of 250 finished
/// processes on an H100 that shared it by the dozen, 34 then aborted, some with corrupted memory.
pub fn leave(code: u8) -> ExitCode {
    if ffi::is_initialised() && backend() == Ok(Backend::Cuda) {
        // If the stream is closed, there is no place left for an error.
        let _ = std::io::stdout().flush();
        let _ = std::io::stderr().flush();
        ffi::end_process(code);
    }
    ExitCode::from(code)
}

/// Returns whether the process ignores SIGHUP, as programs under `nohup` do. Call it before you handle the signal.
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
