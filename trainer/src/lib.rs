//! The cotangent command: fine-tunes Qwen3.5.

/// Adapter folders in the format of mlx-lm.
pub mod adapter;
pub mod audit;
pub mod base_model;
/// From a JSON-lines file of conversations to padded batches with labels.
pub mod data;
pub mod generation;
pub mod interrupt;
pub mod loss_curve;
mod numbers;
pub mod pictures;
pub mod reporting;
pub mod sampling;
pub mod schedule;
pub mod show;
pub mod training;
