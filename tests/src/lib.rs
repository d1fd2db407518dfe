//! Parity with other implementations, the benchmark that is run beside theirs, and checks of kernels.

pub mod attention_times;
pub mod bench;
pub mod check;
pub mod deviation;
pub mod endurance;
pub mod expert_times;
pub mod kernel_table;
pub mod kernel_times;
pub mod loss_times;
pub mod mutate;
pub mod parity;

/// An error with its causes in one line, those left out that it tells itself.
pub fn describe(error: &anyhow::Error) -> String {
    error
        .chain()
        .skip(1)
        .map(ToString::to_string)
        .fold(error.to_string(), |told, cause| if told.contains(&cause) { told } else { format!("{told}: {cause}") })
}

/// The README's kernel, compiled as a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
