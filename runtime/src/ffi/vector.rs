//! An owned `mlx_vector_array`.

use mlx_rs::Array;

use crate::error::Result;

use super::failure::{initialise, last_message};

pub(crate) struct ArrayVector(mlx_sys::mlx_vector_array);

impl ArrayVector {
    /// An empty one, for results.
    pub(crate) fn empty() -> Self {
        initialise();
        // SAFETY: takes nothing; freed in `drop`.
        ArrayVector(unsafe { mlx_sys::mlx_vector_array_new() })
    }

    pub(crate) fn new<'a>(arrays: impl IntoIterator<Item = &'a Array>) -> Self {
        initialise();
        let handles: Vec<_> = arrays.into_iter().map(Array::as_ptr).collect();
        // SAFETY: the handles live through the call, which copies them; freed in `drop`.
        ArrayVector(unsafe { mlx_sys::mlx_vector_array_new_data(handles.as_ptr(), handles.len()) })
    }

    pub(crate) fn raw(&self) -> mlx_sys::mlx_vector_array {
        self.0
    }

    /// Returns the pointer to which MLX writes its result.
    pub(crate) fn raw_mut(&mut self) -> &mut mlx_sys::mlx_vector_array {
        &mut self.0
    }

    pub(crate) fn to_arrays(&self, operation: &'static str) -> Result<Vec<Array>> {
        // SAFETY: `self.0` is a live vector.
        unsafe { read_vector(operation, self.0) }
    }
}

impl Drop for ArrayVector {
    fn drop(&mut self) {
        // SAFETY: owned, and freed once.
        unsafe { mlx_sys::mlx_vector_array_free(self.0) };
    }
}

/// Copies handles out of a vector that somebody else owns.
///
/// # Safety
/// `vector` is null or live.
pub(super) unsafe fn read_vector(operation: &'static str, vector: mlx_sys::mlx_vector_array) -> Result<Vec<Array>> {
    if vector.ctx.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: not null, so live.
    let length = unsafe { mlx_sys::mlx_vector_array_size(vector) };
    (0..length)
        .map(|index| {
            // SAFETY: a fresh handle, filled by the call below and owned by the `Array` from then on.
            let mut handle = unsafe { mlx_sys::mlx_array_new() };
            // SAFETY: `index` is below the length.
            let status = unsafe { mlx_sys::mlx_vector_array_get(&mut handle, vector, index) };
            // SAFETY: only this function owns the handle, filled or empty.
            let array = unsafe { Array::from_ptr(handle) };
            if status == 0 { Ok(array) } else { Err(last_message(operation)) }
        })
        .collect()
}
