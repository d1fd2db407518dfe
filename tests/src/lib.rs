//! Parity with other implementations, and the benchmark that is run beside theirs.

pub mod bench;
pub mod parity;
