//! The backends on which computations run; the choice is made once, at run time.

use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;

use crate::error::{Error, Result};
use crate::ffi;

/// The environment variable that overrides the choice.
const VARIABLE: &str = "COTANGENT_BACKEND";

/// The message where the emulator is asked for and not built in.
pub(crate) const NO_EMULATOR: &str = "this program was built without the feature `emulator` of `cotangent`, which runs the \
                                      source of kernels on the CPU; build it with `--features cotangent/emulator`";

/// The backends on which kernels and operations run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Apple GPU: kernels run as Metal.
    Metal,
    /// NVIDIA GPU: kernels run as CUDA.
    Cuda,
    /// Operations only: kernels run as their fallbacks.
    Cpu,
    /// The CPU, with the kernels' own source run by the emulator: slow, for tests. Needs the feature `emulator`.
    Emulated,
}

impl Backend {
    const ALL: [Backend; 4] = [Backend::Metal, Backend::Cuda, Backend::Cpu, Backend::Emulated];

    /// The name that `COTANGENT_BACKEND` takes.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Metal => "metal",
            Backend::Cuda => "cuda",
            Backend::Cpu => "cpu",
            Backend::Emulated => "emulated",
        }
    }

    /// Bytes that a temporary of a computation in chunks should take: small enough for a CPU's memory, or large enough
    /// that a GPU is not kept waiting for the next chunk.
    pub fn chunk_bytes(self) -> usize {
        match self {
            Backend::Metal | Backend::Cuda => 512 << 20,
            Backend::Cpu | Backend::Emulated => 64 << 20,
        }
    }

    fn is_available(self) -> bool {
        match self {
            Backend::Metal => ffi::metal_is_available(),
            Backend::Cuda => ffi::cuda_is_available(),
            Backend::Cpu => true,
            Backend::Emulated => cfg!(feature = "emulator"),
        }
    }

    /// The override, else the best that is there.
    fn choose(wanted: Option<&str>, is_available: impl Fn(Backend) -> bool) -> Result<Backend> {
        let Some(wanted) = wanted else {
            let order = [Backend::Metal, Backend::Cuda];
            return Ok(order.into_iter().find(|backend| is_available(*backend)).unwrap_or(Backend::Cpu));
        };
        let Some(backend) = Backend::ALL.into_iter().find(|backend| backend.name() == wanted) else {
            return Err(Error::Backend(format!(
                "{VARIABLE} is `{wanted}`, expected `metal`, `cuda`, `cpu` or `emulated`; unset it to let Cotangent choose"
            )));
        };
        if is_available(backend) {
            return Ok(backend);
        }
        if backend == Backend::Emulated {
            return Err(Error::Backend(format!("{VARIABLE} is `{wanted}`, but {NO_EMULATOR}")));
        }
        Err(Error::Backend(format!(
            "{VARIABLE} is `{wanted}`, but this machine or this build of MLX has no such device; set it to \
             `cpu` to go on with the CPU"
        )))
    }

    /// Makes MLX use this backend's device for all that this thread builds from now on.
    pub(crate) fn make_default(self) -> Result<()> {
        let device = match self {
            Backend::Metal | Backend::Cuda => mlx_rs::Device::gpu(),
            Backend::Cpu | Backend::Emulated => mlx_rs::Device::cpu(),
        };
        mlx_rs::Device::set_default(&device);
        Ok(())
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

thread_local! {
    /// The backend of a check on this thread, which replaces the process's choice.
    static CHECKED_ON: Cell<Option<Backend>> = const { Cell::new(None) };
}

/// Runs `function` with another backend on this thread, MLX's device included.
///
/// # Errors
/// [`Error::Backend`] if this machine does not have it; what `function` returns.
pub(crate) fn with_backend<R>(wanted: Backend, function: impl FnOnce() -> Result<R>) -> Result<R> {
    struct Restore(Option<Backend>, Backend);
    impl Drop for Restore {
        fn drop(&mut self) {
            CHECKED_ON.set(self.0);
            // This cannot fail, because the device was the default before.
            let _ = self.1.make_default();
        }
    }
    if !wanted.is_available() {
        if wanted == Backend::Emulated {
            return Err(Error::Backend(NO_EMULATOR.to_owned()));
        }
        return Err(Error::Backend(format!(
            "the {wanted} backend was asked for, but this machine or this build of MLX has no such device; check on `emulated`"
        )));
    }
    let _restore = Restore(CHECKED_ON.get(), backend()?);
    CHECKED_ON.set(Some(wanted));
    wanted.make_default()?;
    function()
}

/// The backend of this process, chosen at the first call: Metal, else CUDA, else the CPU;
/// `COTANGENT_BACKEND=metal|cuda|cpu|emulated` overrides. Within [`check_on`](crate::kernel::check::check_on), the one that is
/// checked.
///
/// # Errors
/// [`Error::Backend`] if the override is unknown or not available.
pub fn backend() -> Result<Backend> {
    if let Some(backend) = CHECKED_ON.get() {
        return Ok(backend);
    }
    static CHOSEN: OnceLock<Result<Backend>> = OnceLock::new();
    CHOSEN.get_or_init(|| Backend::choose(std::env::var(VARIABLE).ok().as_deref(), Backend::is_available)).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_has_a_backend_of_its_own_until_it_ends() {
        let own = backend().unwrap();
        let inside = with_backend(Backend::Emulated, backend);
        assert_eq!((inside, backend()), (Ok(Backend::Emulated), Ok(own)));
        let failed: Result<()> = with_backend(Backend::Emulated, || Err(Error::Other("failed".into())));
        assert!(failed.is_err() && backend() == Ok(own));
    }

    #[test]
    fn the_override_wins_and_must_be_there() {
        let only_cuda = |backend| backend != Backend::Metal;
        let nothing = |backend| matches!(backend, Backend::Cpu | Backend::Emulated);
        assert_eq!(Backend::choose(None, |_| true), Ok(Backend::Metal));
        assert_eq!(Backend::choose(None, only_cuda), Ok(Backend::Cuda));
        assert_eq!(Backend::choose(None, nothing), Ok(Backend::Cpu));
        assert_eq!(Backend::choose(Some("emulated"), |_| true), Ok(Backend::Emulated));
        let absent = Backend::choose(Some("metal"), nothing).unwrap_err().to_string();
        assert!(absent.contains("no such device"), "{absent}");
        let left_out = Backend::choose(Some("emulated"), |backend| backend == Backend::Cpu).unwrap_err().to_string();
        assert_eq!(left_out, format!("COTANGENT_BACKEND is `emulated`, but {NO_EMULATOR}"));
        let unknown = Backend::choose(Some("Metal"), |_| true).unwrap_err().to_string();
        assert!(unknown.contains("expected `metal`, `cuda`, `cpu` or `emulated`"), "{unknown}");
    }
}
