//! Qwen3.5 models that train if they compile.

/// The text part of a checkpoint's `config.json`.
pub mod config;
