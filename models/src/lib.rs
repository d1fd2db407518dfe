//! Qwen3.5 models that train if they compile.

/// Safetensors checkpoints on the host: opened, checked, read lazily, written atomically.
pub mod checkpoint;
/// The text part of a checkpoint's `config.json`.
pub mod config;
pub mod conversion;
pub mod expert_linear;
pub mod images;
pub mod linear;
pub mod norm;
pub mod quoting;
pub mod qwen35;
pub mod reading;
pub mod rope;
pub mod transfer;
pub mod vision;
pub mod weight;
