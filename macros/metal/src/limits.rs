//! The limits of Metal for a kernel.

/// Threads of one threadgroup.
pub const MAX_THREADS: i64 = 1024;

/// Bytes of threadgroup memory of one threadgroup.
pub const MAX_THREADGROUP_BYTES: i64 = 32 * 1024;

/// Buffers of one kernel, with those in which MLX passes shapes and strides.
pub const MAX_BUFFERS: usize = 31;
