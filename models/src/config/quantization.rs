//! The `quantization` of a `config.json`, as mlx-lm and mlx-vlm write it.

use std::collections::BTreeMap;
use std::path::Path;

use cotangent::{CodeFormat, CodeMode};
use serde_json::Value;

use crate::checkpoint::{TensorRole, classify, modules as modules_of};

use super::fields::{Fields, describe};
use super::{ConfigError, read_json};

/// The way in which the matrices of a checkpoint are quantized. The checkpoint alone says which of them are: those with
/// scales.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantization {
    format: CodeFormat,
    /// The format of each module by its canonical name; `None` for a module that is said to be dense.
    modules: BTreeMap<String, Option<CodeFormat>>,
}

/// The fields in which the two programs write it; the first is the one that they read first.
const FIELDS: [&str; 2] = ["quantization", "quantization_config"];
/// The keys that the top level holds beside modules.
const TOP_LEVEL: [&str; 4] = ["group_size", "bits", "mode", "quant_method"];

impl Quantization {
    /// Reads `config.json` of the checkpoint folder `dir`; `None` if it names no quantization.
    ///
    /// # Errors
    /// If the file cannot be read, or names a quantization that is not MLX's or not supported.
    pub fn load(dir: &Path) -> Result<Option<Self>, ConfigError> {
        let file = dir.join("config.json");
        Self::from_json(&read_json(&file)?, &file)
    }

    /// Reads a parsed `config.json`; `file` is only named in errors.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_json(json: &Value, file: &Path) -> Result<Option<Self>, ConfigError> {
        Self::find(&Fields::root(file, json)?)
    }

    /// Reads the quantization that the file `top` names.
    pub(super) fn find(top: &Fields<'_>) -> Result<Option<Self>, ConfigError> {
        for place in [Some(top), top.object("text_config")?.as_ref()].into_iter().flatten() {
            for field in FIELDS {
                if let Some(method) = place.object(field)?.as_ref().map(quant_method).transpose()?.flatten() {
                    return Err(place.unsupported(field, format!("a base model quantized by `{method}`")));
                }
            }
            for field in FIELDS {
                if let Some(fields) = place.object(field)? {
                    return Self::read(&fields).map(Some);
                }
            }
        }
        Ok(None)
    }

    fn read(fields: &Fields<'_>) -> Result<Self, ConfigError> {
        let format = read_format(fields)?;
        let mut modules = BTreeMap::new();
        for (module, value) in fields.entries() {
            let (TensorRole::Parameter(name) | TensorRole::Vision(name) | TensorRole::MultiTokenPrediction(name)) =
                classify(module)
            else {
                continue;
            };
            if TOP_LEVEL.contains(&module) {
                continue;
            }
            let of_module = match value {
                Value::Bool(true) => Some(format),
                Value::Bool(false) => None,
                Value::Object(_) => match fields.object(module)? {
                    Some(entry) => {
                        let format = read_format(&entry)?;
                        entry.refuse_unread("")?;
                        Some(format)
                    }
                    None => continue,
                },
                other => return Err(fields.wrong(module, describe(other), "an object, true or false")),
            };
            modules.extend(modules_of(&name).into_iter().map(|module| (module, of_module)));
        }
        Ok(Quantization { format, modules })
    }

    /// Returns the format of the codes of a module, by its canonical name; `None` if it is said to be dense.
    pub fn format_of(&self, module: &str) -> Option<CodeFormat> {
        self.modules.get(module).copied().unwrap_or(Some(self.format))
    }
}

/// The program or scheme of a quantization that is not MLX's.
fn quant_method<'a>(fields: &Fields<'a>) -> Result<Option<&'a str>, ConfigError> {
    // Files that name no method are recognised by a field that only one program writes.
    let flags = [
        ("load_in_4bit", "bitsandbytes"),
        ("load_in_8bit", "bitsandbytes"),
        ("weight_block_size", "fp8"),
        ("quant_algo", "modelopt"),
        ("config_groups", "compressed-tensors"),
        ("desc_act", "gptq"),
        ("zero_point", "awq"),
    ];
    Ok(match fields.string("quant_method")? {
        Some(method) => Some(method),
        None => flags.iter().find(|(flag, _)| fields.has(flag)).map(|(_, method)| *method),
    })
}

/// `mode`, `group_size` and `bits`. A missing mode means `affine`, also in an entry below a top level of another mode; what
/// is missing or null is the default of the mode.
fn read_format(fields: &Fields<'_>) -> Result<CodeFormat, ConfigError> {
    let mode = match fields.string("mode")? {
        None => CodeMode::Affine,
        Some(name) => match CodeMode::ALL.into_iter().find(|mode| mode.name() == name) {
            Some(mode) => mode,
            None => return Err(fields.unsupported("mode", format!("the quantization mode `{name}`"))),
        },
    };
    let (group_size, bits) = (fields.optional_size("group_size")?, fields.optional_size("bits")?);
    CodeFormat::new(mode, group_size, bits).map_err(|_| {
        let (field, what) = match (CodeFormat::new(mode, None, bits), bits, group_size) {
            (Err(_), Some(1), _) => ("bits", "codes of 1 bit".to_owned()),
            (Err(_), Some(bits), _) => ("bits", format!("codes of {bits} bits")),
            (_, _, group_size) => ("group_size", format!("groups of {}", group_size.unwrap_or(0))),
        };
        fields.unsupported(field, format!("a base model in {what} of the mode `{}`", mode.name()))
    })
}
