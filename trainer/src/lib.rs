//! The library under the `cotangent` command, which fine-tunes models of the Qwen3.5 family.
//!
//! A run takes four steps: [`base_model::BaseModel`] loads a checkpoint with its tokenizer and chat template, and gets adapters;
//! [`data::Dataset`] reads conversations and marks what the assistant says; [`training::Trainer`] makes the steps; [`adapter`] writes
//! folders that mlx-lm reads. `examples/lora.rs` of the project does all four in sixty lines.
//!
//! | modules | what they are for |
//! |---|---|
//! | [`base_model`], [`adapter`] | checkpoints and adapters as folders, those of other programs included |
//! | [`data`], [`pictures`], [`show`] | conversations and pictures as batches with labels, and which tokens of them are learned |
//! | [`training`], [`schedule`], [`reporting`], [`loss_curve`], [`interrupt`] | the loop, what it reports, and how it ends |
//! | [`generation`], [`sampling`] | answers of a model, token by token |
//! | [`audit`] | the gradient of every parameter, and every place that cuts one |

pub mod adapter;
pub mod audit;
pub mod base_model;
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
