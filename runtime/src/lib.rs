//! Tensors, kernels and gradients on MLX that cannot be silently wrong.
