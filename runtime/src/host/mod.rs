//! Computations that the CPU backend does in Rust, on slices.
//!
//! MLX's CPU build for x86 has no vectors wider than one element: its exponential calls the C library for each
//! multiply-add and costs 12 ns an element, and each operation is a pass over memory of its own, on one thread. Here a
//! formula of several operations is one pass, vectorised, on all cores.
//!
//! Values are evaluated where they are met. That is safe where this is reached from: inside a custom VJP, whose forward
//! and backward MLX never differentiates, and in inference. But while MLX traces, an evaluated array keeps what it was
//! computed from: a body that calls this should do so with its own inputs, or once a chunk.

mod elementwise;
mod exponential;
mod softmax;
mod threads;

pub use elementwise::{Formula, elementwise};
pub use exponential::{exp, sigmoid};
pub use softmax::{SoftmaxRows, softmax_rows};

use crate::mode::Infer;
use crate::tensor::Tensor;
use crate::{Backend, Dtype, Result};

/// Whether tensors like these are computed here: float32, on the CPU backend.
fn takes(tensors: &[&Tensor<Infer>]) -> Result<bool> {
    Ok(crate::backend()? == Backend::Cpu && tensors.iter().all(|tensor| tensor.dtype() == Dtype::F32))
}
