//! Runs Metal kernels on the CPU and finds their races.
