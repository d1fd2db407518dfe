//! Compile-fail fixtures, snapshots and parity with other implementations.
