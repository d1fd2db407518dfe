//! Adapter folders: written in the format of mlx-lm, read in those of mlx-lm, mlx-vlm, unsloth's MLX trainer and PEFT.
//!
//! mlx-lm's are `adapter_config.json` and `adapters.safetensors`. Tensors are named
//! `language_model.model.layers.{i}.{module}.lora_a` of shape `[inputs, rank]` and `.lora_b` of shape `[rank, outputs]`; a
//! linear layer then computes `x W^T + scale * (x A) B`. Those of experts are in `mlp.switch_mlp`, of shape
//! `[experts, rank, inputs]` and `[experts, outputs, rank]`. Here they carry the model's own names,
//! `layers.{i}.{module}.lora_a`. PEFT's are `adapter_config.json` with other fields and `adapter_model.safetensors` with
//! both factors transposed; those of experts are adapters of stacked parameters.

mod config;
mod peft;
mod peft_experts;
mod peft_export;
mod tensors;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cotangent::Plan;
use cotangent_models::checkpoint::{CheckpointError, HostTensor};
use cotangent_models::config::TextConfig;
use cotangent_models::quoting::quoted_path;
use cotangent_models::qwen35::Model;

pub use config::AdapterConfig;
pub use peft_experts::StackedTargets;
pub use peft_export::{Exported, export_to_peft};
pub use tensors::{load_tensors, write_tensors};

pub(crate) use tensors::head_file;
use tensors::{AdapterName, common_rank, split_name, tensor_error};

/// The file with the adapter's tensors.
pub const WEIGHTS_FILE: &str = "adapters.safetensors";
/// The file that says how the tensors are meant.
pub const CONFIG_FILE: &str = "adapter_config.json";

/// The file into which other programs write the tensors.
const OTHER_WEIGHTS_FILES: [&str; 2] = ["adapter_model.safetensors", "weights.safetensors"];
/// The files that they write in other formats.
const UNREADABLE_WEIGHTS_FILES: [&str; 2] = ["adapter_model.bin", "adapters.npz"];

/// The reason why an adapter cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// The weights are absent, damaged, or not those of an adapter.
    #[error(transparent)]
    Weights(#[from] CheckpointError),
    /// The configuration is.
    #[error("`{file}`: {reason}", file = quoted_path(file))]
    Config {
        /// The configuration's file.
        file: PathBuf,
        /// The message: what was found and what was expected.
        reason: String,
    },
}

/// An adapter: its configuration, and its tensors by the model's names.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// The file of the tensors.
    pub file: PathBuf,
    /// The configuration that says how the tensors are used.
    pub config: AdapterConfig,
    /// `layers.{i}.{module}.lora_a` and `.lora_b`, always both; and `mtp.*` of a head that trained whole.
    pub tensors: BTreeMap<String, HostTensor>,
}

/// Tensors whose configuration may be unknown.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterFile {
    /// The file of the tensors.
    pub file: PathBuf,
    /// The inner dimension of all.
    pub rank: usize,
    /// The configuration beside the file, if there is one.
    pub config: Option<AdapterConfig>,
    /// The tensors, in the form of those of [`Adapter`].
    pub tensors: BTreeMap<String, HostTensor>,
}

/// The parts of a model that are loaded only where they are needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts {
    /// The vision tower.
    pub tower: bool,
    /// The head of multi-token prediction.
    pub multi_token_head: bool,
}

fn parts(tensors: &BTreeMap<String, HostTensor>) -> Parts {
    let any = |prefix: &str| tensors.keys().any(|name| name.starts_with(prefix));
    Parts { tower: any("visual."), multi_token_head: any("mtp.") }
}

fn layers(tensors: &BTreeMap<String, HostTensor>) -> Vec<String> {
    tensors.keys().filter_map(|name| name.strip_suffix(".lora_a")).map(str::to_owned).collect()
}

impl Adapter {
    /// Returns the parts that the adapter adapts beside the text model.
    pub fn parts(&self) -> Parts {
        parts(&self.tensors)
    }

    /// The adapted layers by full name, such as `layers.3.mlp.up_proj`.
    pub fn layers(&self) -> Vec<String> {
        layers(&self.tensors)
    }

    /// Reads the adapter in folder `dir`.
    ///
    /// # Errors
    /// If a file is absent or damaged, the adapter is of a kind that is not supported, a tensor is not an adapter's, or
    /// tensors and configuration disagree.
    pub fn load(dir: &Path) -> Result<Self, AdapterError> {
        let mut config = AdapterConfig::load(&dir.join(CONFIG_FILE))?;
        let file = weights_file(dir)?;
        let tensors = load_tensors(&file, Some(&config))?;
        take_rank(&mut config, &file, &tensors)?;
        check_agreement(&file, &config, &tensors)?;
        Ok(Self { file, config, tensors })
    }

