//! Adapter folders in the format of mlx-lm: `adapter_config.json` and `adapters.safetensors`.
//!
//! Tensors are named `language_model.model.layers.{i}.{module}.lora_a` of shape `[inputs, rank]` and `.lora_b` of shape
//! `[rank, outputs]`; a linear layer then computes `x W^T + scale * (x A) B`. Here they carry the model's own names,
//! `layers.{i}.{module}.lora_a`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use cotangent_models::checkpoint::{
    CheckpointError, Dtype, HostTensor, SafetensorsFile, write_atomically, write_safetensors,
};
use cotangent_models::config::TextConfig;
use cotangent_models::reading;
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

/// The file with the adapter's tensors.
pub const WEIGHTS_FILE: &str = "adapters.safetensors";
/// The file that says how the tensors are meant.
pub const CONFIG_FILE: &str = "adapter_config.json";

/// The prefix that mlx-lm gives the text model of Qwen3.5.
const STORED_PREFIX: &str = "language_model.model.";

/// Why an adapter cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// The weights are absent, damaged, or not those of an adapter.
    #[error(transparent)]
    Weights(#[from] CheckpointError),
    /// The configuration is.
    #[error("`{file}`: {reason}", file = file.display())]
    Config {
        /// The configuration's file.
        file: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
}

/// What `adapter_config.json` says of an adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    /// The inner dimension.
    pub rank: usize,
    /// The multiplier of the adapter's output itself: PEFT's `alpha / rank`.
    pub scale: f64,
    /// The share of the adapter's inputs that were dropped in training. It has no effect afterwards.
    pub dropout: f64,
    /// The adapted modules by layer-relative name (`mlp.up_proj`); `None` for every linear layer.
    pub keys: Option<Vec<String>>,
    /// Only the last so many layers are adapted; `None` for all.
    pub num_layers: Option<usize>,
}

/// An adapter: its configuration, and its tensors by the model's names.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// How the tensors are meant.
    pub config: AdapterConfig,
    /// `layers.{i}.{module}.lora_a` and `.lora_b`, always both.
    pub tensors: BTreeMap<String, HostTensor>,
}

impl Adapter {
    /// Reads the adapter in folder `dir`.
    ///
    /// # Errors
    /// If a file is absent or damaged, the adapter is of a kind that is not supported, a tensor is not an adapter's, or
    /// tensors and configuration disagree.
    pub fn load(dir: &Path) -> Result<Self, AdapterError> {
        let config = AdapterConfig::load(&dir.join(CONFIG_FILE))?;
        let file = dir.join(WEIGHTS_FILE);
        let tensors = load_tensors(&file)?;
        for (name, tensor) in &tensors {
            let fail = |reason| Err(tensor_error(&file, name, reason));
            let (_, module, factor) = split_name(name).unwrap_or_default();
            let rank = tensor.shape[if factor == "lora_a" { 1 } else { 0 }];
            if rank != config.rank {
                let expected = config.rank;
                return fail(format!("has shape {:?}, expected the rank {expected} of `{CONFIG_FILE}`", tensor.shape));
            }
            if config.keys.as_ref().is_some_and(|keys| !keys.iter().any(|key| key == module)) {
                return fail(format!("is of the module `{module}`, which `keys` of `{CONFIG_FILE}` does not list"));
            }
        }
        Ok(Self { config, tensors })
    }

    /// Checks that every tensor belongs to a linear layer of the model and has its sizes; `dir` is only named in
    /// errors.
    ///
    /// # Errors
    /// Names the first tensor that does not fit.
    pub fn check_fits(&self, model: &TextConfig, dir: &Path) -> Result<(), AdapterError> {
        let parameters: BTreeMap<String, Vec<usize>> = model.parameters().into_iter().collect();
        let file = dir.join(WEIGHTS_FILE);
        let first = self.config.num_layers.map_or(0, |last| model.layers.len().saturating_sub(last));
        for (name, tensor) in &self.tensors {
            let (layer, module, factor) = split_name(name).unwrap_or_default();
            let fail = |reason| Err(tensor_error(&file, name, reason));
            let weight = parameters.get(&format!("layers.{layer}.{module}.weight"));
            let Some([outputs, inputs]) = weight.map(Vec::as_slice) else {
                return fail("belongs to no linear layer of the model\nhelp: take the model that was adapted".into());
            };
            let (axis, size) = if factor == "lora_a" { (0, *inputs) } else { (1, *outputs) };
            if tensor.shape[axis] != size {
                return fail(format!(
                    "has shape {:?}, expected {size} where the layer has {size}\nhelp: take the model that was adapted",
                    tensor.shape
                ));
            }
            if layer < first {
                return fail(format!(
                    "is in layer {layer}, expected {first} or above by `num_layers` of `{CONFIG_FILE}`"
                ));
            }
        }
        Ok(())
    }
}

