//! What MLX reads from the process before it begins, and the end of the process without what C++ does after `main`.

use std::ffi::c_int;

/// On CUDA, MLX keeps graphs by their form, 400 of them unless told otherwise, and gives up once it has missed twice as
/// many as it may keep. (MLX 0.32.2, `mlx/backend/cuda/device.cpp` and `lru_cache.h`.)
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
}

pub(crate) fn end_process(code: u8) -> ! {
    _exit(c_int::from(code))
}
