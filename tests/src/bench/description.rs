//! What is timed: a model's shape, its batch, its adapters.

use std::path::Path;

use anyhow::{Context, Result, bail};
use cotangent::{Dtype, Keep};
use serde::Deserialize;
use serde_json::Value;

/// Files that may name each other by `like`.
const DEPTH: usize = 8;

/// The description: the keys of `peer_bench.py`, those that do not concern us ignored.
#[derive(Debug, Deserialize)]
pub(crate) struct Description {
    config: Option<Value>,
    config_path: Option<String>,
    pub(super) batch: usize,
    /// The number of tokens of a row.
    pub(super) tokens: usize,
    pub(super) lora: Lora,
    #[serde(default)]
    pub(super) optimizer: Optimizer,
    #[serde(default = "one")]
    pub(super) warmup: usize,
    #[serde(default = "five")]
    pub(super) steps: usize,
    #[serde(default)]
    pub(super) seed: u64,
    /// Whether intermediate results are computed again in the backward pass instead of being kept.
    #[serde(default)]
    grad_checkpoint: bool,
    /// The number of last layers whose intermediate results are kept nevertheless.
    #[serde(default)]
    keep_last_layers: usize,
    /// GiB of what expensive kernels computed that are kept nevertheless.
    #[serde(default)]
    keep_expensive_gib: f64,
    /// `float32` or `bfloat16`.
    #[serde(default)]
    dtype: Option<String>,
    /// The number of patches on each side of the picture that each row begins with. Without it the vision tower is left out.
    #[serde(default)]
    pub(super) patches_per_side: Option<usize>,
    /// Whether all of the vision tower trains.
    #[serde(default)]
    pub(super) train_tower: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Lora {
    pub(super) rank: i32,
    pub(super) scale: f32,
    pub(super) targets: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct Optimizer {
    pub(super) lr: f32,
    pub(super) weight_decay: f32,
}

impl Default for Optimizer {
    fn default() -> Self {
        Optimizer { lr: 1e-4, weight_decay: 0.01 }
    }
}

fn one() -> usize {
    1
}

fn five() -> usize {
    5
}

impl Description {
    /// Reads the description in the file `path`, and the model's configuration.
    pub(super) fn read(path: &Path) -> Result<(Self, Value)> {
        let description: Description =
            serde_json::from_value(read(path, DEPTH)?).with_context(|| format!("`{}`", path.display()))?;
        let config = match (&description.config, &description.config_path) {
            (Some(config), None) => config.clone(),
            (None, Some(file)) => parse(&path.parent().unwrap_or(Path::new(".")).join(file))?,
            _ => bail!("`{}`: give one of `config` and `config_path`", path.display()),
        };
        if description.batch == 0 || description.tokens == 0 || description.steps == 0 {
            bail!("`{}`: `batch`, `tokens` and `steps` must be positive", path.display());
        }
        Ok((description, config))
    }

    pub(super) fn keep(&self) -> Keep {
        match (self.grad_checkpoint, self.keep_last_layers, self.keep_expensive_gib) {
            (false, ..) => Keep::All,
            (true, 0, gib) if gib > 0.0 => Keep::Expensive { bytes: (gib * f64::from(1 << 30)) as usize },
            (true, 0, _) => Keep::BlockInputs,
            (true, layers, _) => Keep::LastBlocks(layers),
        }
    }

    pub(super) fn dtype(&self) -> Result<Dtype> {
        match self.dtype.as_deref() {
            None | Some("float32") => Ok(Dtype::F32),
            Some("bfloat16") => Ok(Dtype::BF16),
            Some(other) => bail!("`dtype` is `{other}`, expected `float32` or `bfloat16`"),
        }
    }
}

fn parse(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("`{}`", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("`{}`", path.display()))
}

/// The file `path`; where it names another file by `like`, that one with the members of this in the place of its own.
fn read(path: &Path, depth: usize) -> Result<Value> {
    let mut json = parse(path)?;
    let Some(like) = json.as_object_mut().and_then(|members| members.remove("like")) else { return Ok(json) };
    let (Some(like), Some(depth)) = (like.as_str(), depth.checked_sub(1)) else {
        bail!("`{}`: `like` is {like}, expected a file that is not like this one", path.display());
    };
    let mut whole = read(&path.parent().unwrap_or(Path::new(".")).join(like), depth)?;
    merge(&mut whole, json);
    Ok(whole)
}

/// Puts the members of `patch` in the place of those of `whole`, and takes out those that are null: RFC 7396.
fn merge(whole: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *whole = patch;
        return;
    };
    let mut members = whole.as_object_mut().map(std::mem::take).unwrap_or_default();
    for (name, value) in patch {
        match value {
            Value::Null => drop(members.remove(&name)),
            value => merge(members.entry(name).or_insert(Value::Null), value),
        }
    }
    *whole = Value::Object(members);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_take_the_place_of_those_of_the_file_that_one_is_like() {
        let mut whole = json!({"batch": 4, "config": {"layers": 24, "quantization": {"bits": 8}}});
        merge(&mut whole, json!({"tokens": 1, "config": {"layers": 2, "quantization": null}}));
        assert_eq!(whole, json!({"batch": 4, "tokens": 1, "config": {"layers": 2}}));
    }

    #[test]
    fn a_file_that_is_like_itself_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, r#"{"like": "a.json"}"#).unwrap();
        let error = Description::read(&path).unwrap_err().to_string();
        assert!(error.ends_with(r#"`like` is "a.json", expected a file that is not like this one"#), "{error}");
    }
}
