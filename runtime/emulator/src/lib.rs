//! Runs Metal kernels on the CPU and finds what a GPU would hide: races, accesses out of bounds, reads of
//! uninitialised memory, divergent barriers.
//!
//! A kernel is given as MLX's `metal_kernel` takes it ([`KernelText`]), a launch as data and sizes ([`Launch`]); a run
//! gives outputs and findings ([`Run`], [`Finding`]).

mod build;
mod dtype;
mod emulator;
mod error;
mod finding;
mod kernel;
mod launch;
mod machine;
mod report;
mod text;

pub use dtype::Dtype;
pub use emulator::Emulator;
pub use error::Error;
pub use finding::{Action, Finding, FindingKind, Location, Side, Thread};
pub use kernel::{KernelText, Port, Source, TemplateValue};
pub use launch::{Buffer, Checks, Launch, Run, Schedule};
