//! MLX's operations on packed codes. mlx-rs wraps them for one mode and for scales that have biases.

use std::ffi::CStr;

use mlx_rs::Array;

use crate::error::Result;

use super::failure::{initialise, settle};
use super::vector::ArrayVector;

/// A matrix of packed codes as MLX's operations take it.
pub(crate) struct Codes<'a> {
    /// Words of 32 bits.
    pub(crate) words: &'a Array,
    /// One scale a group.
    pub(crate) scales: &'a Array,
    /// One bias a group, in the mode `affine` alone.
    pub(crate) biases: Option<&'a Array>,
    /// Columns that share a scale.
    pub(crate) group_size: i32,
    /// Bits of a code.
    pub(crate) bits: i32,
    /// MLX's name of the mode.
    pub(crate) mode: &'static CStr,
}

fn some(value: i32) -> mlx_sys::mlx_optional_int {
    mlx_sys::mlx_optional_int { value, has_value: true }
}

/// A null handle, which the C interface takes for an absent array.
fn absent() -> mlx_sys::mlx_array {
    // SAFETY: makes a null handle, which owns nothing.
    unsafe { mlx_sys::mlx_array_new() }
}

fn handle(array: Option<&Array>) -> mlx_sys::mlx_array {
    array.map_or_else(absent, Array::as_ptr)
}

fn result(
    operation: &'static str,
    fill: impl FnOnce(*mut mlx_sys::mlx_array, mlx_sys::mlx_stream) -> i32,
) -> Result<Array> {
    initialise();
    let stream = mlx_rs::Stream::thread_local_or_default();
    let mut handle = absent();
    let status = fill(&mut handle, stream.as_ptr());
    // SAFETY: only this function owns the handle, filled or empty.
    let array = unsafe { Array::from_ptr(handle) };
    settle(operation, status)?;
    Ok(array)
}

/// Returns `x W^T`, or `x W` if `transposed` is false, with the matrix `W` that the codes stand for.
pub(crate) fn quantized_matmul(
    operation: &'static str,
    x: &Array,
    codes: &Codes<'_>,
    transposed: bool,
) -> Result<Array> {
    let Codes { words, scales, biases, group_size, bits, mode } = codes;
    result(operation, |handle_of_result, stream| {
        // SAFETY: live arrays and stream, a null handle where there are no biases, a string that ends in zero.
        unsafe {
            mlx_sys::mlx_quantized_matmul(
                handle_of_result,
                x.as_ptr(),
                words.as_ptr(),
                scales.as_ptr(),
                handle(*biases),
                transposed,
                some(*group_size),
                some(*bits),
                mode.as_ptr(),
                stream,
            )
        }
    })
}

/// Returns the matrix that the codes stand for, in `dtype`.
pub(crate) fn dequantize(operation: &'static str, codes: &Codes<'_>, dtype: mlx_rs::Dtype) -> Result<Array> {
    let Codes { words, scales, biases, group_size, bits, mode } = codes;
    let dtype = mlx_sys::mlx_optional_dtype { value: dtype as mlx_sys::mlx_dtype, has_value: true };
    result(operation, |handle_of_result, stream| {
        // SAFETY: as above; a null handle, as there is no scale of the whole matrix.
        unsafe {
            mlx_sys::mlx_dequantize(
                handle_of_result,
                words.as_ptr(),
                scales.as_ptr(),
                handle(*biases),
                some(*group_size),
                some(*bits),
                mode.as_ptr(),
                absent(),
                dtype,
                stream,
            )
        }
    })
}

/// The codes of `matrix`, its scales and, in the mode `affine`, its biases.
pub(crate) fn quantize(
    operation: &'static str,
    matrix: &Array,
    group_size: i32,
    bits: i32,
    mode: &'static CStr,
) -> Result<Vec<Array>> {
    initialise();
    let stream = mlx_rs::Stream::thread_local_or_default();
    let mut parts = ArrayVector::empty();
    // SAFETY: a live array and stream, a fresh vector, a string that ends in zero, no scale of the whole matrix.
    let status = unsafe {
        mlx_sys::mlx_quantize(
            parts.raw_mut(),
            matrix.as_ptr(),
            some(group_size),
            some(bits),
            mode.as_ptr(),
            absent(),
            stream.as_ptr(),
        )
    };
    settle(operation, status)?;
    parts.to_arrays(operation)
}
