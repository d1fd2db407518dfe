//! The cotangent command: fine-tunes Qwen3.5.

/// From a JSON-lines file of conversations to padded batches with labels.
pub mod data;
