//! Kernels that cannot be called without their gradient.
//!
//! A kernel is declared with [`#[differentiable]`](macro@crate::differentiable). The macro checks the declaration and
//! generates data: a marker type that implements [`Kernel`] with a constant [`Signature`](signature::Signature), and a
//! function that calls [`call`]. This module holds everything that data is interpreted with:
//!
//! - [`signature`]: what a declaration says, as constants,
//! - [`pairing`]: the proof, at compile time, that a backward belongs to its forward,
//! - [`registry`]: every kernel of the program,
//! - [`check`]: gradients of all of them against finite differences and against their fallbacks.

mod binding;
mod call;
pub mod check;
mod declaration;
mod dispatch;
mod launch;
pub mod pairing;
pub mod registry;
pub mod signature;
mod value;

pub use call::{Call, Outputs, Stages};
pub use declaration::{
    BackwardOf, Body, Declaration, Differentiable, Fallback, Kernel, Launch, PairedWith, Route, Run,
};
pub use dispatch::{call, call_stage};
pub use registry::kernels;
pub use value::{ConstantValue, PortValue, ScalarValue};
