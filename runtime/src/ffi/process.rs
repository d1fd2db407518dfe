//! Sets what MLX reads from the environment before it starts, and ends the process without the destructors of C++.

use std::ffi::c_int;

/// The variable that sets how many graphs MLX caches on CUDA, and the value that it gets here. MLX caches graphs by
/// their form, 400 by default, and fails once it has missed twice as many as it may keep. (MLX 0.32.2,
/// `mlx/backend/cuda/device.cpp` and `lru_cache.h`.)
const GRAPHS: (&str, &str) = ("MLX_CUDA_GRAPH_CACHE_SIZE", "2048");

/// Gives MLX more room for graphs, unless the user has said how much.
pub(super) fn make_room_for_graphs() {
    if std::env::var_os(GRAPHS.0).is_none() {
        // SAFETY: once, before the first call into MLX; Rust's own readers of the environment are locked out meanwhile,
        // and no C code of this crate's runs yet.
        unsafe { std::env::set_var(GRAPHS.0, GRAPHS.1) };
    }
}

unsafe extern "C" {
    /// POSIX: ends the process without running what was registered for its end.
    safe fn _exit(status: c_int) -> !;

    /// C: makes `handler` what a signal calls, and returns what it called before.
    unsafe fn signal(signal: c_int, handler: usize) -> usize;
}

/// The signal of a terminal that closes, and what stands for ignoring a signal: the same on Linux and macOS.
const SIGHUP: c_int = 1;
const SIG_IGN: usize = 1;

/// Returns whether the process ignores SIGHUP. The one way to ask in C alone is to set and put back: meanwhile it is
/// ignored.
pub(crate) fn ignores_hangup() -> bool {
    // SAFETY: both handlers are valid: `SIG_IGN`, and the one that the process had.
    unsafe {
        let before = signal(SIGHUP, SIG_IGN);
        signal(SIGHUP, before);
        before == SIG_IGN
    }
}

pub(crate) fn end_process(code: u8) -> ! {
    _exit(c_int::from(code))
}
