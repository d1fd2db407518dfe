//! Parity with other implementations, and the benchmark that is run beside theirs.

pub mod bench;
pub mod parity;

/// The README's kernel, compiled as a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
