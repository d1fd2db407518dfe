//! The devices that this build of MLX can use here, and their names.

use std::ffi::{CStr, c_char};

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

/// MLX's version.
pub(crate) fn mlx_version() -> Option<String> {
    initialise();
    // SAFETY: takes nothing; freed below.
    let mut text = unsafe { mlx_sys::mlx_string_new() };
    // SAFETY: fills the string that was just made.
    let status = unsafe { mlx_sys::mlx_version(&mut text) };
    let version = (status == 0).then(|| {
        // SAFETY: a filled string: NUL-terminated, alive until it is freed.
        unsafe { owned(mlx_sys::mlx_string_data(text)) }
    });
    // SAFETY: owned, and freed once; the status is not needed.
    let _ = unsafe { mlx_sys::mlx_string_free(text) };
    version.flatten()
}

/// Returns the maker's name of this thread's default device.
pub(crate) fn device_name() -> Option<String> {
    device_information(c"device_name")
}

/// The architecture of this thread's default device: `sm_90`.
pub(crate) fn device_architecture() -> Option<String> {
    device_information(c"architecture")
}

fn device_information(key: &CStr) -> Option<String> {
    initialise();
    // SAFETY: takes nothing; freed below.
    let (mut device, mut information) = unsafe { (mlx_sys::mlx_device_new(), mlx_sys::mlx_device_info_new()) };
    let mut name: *const c_char = std::ptr::null();
    // SAFETY: each call fills what was just made or, the last, one pointer; the key is NUL-terminated.
    let found = unsafe {
        mlx_sys::mlx_get_default_device(&mut device) == 0
            && mlx_sys::mlx_device_info_get(&mut information, device) == 0
            && mlx_sys::mlx_device_info_get_string(&mut name, information, key.as_ptr()) == 0
    };
    // SAFETY: null, or text that lives as long as the information.
    let name = if found { unsafe { owned(name) } } else { None };
    // SAFETY: both owned, and freed once; the status is not needed.
    let _ = unsafe { (mlx_sys::mlx_device_info_free(information), mlx_sys::mlx_device_free(device)) };
    name
}

/// # Safety
/// `text` is null or NUL-terminated and alive.
unsafe fn owned(text: *const c_char) -> Option<String> {
    // SAFETY: by this function's contract.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}
