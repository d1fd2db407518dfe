//! Everything that touches MLX's C interface. The only other unsafe code of the crate is in `kernel/launch` and
//! `host/threads.rs`.
//!
//! What the C interface does and does not promise was found by experiment (MLX 0.32.2):
//! result handles arrive null, argument vectors are freed by the caller, callbacks that return non-zero make it throw.

mod array;
mod closure;
mod cuda_kernel;
mod device;
mod failure;
mod process;
mod quantized;
mod random;
mod vector;

pub(crate) use array::{
    HostSlices, array_from_bytes, array_from_slice, array_of_vec, array_to_bytes, before_evaluation, depends, evaluate,
    evaluate_async, leaf, slice,
};
#[cfg(feature = "emulator")]
pub(crate) use array::{Strided, array_to_strided_bytes};
pub(crate) use closure::{Closure, Custom, ScopedClosure};
pub(crate) use cuda_kernel::{CudaKernel, CudaLaunch};
pub(crate) use device::{cuda_is_available, device_architecture, device_name, metal_is_available, mlx_version};
pub(crate) use failure::{initialise, is_initialised};
pub(crate) use process::{end_process, ignores_hangup};
pub(crate) use quantized::{Codes, dequantize, quantize, quantized_matmul};
pub(crate) use random::random_words;
