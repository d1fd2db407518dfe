//! Adapters in the format that PEFT reads, for transformers' classes: `adapter_config.json` with PEFT's fields, and
//! `adapter_model.safetensors`. Both factors of a linear layer are transposed there, and those of experts are stacked.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use cotangent_models::checkpoint::{
    HostTensor, name_in_transformers, write_atomically, write_folder_atomically, write_safetensors,
};
use cotangent_models::config::TextConfig;
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::peft_experts::{GATE_UP, Stack, StackedParameter, wrapper};
use super::tensors::{tensor_error, transposed};
use super::{Adapter, AdapterError, CONFIG_FILE};

/// PEFT's file of tensors.
const WEIGHTS_FILE: &str = "adapter_model.safetensors";

/// The end of the name of a layer's experts.
const EXPERTS: &str = ".mlp.experts";

/// The end of the name of a layer's router, which is a parameter in transformers and no linear layer.
const ROUTER: &str = ".mlp.gate";

/// The numbers of what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exported {
    /// The number of linear layers with an adapter.
    pub modules: usize,
    /// The number of parameters with an adapter: stacks of experts, and routers.
    pub parameters: usize,
    /// The number of tensors of the head of multi-token prediction. transformers has no such head, so they are left out.
    pub left_out: usize,
}

/// Writes `adapter` to the folder `dir`, which must not be there or be empty, for PEFT and the class that transformers has for the
/// checkpoint in the folder `base`, whose configuration is `model`: the class with a vision tower if `model` has one.
///
/// # Errors
/// If the adapter is of another model, adapts nothing that transformers has, or the folder cannot be written.
pub fn export_to_peft(
    mut adapter: Adapter,
    base: &Path,
    model: &TextConfig,
    dir: &Path,
) -> Result<Exported, AdapterError> {
    let all = adapter.tensors.len();
    adapter.tensors.retain(|name, _| !name.starts_with("mtp."));
    adapter.check_fits(model)?;
    let mut export = Export { sees: model.vision.is_some(), ..Export::default() };
    export.exported.left_out = all - adapter.tensors.len();
    if adapter.tensors.is_empty() {
        let reason = "holds the head of multi-token prediction alone, which transformers does not have".into();
        return Err(tensor_error(&adapter.file, "mtp", reason));
    }
    let layers = adapter.layers();
    let (of_experts, linear): (Vec<&str>, Vec<&str>) =
        layers.iter().map(String::as_str).partition(|layer| layer.contains(EXPERTS));
    for layer in linear {
        export.add_linear(layer, &adapter.tensors);
    }
    let times = export.add_experts(&of_experts, &adapter)?;
    let config = export.config(&adapter, base, times);
    write_folder_atomically(dir, |dir| {
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        write_safetensors(&dir.join(WEIGHTS_FILE), &export.tensors, &metadata)?;
        write_atomically(&dir.join(CONFIG_FILE), |out| {
            let indent = serde_json::ser::PrettyFormatter::with_indent(b"  ");
            config.serialize(&mut serde_json::Serializer::with_formatter(out, indent)).map_err(io::Error::from)
        })?;
        Ok::<_, AdapterError>(Some(()))
    })?;
    Ok(export.exported)
}

/// The contents of the files, which are collected before anything is written.
#[derive(Default)]
struct Export {
    /// Whether transformers' class has a vision tower.
    sees: bool,
    tensors: BTreeMap<String, HostTensor>,
    /// Ends of names, which are the same in transformers' classes with and without a vision tower.
    target_modules: Vec<String>,
    target_parameters: Vec<String>,
    exported: Exported,
}

impl Export {
    fn insert(&mut self, module: &str, factor: &str, tensor: HostTensor) {
        let module = name_in_transformers(module, self.sees);
        self.tensors.insert(format!("base_model.model.{module}.{factor}.weight"), tensor);
    }

    fn add_linear(&mut self, layer: &str, tensors: &BTreeMap<String, HostTensor>) {
        for (ours, theirs) in [("lora_a", "lora_A"), ("lora_b", "lora_B")] {
            self.insert(layer, theirs, transposed(&tensors[&format!("{layer}.{ours}")]));
        }
        if layer.ends_with(ROUTER) {
            self.target_parameters.push(format!("{layer}.weight"));
            self.exported.parameters += 1;
        } else {
            self.target_modules.push(layer.to_owned());
            self.exported.modules += 1;
        }
    }

    /// Adds the adapters of experts, and returns how many times the common rank those of `gate_up_proj` have.
    fn add_experts(&mut self, layers: &[&str], adapter: &Adapter) -> Result<usize, AdapterError> {
        let mut modules: BTreeMap<&str, Vec<(StackedParameter, Stack<'_>)>> = BTreeMap::new();
        for layer in layers {
            let Some((module, _)) = layer.rsplit_once('.') else { continue };
            modules.entry(module).or_insert_with(|| {
                let pair = |projection: &&str| {
                    let factor = |name: &str| adapter.tensors.get(&format!("{module}.{projection}.{name}"));
                    Some([factor("lora_a")?, factor("lora_b")?])
                };
                let stack = |parameter: StackedParameter| Stack(parameter.projections().iter().map(pair).collect());
                let stacks = StackedParameter::ALL.into_iter().map(|parameter| (parameter, stack(parameter)));
                stacks.filter(|(_, stack)| stack.0.iter().any(Option::is_some)).collect()
            });
        }
        let doubled = modules.values().flatten().any(|(_, stack)| stack.is_doubled());
        for (module, stacks) in &modules {
            let parameters: Vec<StackedParameter> = stacks.iter().map(|(parameter, _)| *parameter).collect();
            for (parameter, stack) in stacks {
                let times = if doubled && *parameter == StackedParameter::GateUp { 2 } else { 1 };
                let Some([a, b]) = stack.joined(times) else {
                    let reason = "has adapters of several shapes, expected one for its experts\n\
                                  help: export the adapter as it was saved"
                        .into();
                    return Err(tensor_error(&adapter.file, module, reason));
                };
                let wrapper = wrapper(module, *parameter, &parameters);
                self.insert(&wrapper, "lora_A", a);
                self.insert(&wrapper, "lora_B", b);
                self.target_parameters.push(format!("{module}.{}", parameter.name()));
                self.exported.parameters += 1;
            }
        }
        Ok(if doubled { 2 } else { 1 })
    }

    /// Returns PEFT's configuration; fields that it leaves out have PEFT's defaults.
    fn config(&self, adapter: &Adapter, base: &Path, times: usize) -> Json {
        let (rank, scale) = (adapter.config.rank, adapter.config.scale);
        let pattern = |value: Json| if times == 1 { json!({}) } else { json!({ GATE_UP: value }) };
        json!({
            "alpha_pattern": pattern(json!(scale * (times * rank) as f64)),
            "base_model_name_or_path": base.to_string_lossy(),
            "bias": "none",
            "inference_mode": true,
            "lora_alpha": scale * rank as f64,
            "lora_dropout": 0.0,
            "peft_type": "LORA",
            "r": rank,
            "rank_pattern": pattern(json!(times * rank)),
            "target_modules": self.target_modules,
            "target_parameters": if self.target_parameters.is_empty() { Json::Null } else { json!(self.target_parameters) },
            "task_type": if self.sees { Json::Null } else { json!("CAUSAL_LM") },
        })
    }
}