    /// Checks that every tensor belongs to a linear layer of the model and has its sizes.
    ///
    /// # Errors
    /// Names the first tensor that does not fit.
    pub fn check_fits(&self, model: &TextConfig) -> Result<(), AdapterError> {
        let planned = Model::planned(model, cotangent::Dtype::F32);
        let parameters: BTreeMap<String, Plan> = Plan::all(&planned).into_iter().collect();
        for (name, tensor) in &self.tensors {
            let fail = |reason| Err(tensor_error(&self.file, name, reason));
            let Some(AdapterName { layer, module, factor }) = split_name(name) else {
                match parameters.get(name) {
                    Some(plan) if plan.shape == tensor.shape => continue,
                    _ => {
                        return fail(format!(
                            "has shape {:?}, which no parameter of that name has\nhelp: take the model that was trained",
                            tensor.shape
                        ));
                    }
                }
            };
            let weight = parameters.get(&format!("{}.weight", name.trim_end_matches(factor).trim_end_matches('.')));
            let rank = tensors::rank(name, tensor);
            let expected = match (weight.map(|plan| plan.shape.as_slice()), factor, tensor.shape.len()) {
                (Some(&[_, inputs]), "lora_a", 2) => vec![inputs, rank],
                (Some(&[outputs, _]), _, 2) => vec![rank, outputs],
                (Some(&[experts, _, inputs]), "lora_a", 3) => vec![experts, rank, inputs],
                (Some(&[experts, outputs, _]), _, 3) => vec![experts, outputs, rank],
                _ => {
                    let reason = "belongs to no linear layer of the model\nhelp: take the model that was adapted";
                    return fail(reason.into());
                }
            };
            if tensor.shape != expected {
                return fail(format!(
                    "has shape {:?}, expected {expected:?} as the layer has it\nhelp: take the model that was adapted",
                    tensor.shape
                ));
            }
            if let Err(reason) = self.config.covers(layer, module, Some(model.layers.len())) {
                return fail(reason);
            }
        }
        Ok(())
    }
}

impl AdapterFile {
    /// Reads the adapter at `path`: a folder, or a file of tensors with or without a configuration beside it.
    ///
    /// # Errors
    /// As [`Adapter::load`], except that a file needs no configuration.
    pub fn load(path: &Path) -> Result<Self, AdapterError> {
        if path.is_dir() {
            let Adapter { file, config, tensors } = Adapter::load(path)?;
            return Ok(Self { file, rank: config.rank, config: Some(config), tensors });
        }
        let beside = path.with_file_name(CONFIG_FILE);
        let mut config = if beside.exists() { Some(AdapterConfig::load(&beside)?) } else { None };
        let tensors = load_tensors(path, config.as_ref())?;
        let rank = common_rank(path, &tensors)?;
        let Some(rank) = rank.or(config.as_ref().map(|config| config.rank)) else {
            return Err(tensor_error(path, "lora_a", "is missing".into()));
        };
        if let Some(config) = &mut config {
            take_rank(config, path, &tensors)?;
            check_agreement(path, config, &tensors)?;
        }
        Ok(Self { file: path.to_owned(), rank, config, tensors })
    }

    /// Returns the parts that the adapter adapts beside the text model.
    pub fn parts(&self) -> Parts {
        parts(&self.tensors)
    }

    /// The adapted layers by full name, such as `layers.3.mlp.up_proj`.
    pub fn layers(&self) -> Vec<String> {
        layers(&self.tensors)
    }

    /// The tensors of a head of multi-token prediction that trained whole, by full name.
    pub fn head(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str).filter(|name| split_name(name).is_none())
    }
}

/// Sets the rank of `config` to that of `tensors`, read from `file`, if the adapters of `gate_up_proj` had twice the rank of the others.
fn take_rank(
    config: &mut AdapterConfig,
    file: &Path,
    tensors: &BTreeMap<String, HostTensor>,
) -> Result<(), AdapterError> {
    if config.stacked.gate_up_is_doubled {
        config.rank = common_rank(file, tensors)?.unwrap_or(config.rank);
    }
    Ok(())
}

/// Checks that rank and modules of `tensors`, read from `file`, are those of `config`.
fn check_agreement(
    file: &Path,
    config: &AdapterConfig,
    tensors: &BTreeMap<String, HostTensor>,
) -> Result<(), AdapterError> {
    for (name, tensor) in tensors {
        let Some(AdapterName { layer, module, .. }) = split_name(name) else { continue };
        if tensors::rank(name, tensor) != config.rank {
            let expected = config.rank;
            let reason = format!("has shape {:?}, expected the rank {expected} of `{CONFIG_FILE}`", tensor.shape);
            return Err(tensor_error(file, name, reason));
        }
        if let Err(reason) = config.covers(layer, module, None) {
            return Err(tensor_error(file, name, reason));
        }
    }
    Ok(())
}

/// The file of tensors in folder `dir`. Where there is none, the error is about mlx-lm's.
fn weights_file(dir: &Path) -> Result<PathBuf, AdapterError> {
    let own = dir.join(WEIGHTS_FILE);
    if own.exists() {
        return Ok(own);
    }
    if let Some(other) = OTHER_WEIGHTS_FILES.iter().map(|name| dir.join(name)).find(|file| file.exists()) {
        return Ok(other);
    }
    for name in UNREADABLE_WEIGHTS_FILES {
        let file = dir.join(name);
        if file.exists() {
            let reason = "is not a safetensors file\nhelp: save the adapter again, as safetensors".into();
            return Err(CheckpointError::Damaged { file, reason }.into());
        }
    }
    Ok(own)
}

#[cfg(test)]
mod tests;