impl AdapterConfig {
    /// The configuration of an adapter with the given tensors, which adapts all layers. `keys` are always written,
    /// because without them mlx-lm adapts every linear layer.
    pub fn of_tensors<'a>(names: impl IntoIterator<Item = &'a str>, rank: usize, scale: f64) -> Self {
        let modules: BTreeSet<&str> = names.into_iter().filter_map(split_name).map(|(_, module, _)| module).collect();
        let keys = modules.into_iter().map(str::to_owned).collect();
        Self { rank, scale, dropout: 0.0, keys: Some(keys), num_layers: None }
    }

    /// Reads the configuration `file`.
    ///
    /// # Errors
    /// If the file is absent or not JSON, a value is absent or wrong, or the adapter is of a kind that is not
    /// supported.
    pub fn load(file: &Path) -> Result<Self, AdapterError> {
        let fail = |reason: String| AdapterError::Config { file: file.to_owned(), reason };
        let bytes = reading::read(file, reading::CONFIGURATION_BYTES).map_err(|error| fail(error.to_string()))?;
        let json: Json = serde_json::from_slice(&bytes).map_err(|error| fail(format!("not valid JSON: {error}")))?;
        Self::from_json(&json).map_err(fail)
    }

    fn from_json(json: &Json) -> Result<Self, String> {
        if let Some(peft) = json.get("peft_type") {
            return Err(format!("found an adapter of PEFT (`peft_type` {peft}), expected one of mlx-lm"));
        }
        match json.get("fine_tune_type") {
            None => {}
            Some(kind) if kind == "lora" => {}
            Some(kind) => return Err(format!("`fine_tune_type`: found {kind}; only `lora` is supported for now")),
        }
        let num_layers = match json.get("num_layers").map(|number| (number, number.as_i64())) {
            Some((_, Some(number))) => usize::try_from(number).ok().filter(|number| *number > 0),
            Some((other, None)) => return Err(format!("`num_layers`: found {other}, expected an integer")),
            None => return Err("`num_layers`: found nothing, expected an integer (-1 for all layers)".into()),
        };
        let Some(Json::Object(parameters)) = json.get("lora_parameters") else {
            return Err("`lora_parameters`: found nothing, expected an object".into());
        };
        let number = |name: &str| -> Result<Option<f64>, String> {
            match parameters.get(name) {
                None | Some(Json::Null) => Ok(None),
                Some(value) => match value.as_f64() {
                    Some(number) => Ok(Some(number)),
                    None => Err(format!("`lora_parameters.{name}`: found {value}, expected a number")),
                },
            }
        };
        let rank = match parameters.get("rank").map(Json::as_u64) {
            Some(Some(rank @ 1..=1_000_000)) => rank as usize,
            _ => {
                let found = parameters.get("rank").map_or("nothing".into(), Json::to_string);
                return Err(format!("`lora_parameters.rank`: found {found}, expected a positive integer"));
            }
        };
        let Some(scale) = number("scale")? else {
            let help = match number("alpha")? {
                Some(alpha) => {
                    format!("\nhelp: replace `alpha` by `scale`: {}, which is alpha / rank", alpha / rank as f64)
                }
                None => String::new(),
            };
            return Err(format!("`lora_parameters.scale`: found nothing, expected a number{help}"));
        };
        let dropout = number("dropout")?.unwrap_or(0.0);
        if !(0.0..1.0).contains(&dropout) {
            return Err(format!("`lora_parameters.dropout`: found {dropout}, expected at least 0 and less than 1"));
        }
        let keys = match parameters.get("keys") {
            None | Some(Json::Null) => None,
            Some(Json::Array(items)) => Some(items.iter().map(layer_key).collect::<Result<_, _>>()?),
            Some(other) => {
                return Err(format!("`lora_parameters.keys`: found {other}, expected a list of module names"));
            }
        };
        Ok(Self { rank, scale, dropout, keys, num_layers })
    }

    /// Writes the configuration to `file`, atomically, together with the arguments of the run, as mlx-lm does: keys
    /// sorted, four blanks of indentation.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, file: &Path, run: &BTreeMap<String, Json>) -> Result<(), AdapterError> {
        let mut json: Map<String, Json> = run.clone().into_iter().collect();
        let mut parameters = json!({"rank": self.rank, "scale": self.scale, "dropout": self.dropout});
        if let Some(keys) = &self.keys {
            parameters["keys"] = keys.clone().into();
        }
        json.insert("fine_tune_type".into(), "lora".into());
        json.insert("lora_parameters".into(), parameters);
        json.insert("num_layers".into(), self.num_layers.map_or(json!(-1), |layers| layers.into()));
        let mut json = Json::Object(json);
        json.sort_all_objects();
        write_atomically(file, |out| {
            let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            json.serialize(&mut serde_json::Serializer::with_formatter(out, indent)).map_err(io::Error::from)
        })?;
        Ok(())
    }
}

