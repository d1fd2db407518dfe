//! `adapter_config.json` as mlx-lm, mlx-vlm and unsloth's MLX trainer write it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use cotangent_models::checkpoint::{Checksum, TensorRole, classify, write_atomically};
use cotangent_models::quoting::quoted;
use cotangent_models::reading;
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use super::peft_experts::StackedTargets;
use super::tensors::{AdapterName, MULTI_TOKEN, split_name, stored_name};
use super::{AdapterError, peft};

/// The field that no other program has.
const BASE_NORMS: &str = "base_norms";

/// The content of `adapter_config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    /// The inner dimension.
    pub rank: usize,
    /// The multiplier of the adapter's output itself: PEFT's `alpha / rank`.
    pub scale: f64,
    /// The share of the adapter's inputs that were dropped in training. It has no effect afterwards.
    pub dropout: f64,
    /// The adapted modules: names relative to a layer (`mlp.up_proj`), or of the whole model
    /// (`language_model.model.layers.0.mlp.up_proj`); `None` for every linear layer.
    pub keys: Option<Vec<String>>,
    /// The number of last layers for which names relative to a layer hold; `None` for all.
    pub num_layers: Option<usize>,
    /// The checksum of the norms of the model that it was trained on, where that is known.
    pub base_norms: Option<String>,
    /// The parameters of experts that PEFT adapted as one; other programs have none.
    pub stacked: StackedTargets,
}

impl AdapterConfig {
    /// The configuration of an adapter with tensors of these names, by the model's names. `keys` are names of the whole
    /// model: mlx-vlm knows no others, and mlx-lm knows these too. Modules of the head of multi-token prediction are left out,
    /// because neither program has them.
    pub fn from_tensors<'a>(names: impl IntoIterator<Item = &'a str>, rank: usize, scale: f64) -> Self {
        let mut keys: Vec<String> = Vec::new();
        let of_both = names.into_iter().filter(|name| !name.starts_with(MULTI_TOKEN));
        for AdapterName { layer, module, .. } in of_both.filter_map(split_name) {
            let key = stored_name(&layer.map_or(module.to_owned(), |layer| format!("layers.{layer}.{module}")));
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        Self {
            rank,
            scale,
            dropout: 0.0,
            keys: Some(keys),
            num_layers: None,
            base_norms: None,
            stacked: StackedTargets::default(),
        }
    }

    /// Reads the configuration `file`, PEFT's too.
    ///
    /// # Errors
    /// If the file is absent or not JSON, a value is absent or wrong, or the adapter is of a kind that is not
    /// supported.
    pub fn load(file: &Path) -> Result<Self, AdapterError> {
        let fail = |reason: String| AdapterError::Config { file: file.to_owned(), reason };
        let bytes = reading::read(file, reading::CONFIGURATION_BYTES).map_err(|error| fail(error.to_string()))?;
        let json: Json = serde_json::from_slice(&bytes).map_err(|error| fail(format!("not valid JSON: {error}")))?;
        // unsloth's MLX trainer writes `peft_type` too, beside mlx-lm's fields.
        let mlx = ["lora_parameters", "fine_tune_type", "num_layers"].iter().any(|field| json.get(field).is_some());
        if !mlx && json.get("peft_type").is_some() {
            return peft::read_config(&json).map_err(fail);
        }
        Self::from_json(&json).map_err(fail)
    }

    fn from_json(json: &Json) -> Result<Self, String> {
        match json.get("fine_tune_type") {
            None => {}
            Some(kind) if kind == "lora" => {}
            Some(kind) => {
                return Err(format!(
                    "`fine_tune_type`: found {}; only `lora` is supported for now",
                    quoted(kind.to_string())
                ));
            }
        }
        let num_layers = match json.get("num_layers").map(|number| (number, number.as_i64())) {
            Some((_, Some(number))) => usize::try_from(number).ok().filter(|number| *number > 0),
            Some((other, None)) => {
                return Err(format!("`num_layers`: found {}, expected an integer", quoted(other.to_string())));
            }
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
                    None => {
                        Err(format!("`lora_parameters.{name}`: found {}, expected a number", quoted(value.to_string())))
                    }
                },
            }
        };
        let rank = match parameters.get("rank").map(Json::as_u64) {
            Some(Some(rank @ 1..=1_000_000)) => rank as usize,
            _ => {
                let found = parameters.get("rank").map_or("nothing".into(), |rank| quoted(rank.to_string()));
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
            Some(other) => match serde_json::from_value(other.clone()) {
                Ok(keys) => Some(keys),
                Err(_) => {
                    return Err(format!(
                        "`lora_parameters.keys`: found {}, expected a list of module names",
                        quoted(other.to_string())
                    ));
                }
            },
        };
        let base_norms = json.get(BASE_NORMS).and_then(Json::as_str).map(str::to_owned);
        Ok(Self { rank, scale, dropout, keys, num_layers, base_norms, stacked: StackedTargets::default() })
    }

    /// Returns a warning about using the adapter on a model whose norms have this checksum. It is `None` if the adapter
    /// was trained with these norms, or does not say with which.
    pub fn doubt(&self, norms: Checksum) -> Option<&'static str> {
        self.base_norms.as_ref().filter(|trained| **trained != norms.to_string()).map(|_| {
            "the adapter was trained on a model with other norms: where a quantizer folds scales into them, as AWQ does, an \
             adapter is right on its own base only"
        })
    }

    /// Returns whether `keys` and `num_layers` cover the module of a layer, in a model of `layers` layers if that is
    /// known.
    pub(super) fn covers(&self, layer: Option<usize>, module: &str, layers: Option<usize>) -> Result<(), String> {
        if layer.is_none() && module.starts_with(MULTI_TOKEN) {
            return Ok(());
        }
        let Some(keys) = &self.keys else { return self.covers_layer(layer, layers) };
        let whole = layer.map_or(module.to_owned(), |layer| format!("layers.{layer}.{module}"));
        let names = |key: &String| matches!(classify(key), TensorRole::Parameter(name) | TensorRole::Vision(name) if name == whole);
        if keys.iter().any(names) {
            return Ok(());
        }
        if !keys.iter().any(
            |key| matches!(classify(key), TensorRole::Parameter(name) | TensorRole::Vision(name) if name == module),
        ) {
            return Err(format!("is of the module `{module}`, which `keys` of `{}` does not list", super::CONFIG_FILE));
        }
        self.covers_layer(layer, layers)
    }

    fn covers_layer(&self, layer: Option<usize>, layers: Option<usize>) -> Result<(), String> {
        let Some(layer) = layer else { return Ok(()) };
        let first = self.num_layers.zip(layers).map_or(0, |(last, layers)| layers.saturating_sub(last));
        if layer < first {
            let file = super::CONFIG_FILE;
            return Err(format!("is in layer {layer}, expected {first} or above by `num_layers` of `{file}`"));
        }
        Ok(())
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
        if let Some(norms) = &self.base_norms {
            json.insert(BASE_NORMS.into(), norms.clone().into());
        }
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
