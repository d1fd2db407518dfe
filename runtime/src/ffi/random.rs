//! Random bits, which mlx-rs does not wrap.

use mlx_rs::Array;

use crate::error::Result;

use super::failure::{initialise, settle};

/// Words of 32 bits, drawn from `key`.
pub(crate) fn random_words(operation: &'static str, shape: &[i32], key: &Array) -> Result<Array> {
    initialise();
    let stream = mlx_rs::Stream::thread_local_or_default();
    // SAFETY: makes a null handle, which owns nothing.
    let mut handle = unsafe { mlx_sys::mlx_array_new() };
    // SAFETY: a null handle to be filled, a shape of the length that is given, live array and stream.
    let status =
        unsafe { mlx_sys::mlx_random_bits(&mut handle, shape.as_ptr(), shape.len(), 4, key.as_ptr(), stream.as_ptr()) };
    // SAFETY: only this function owns the handle, filled or empty.
    let array = unsafe { Array::from_ptr(handle) };
    settle(operation, status)?;
    Ok(array)
}