/// Writes the tensors of an adapter, by the model's names, to the safetensors `file`, atomically.
///
/// # Errors
/// If a name is not an adapter's, or the file cannot be written.
pub fn write_tensors(file: &Path, tensors: &BTreeMap<String, HostTensor>) -> Result<(), AdapterError> {
    let mut stored = BTreeMap::new();
    for (name, tensor) in tensors {
        if split_name(name).is_none() {
            return Err(tensor_error(file, name, "is no tensor of an adapter".into()));
        }
        stored.insert(format!("{STORED_PREFIX}{name}"), tensor.clone());
    }
    Ok(write_safetensors(file, &stored, &BTreeMap::new())?)
}

/// Reads the tensors of an adapter from the safetensors `file`, by the model's names.
///
/// # Errors
/// If the file is absent or damaged, holds a tensor that is not an adapter's, or half of a pair.
pub fn load_tensors(file: &Path) -> Result<BTreeMap<String, HostTensor>, AdapterError> {
    let weights = SafetensorsFile::open(file)?;
    let mut tensors = BTreeMap::new();
    for stored in weights.names() {
        let fail = |reason: String| Err(tensor_error(file, stored, reason));
        let name = [STORED_PREFIX, "model.", ""]
            .iter()
            .find_map(|prefix| stored.strip_prefix(prefix).filter(|name| split_name(name).is_some()));
        let Some(name) = name else {
            return fail(format!("expected a name like `{STORED_PREFIX}layers.0.mlp.up_proj.lora_a`"));
        };
        let tensor = weights.read(stored)?;
        if tensor.shape.len() != 2 || tensor.shape.contains(&0) {
            return fail(format!("has shape {:?}, expected [inputs, rank] or [rank, outputs]", tensor.shape));
        }
        if !matches!(tensor.dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16) {
            return fail(format!("has dtype {}, expected F32, BF16 or F16", tensor.dtype));
        }
        if tensors.insert(name.to_owned(), tensor).is_some() {
            return fail(format!("is the same as another tensor, `{name}`"));
        }
    }
    if tensors.is_empty() {
        let reason = "holds no tensors, expected those of an adapter".into();
        return Err(CheckpointError::Damaged { file: file.to_owned(), reason }.into());
    }
    for (name, tensor) in &tensors {
        let (other, rank_axes) = match name.strip_suffix("lora_a") {
            Some(module) => (format!("{module}lora_b"), (1, 0)),
            None => (format!("{}lora_a", name.trim_end_matches("lora_b")), (0, 1)),
        };
        let Some(other_tensor) = tensors.get(&other) else {
            return Err(tensor_error(file, name, format!("is there without `{other}`")));
        };
        if tensor.shape[rank_axes.0] != other_tensor.shape[rank_axes.1] {
            let reason =
                format!("has shape {:?}, which does not go with {:?} of `{other}`", tensor.shape, other_tensor.shape);
            return Err(tensor_error(file, name, reason));
        }
    }
    Ok(tensors)
}

/// Layer, layer-relative module and factor of `layers.{i}.{module}.lora_a` or `.lora_b`.
fn split_name(name: &str) -> Option<(usize, &str, &str)> {
    let (layer, rest) = name.strip_prefix("layers.")?.split_once('.')?;
    let (module, factor) = rest.rsplit_once('.')?;
    let number = layer.parse().ok().filter(|number: &usize| number.to_string() == layer)?;
    (!module.is_empty() && matches!(factor, "lora_a" | "lora_b")).then_some((number, module, factor))
}

/// A name in `keys`. One with the path of a layer would match nothing, silently, in mlx-lm.
fn layer_key(item: &Json) -> Result<String, String> {
    match item.as_str() {
        Some(key) if !key.split('.').any(|part| part == "layers") => Ok(key.to_owned()),
        _ => Err(format!(
            "`lora_parameters.keys`: found {item}, expected names relative to a layer, such as `mlp.up_proj`"
        )),
    }
}

fn tensor_error(file: &Path, tensor: &str, reason: String) -> AdapterError {
    CheckpointError::Tensor { file: file.to_owned(), tensor: tensor.to_owned(), reason }.into()
}

#[cfg(test)]
mod tests;
