//! Computations that the CPU backend does in Rust, on slices.
//!
//! MLX's CPU build for x86 has no vectors wider than one element. Its exponential calls the C library for each
//! multiply-add and costs 12 ns an element, and each operation is a separate pass over memory, on one thread. Here a
//! formula of several operations is one pass, vectorised, on all cores.
//!
//! Inputs are evaluated in the middle of the graph. That is safe in the two places that call this: inside a custom VJP,
//! whose forward and backward MLX never differentiates, and in inference. But while MLX traces, an evaluated array
//! keeps what it was computed from if a traced array is among it. So a body that works in chunks begins with [`leaf`]
//! of its inputs, or it holds all chunks at the end.

mod codes;
mod cross_entropy;
mod elementwise;
mod exponential;
mod threads;

pub use codes::decode_codes;
pub use cross_entropy::{CrossEntropyRows, cross_entropy_rows};
pub use elementwise::{Formula, elementwise};
pub use exponential::{exp, sigmoid};

use crate::mode::Infer;
use crate::tensor::Tensor;
use crate::{Backend, Result};

/// Returns whether tensors like these are computed here: float32, on the CPU backend.
fn takes(tensors: &[&Tensor<Infer>]) -> Result<bool> {
    let is_taken = |tensor: &&Tensor<Infer>| tensor.array().dtype() == mlx_rs::Dtype::Float32;
    Ok(crate::backend()? == Backend::Cpu && tensors.iter().all(is_taken))
}

/// Returns the same values without the graph they came from: what is computed from them is free to go when it is not
/// needed any more, also while MLX traces. On other backends than the CPU, the tensor as it is.
///
/// # Errors
/// [`Error::Mlx`](crate::Error::Mlx) if the tensor cannot be computed.
pub fn leaf(tensor: &Tensor<Infer>) -> Result<Tensor<Infer>> {
    if crate::backend()? != Backend::Cpu {
        return Ok(tensor.clone());
    }
    Ok(Tensor::from_parts(crate::ffi::leaf("leaf", tensor.array())?, tensor.origin()))
}
