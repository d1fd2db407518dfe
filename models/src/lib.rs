//! Models of the Qwen3.5 family that train if they compile.
//!
//! A model is written once, as a tree of layers that is generic over its mode. [`qwen35::Model`] is the text model, dense or with
//! experts; with the tower of [`vision`] it reads pictures. A checkpoint's `config.json` gives the tree of *planned* tensors, and
//! loading, counting, adapters and checks are visits of that tree.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use cotangent::Dtype;
//! use cotangent::random::Key;
//! use cotangent_models::qwen35::{LoraOptions, LoraTargets, Model};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (mut model, config, findings) = Model::load(Path::new("path/to/Qwen3.5-0.8B"), Dtype::BF16)?;
//! println!("{} layers; checksum of the weights: {}", config.layers.len(), findings.fingerprint);
//! let lora = LoraOptions { rank: 16, targets: LoraTargets::All, ..LoraOptions::default() };
//! model.add_adapters(&lora, &Key::new(0)?)?;
//! for (name, adapter) in model.adapters() {
//!     println!("{name} {:?}", adapter.shape());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | modules | what they are for |
//! |---|---|
//! | [`qwen35`] | the text model: attention, gated delta net, experts, multi-token prediction, LoRA, and its stages for the drivers that train it |
//! | [`vision`], [`images`] | the vision tower, and pictures as the patches that it reads |
//! | [`linear`], [`expert_linear`], [`weight`], [`norm`], [`rope`] | the layers that models are made of |
//! | [`config`] | `config.json`: every key is read, known not to matter, or named |
//! | [`checkpoint`], [`transfer`] | safetensors files on the host, and tensors between host and device |
//! | [`conversion`] | checkpoints quantized and written in MLX's layout |
//! | [`reading`], [`quoting`] | small files read within bounds, and names of files as messages show them |
//!
//! `cotangent-kernels` has the kernels; `cotangent-trainer` has the training loop, the data and the command.

pub mod checkpoint;
pub mod config;
pub mod conversion;
pub mod expert_linear;
pub mod images;
mod kernels;
pub mod linear;
pub mod norm;
pub mod quoting;
pub mod qwen35;
pub mod reading;
pub mod rope;
pub mod transfer;
pub mod vision;
pub mod weight;
