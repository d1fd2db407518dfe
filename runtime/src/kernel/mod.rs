//! Kernels: declarations, pairing, dispatch.
