//! What MLX has allocated, in bytes.

use crate::error::{Context as _, Result};
use crate::ffi;

/// Bytes in live arrays.
///
/// # Errors
/// [`Error::Mlx`](crate::Error::Mlx) if MLX refuses.
pub fn active() -> Result<usize> {
    ffi::initialise();
    mlx_rs::memory::active_memory().during("memory::active")
}

/// The most bytes that have been in live arrays since the start, or since [`reset_peak`].
///
/// # Errors
/// [`Error::Mlx`](crate::Error::Mlx) if MLX refuses.
pub fn peak() -> Result<usize> {
    ffi::initialise();
    mlx_rs::memory::peak_memory().during("memory::peak")
}

/// Makes [`peak`] start over.
///
/// # Errors
/// [`Error::Mlx`](crate::Error::Mlx) if MLX refuses.
pub fn reset_peak() -> Result<()> {
    ffi::initialise();
    mlx_rs::memory::reset_peak_memory().during("memory::reset_peak")
}

/// Bytes kept for reuse.
///
/// # Errors
/// [`Error::Mlx`](crate::Error::Mlx) if MLX refuses.
pub fn cached() -> Result<usize> {
    ffi::initialise();
    mlx_rs::memory::cache_memory().during("memory::cached")
}

/// Gives the bytes kept for reuse back to the system.
///
/// # Errors
/// [`Error::Mlx`](crate::Error::Mlx) if MLX refuses.
pub fn clear_cache() -> Result<()> {
    ffi::initialise();
    mlx_rs::memory::clear_cache().during("memory::clear_cache")
}
