//! The state of a run in one file, so that it can go on as if it had never stopped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cotangent::optimizer::{AdamW, AdamWOptions};
use cotangent::{Stored, Tensor};
use cotangent_models::checkpoint::{SafetensorsFile, write_safetensors};
use cotangent_models::quoting::quoted;

use super::TrainingError;
use crate::transfer::{from_host, to_host};

/// The file's name in the output folder.
pub const STATE_FILE: &str = "training_state.safetensors";

const FORMAT: &str = "cotangent training state 1";
const FORMAT_KEY: &str = "format";
const ITERATION_KEY: &str = "iteration";
const TRAINED_TOKENS_KEY: &str = "trained_tokens";
const OPTION_PREFIX: &str = "option.";
const ADAPTER_PREFIX: &str = "adapter.";
const OPTIMIZER_PREFIX: &str = "optimizer.";

/// Everything that a run depends on besides its options, its model and its data. The random key is the seed, and what
/// batch comes next follows from the iteration: neither has a state of its own.
#[derive(Debug)]
pub struct TrainingState {
    /// Iterations done.
    pub iteration: usize,
    /// Predictions that the loss has counted.
    pub trained_tokens: usize,
    /// The adapters' tensors by name.
    pub adapters: BTreeMap<String, Tensor<Stored>>,
    /// The optimizer's, as [`AdamW::state`] gives them.
    pub optimizer: BTreeMap<String, Tensor<Stored>>,
}

impl TrainingState {
    /// Writes the state, atomically, with the `options` that must be the same when it is read.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, file: &Path, options: &BTreeMap<String, String>) -> Result<(), TrainingError> {
        let mut tensors = BTreeMap::new();
        for (prefix, group) in [(ADAPTER_PREFIX, &self.adapters), (OPTIMIZER_PREFIX, &self.optimizer)] {
            for (name, tensor) in group {
                tensors.insert(format!("{prefix}{name}"), to_host(tensor)?);
            }
        }
        let mut metadata: BTreeMap<String, String> =
            options.iter().map(|(name, value)| (format!("{OPTION_PREFIX}{name}"), value.clone())).collect();
        metadata.insert(FORMAT_KEY.into(), FORMAT.into());
        metadata.insert(ITERATION_KEY.into(), self.iteration.to_string());
        metadata.insert(TRAINED_TOKENS_KEY.into(), self.trained_tokens.to_string());
        Ok(write_safetensors(file, &tensors, &metadata)?)
    }

    /// Reads a state that was saved by a run of the same `options`.
    ///
    /// # Errors
    /// If the file is absent, damaged, or of a run of other options.
    pub fn load(file: &Path, options: &BTreeMap<String, String>) -> Result<Self, TrainingError> {
        let fail = |reason: String| TrainingError::State { file: file.to_owned(), reason };
        if !file.exists() {
            return Err(fail(
                "found no file, expected the state of a run to go on with\nhelp: leave out `--resume`".into(),
            ));
        }
        let opened = SafetensorsFile::open(file)?;
        let metadata = opened.metadata();
        if metadata.get(FORMAT_KEY).map(String::as_str) != Some(FORMAT) {
            return Err(fail(format!("is no `{FORMAT}`\nhelp: leave out `--resume`")));
        }
        let different: Vec<String> = options
            .iter()
            .filter_map(|(name, now)| {
                let before = metadata.get(&format!("{OPTION_PREFIX}{name}")).map_or("not set", String::as_str);
                (before != now).then(|| format!("{name} was {before} and is {now}"))
            })
            .collect();
        if !different.is_empty() {
            return Err(fail(format!(
                "belongs to another run: {}\nhelp: give the same options and data, or start anew from its weights with \
                 `--resume-adapter-file`",
                different.join(", ")
            )));
        }
        let number = |key: &str| {
            let value = metadata.get(key).and_then(|value| value.parse::<usize>().ok());
            value.ok_or_else(|| fail(format!("its metadata has no number `{key}`\nhelp: leave out `--resume`")))
        };
        let (iteration, trained_tokens) = (number(ITERATION_KEY)?, number(TRAINED_TOKENS_KEY)?);

        let (mut adapters, mut optimizer) = (BTreeMap::new(), BTreeMap::new());
        for name in opened.names() {
            let (group, short) = if let Some(short) = name.strip_prefix(ADAPTER_PREFIX) {
                (&mut adapters, short)
            } else if let Some(short) = name.strip_prefix(OPTIMIZER_PREFIX) {
                (&mut optimizer, short)
            } else {
                return Err(fail(format!("tensor `{}` is no part of a state", quoted(name))));
            };
            let tensor = from_host(&opened.read(name)?).map_err(|error| fail(format!("tensor `{name}`: {error}")))?;
            group.insert(short.to_owned(), tensor);
        }
        Ok(TrainingState { iteration, trained_tokens, adapters, optimizer })
    }

    /// The optimizer, as it was.
    ///
    /// # Errors
    /// If its state is incomplete, or does not fit the adapters.
    pub fn resume_optimizer(&self, options: AdamWOptions) -> cotangent::Result<AdamW> {
        for (name, moment) in &self.optimizer {
            let Some(parameter) = name.strip_suffix(".m").or_else(|| name.strip_suffix(".v")) else { continue };
            let expected = self.adapters.get(parameter).map(Tensor::shape);
            if expected != Some(moment.shape()) {
                return Err(cotangent::Error::Parameter {
                    name: name.clone(),
                    message: format!("found shape {:?}, expected that of the adapter, {expected:?}", moment.shape()),
                });
            }
        }
        AdamW::resume(options, &self.optimizer)
    }
}

/// The state's place in an output folder.
pub fn state_file(output: &Path) -> PathBuf {
    output.join(STATE_FILE)
}
