//! Which devices this build of MLX can use here.

use super::failure::initialise;

pub(crate) fn metal_is_available() -> bool {
    initialise();
    let mut available = false;
    // SAFETY: writes one bool.
    let status = unsafe { mlx_sys::mlx_metal_is_available(&mut available) };
    status == 0 && available
}

pub(crate) fn cuda_is_available() -> bool {
    initialise();
    let mut available = false;
    // SAFETY: writes one bool.
    let status = unsafe { mlx_sys::mlx_cuda_is_available(&mut available) };
    status == 0 && available
}
