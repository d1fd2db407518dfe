//! The kernels of Qwen3.5, each with its gradient.
