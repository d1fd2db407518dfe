//! The Metal that kernels are written in, in one place: its words, types and limits; a kernel as MLX takes it; its source
//! as tokens; its translation to C++ and CUDA.
//!
//! | | |
//! |---|---|
//! | [`names`], [`left_out`], [`elsewhere`], [`limits`], [`Dtype`] | what Metal has, and what it does not have |
//! | [`KernelText`] | a kernel as MLX's `metal_kernel` takes it |
//! | `tokens` (feature `tokens`) | the source in a declaration, or in the file that one names, as tokens, and what it does with names |
//! | [`translate`] | C++ for the emulator and for clang's checks |
//! | [`cuda_text`], [`CudaUnit`] | CUDA for MLX's `cuda_kernel`, and for NVIDIA's compiler alone |
//! | [`headers`] | the Metal of `tile<T, 16, 16>`, and the C++ that stands for Metal's own functions |
//!
//! Nothing here is unsafe, runs a program or loads a library. It opens only files that a declaration names.

#[cfg(feature = "tokens")]
mod arity;
mod content_key;
mod cuda;
mod cuda_unit;
mod dtype;
pub mod elsewhere;
mod error;
pub mod headers;
mod kernel;
mod lanes;
pub mod left_out;
pub mod limits;
mod location;
pub mod names;
mod nearest;
#[cfg(feature = "tokens")]
pub mod tokens;
pub mod translate;

pub use content_key::content_key;
pub use cuda::{CudaGrid, CudaText, GRID_INPUT, cuda_text};
pub use cuda_unit::{CudaUnit, batches};
pub use dtype::Dtype;
pub use error::Error;
pub use kernel::{KernelText, Port, Source, TemplateValue};
pub use location::Location;
