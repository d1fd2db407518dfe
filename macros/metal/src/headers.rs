//! The headers of Metal and C++ that are put before a kernel.

/// Metal source of `tile<T, 16, 16>`, to put in front of a kernel's header when it runs on a real GPU. The emulator has
/// the type built in: `tile_load`, `tile_load_transposed`, `tile_store`, `tile_multiply_accumulate`, `tile_transpose`,
/// `tile_row_sum`, `tile_row_max`, and for right factors `tile_load_right`, `tile_load_right_transposed`, `tile_as_right`,
/// `tile_as_right_transposed`, all of which the 32 lanes of a simdgroup must reach together; `tile_cast`, `tile_for_each`,
/// `tile_with_rows`, `tile_multiply_accumulate_elements`, `tile_copy_rows`, `tile_prefetch_rows`.
pub const TILE_METAL: &str = include_str!("../shim/tile.metal");

/// Metal's scalar and vector types in C++, on a host and in CUDA.
pub const TYPES: &str = include_str!("../shim/types.h");

/// Metal's functions of numbers in C++, on a host and in CUDA.
pub const MATH: &str = include_str!("../shim/math.h");

/// Metal's nested namespaces in C++, for all targets.
pub const NAMESPACES: &str = include_str!("../shim/namespaces.h");

/// The text that MLX puts before every kernel, in C++, on a host and in CUDA.
pub const MLX: &str = include_str!("../shim/mlx.h");

/// Metal's functions that pack vectors into integers, in C++, on a host and in CUDA.
pub const PACK: &str = include_str!("../shim/pack.h");

/// The headers that all CUDA kernels share, in order.
const CUDA: [&str; 6] =
    [include_str!("../shim/cuda_begin.h"), TYPES, MATH, NAMESPACES, include_str!("../shim/cuda.h"), MLX];

/// The start of every [`CudaText::header`](crate::CudaText::header).
pub(crate) fn shared_by_cuda() -> String {
    CUDA.concat()
}
