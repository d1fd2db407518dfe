//! Parity with other implementations, and the benchmark that is run beside theirs.

pub mod attention_times;
pub mod bench;
pub mod code_times;
pub mod compiled;
pub mod deviation;
pub mod endurance;
pub mod expert_times;
pub mod kernel_times;
pub mod loss_times;
pub mod parity;

// These crates are linked for their kernels.
use cotangent_examples as _;
use cotangent_kernels as _;

/// The crates whose kernels are the project's.
pub const CRATES: [&str; 2] = ["cotangent_kernels", "cotangent_examples"];

pub use cotangent_commands::describe;

/// The README's kernel, compiled as a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
