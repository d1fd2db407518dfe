//! MLX's `cuda_kernel`, which mlx-rs does not wrap.

use std::ffi::{CString, c_char};

use mlx_rs::{Array, Dtype};

use crate::error::{Error, Result};

use super::failure::{initialise, last_message, settle};
use super::vector::ArrayVector;

/// A kernel that MLX compiles when it first runs, and keeps by its name alone.
pub(crate) struct CudaKernel(mlx_sys::mlx_fast_cuda_kernel);

// SAFETY: a function object that copied all it needs and that no call changes; streams, which are a thread's own, come
// with each call.
unsafe impl Send for CudaKernel {}
// SAFETY: as above.
unsafe impl Sync for CudaKernel {}

/// Sizes of one launch.
pub(crate) struct CudaLaunch<'a> {
    /// Shape and dtype of each output.
    pub(crate) outputs: &'a [(&'a [i32], Dtype)],
    /// All threads.
    pub(crate) grid: (i32, i32, i32),
    /// Threads of a block; MLX starts whole blocks.
    pub(crate) threads: (i32, i32, i32),
    /// The value that outputs are filled with before the kernel runs.
    pub(crate) init: Option<f32>,
}

impl CudaKernel {
    /// # Errors
    /// [`Error::Mlx`] if MLX has no CUDA.
    pub(crate) fn new(
        operation: &'static str,
        name: &str,
        (inputs, outputs): (&[&str], &[&str]),
        (header, source): (&str, &str),
        row_contiguous: bool,
    ) -> Result<Self> {
        initialise();
        let [name, header, source] = [name, header, source].map(|text| c_string(operation, text));
        let (name, header, source) = (name?, header?, source?);
        let (inputs, outputs) = (StringVector::new(operation, inputs)?, StringVector::new(operation, outputs)?);
        // SAFETY: strings and vectors live through the call, which copies them; freed in `drop`.
        let kernel = unsafe {
            mlx_sys::mlx_fast_cuda_kernel_new(
                name.as_ptr(),
                inputs.0,
                outputs.0,
                source.as_ptr(),
                header.as_ptr(),
                row_contiguous,
                0,
            )
        };
        if kernel.ctx.is_null() { Err(last_message(operation)) } else { Ok(CudaKernel(kernel)) }
    }

    /// One array for each output, not yet evaluated.
    ///
    /// # Safety
    /// For these inputs and sizes, the text must stay inside its buffers and, without `init`, write every output.
    pub(crate) unsafe fn apply(
        &self,
        operation: &'static str,
        inputs: &[Array],
        launch: &CudaLaunch<'_>,
    ) -> Result<Vec<Array>> {
        let configuration = Configuration::new(operation)?;
        for (shape, dtype) in launch.outputs {
            // SAFETY: a live configuration, a slice with its length.
            settle(operation, unsafe {
                mlx_sys::mlx_fast_cuda_kernel_config_add_output_arg(
                    configuration.0,
                    shape.as_ptr(),
                    shape.len(),
                    (*dtype).into(),
                )
            })?;
        }
        let ((x, y, z), (block_x, block_y, block_z)) = (launch.grid, launch.threads);
        // SAFETY: a live configuration.
        settle(operation, unsafe { mlx_sys::mlx_fast_cuda_kernel_config_set_grid(configuration.0, x, y, z) })?;
        // SAFETY: as above.
        settle(operation, unsafe {
            mlx_sys::mlx_fast_cuda_kernel_config_set_thread_group(configuration.0, block_x, block_y, block_z)
        })?;
        if let Some(value) = launch.init {
            // SAFETY: as above.
            settle(operation, unsafe { mlx_sys::mlx_fast_cuda_kernel_config_set_init_value(configuration.0, value) })?;
        }
        let inputs = ArrayVector::new(inputs);
        let mut outputs = ArrayVector::empty();
        let stream = mlx_rs::Stream::thread_local_or_default();
        // SAFETY: live kernel, vectors, configuration and stream; what the kernel does when it runs is the caller's.
        settle(operation, unsafe {
            mlx_sys::mlx_fast_cuda_kernel_apply(
                outputs.raw_mut(),
                self.0,
                inputs.raw(),
                configuration.0,
                stream.as_ptr(),
            )
        })?;
        outputs.to_arrays(operation)
    }
}

impl Drop for CudaKernel {
    fn drop(&mut self) {
        // SAFETY: owned, and freed once.
        unsafe { mlx_sys::mlx_fast_cuda_kernel_free(self.0) };
    }
}

struct Configuration(mlx_sys::mlx_fast_cuda_kernel_config);

impl Configuration {
    fn new(operation: &'static str) -> Result<Self> {
        // SAFETY: takes nothing; freed in `drop`.
        let configuration = unsafe { mlx_sys::mlx_fast_cuda_kernel_config_new() };
        if configuration.ctx.is_null() { Err(last_message(operation)) } else { Ok(Configuration(configuration)) }
    }
}

impl Drop for Configuration {
    fn drop(&mut self) {
        // SAFETY: owned, and freed once.
        unsafe { mlx_sys::mlx_fast_cuda_kernel_config_free(self.0) };
    }
}

struct StringVector(mlx_sys::mlx_vector_string);

impl StringVector {
    fn new(operation: &'static str, texts: &[&str]) -> Result<Self> {
        let texts = texts.iter().map(|text| c_string(operation, text)).collect::<Result<Vec<_>>>()?;
        let mut pointers: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
        // SAFETY: `texts` outlive the call, which copies them; freed in `drop`.
        let vector = unsafe { mlx_sys::mlx_vector_string_new_data(pointers.as_mut_ptr(), pointers.len()) };
        if vector.ctx.is_null() { Err(last_message(operation)) } else { Ok(StringVector(vector)) }
    }
}

impl Drop for StringVector {
    fn drop(&mut self) {
        // SAFETY: owned, and freed once; the status is not needed.
        let _ = unsafe { mlx_sys::mlx_vector_string_free(self.0) };
    }
}

fn c_string(operation: &'static str, text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::Mlx { operation, message: "a kernel's text holds a zero byte".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_cuda_the_kernel_is_an_error_and_the_process_goes_on() {
        if super::super::cuda_is_available() {
            return;
        }
        let made = CudaKernel::new("copy", "copy_1", (&["x"], &["y"]), ("", "y[0] = x[0];"), true);
        let error = made.err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(error, "`copy`: MLX: [cuda_kernel] No CUDA back-end.");
    }
}
