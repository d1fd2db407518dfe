//! The files of the conversations.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cotangent_trainer::data::{ChatFormat, DataOptions, Dataset};

use crate::command::checkpoint::under_a_spinner;
use crate::command::warn;

/// The files of `--data`: `train.jsonl` and, if it is there, `valid.jsonl` of a folder, or one file to train on.
pub struct DataFiles {
    train: PathBuf,
    /// The file to measure on, or the reason why there is none.
    valid: Result<PathBuf, String>,
}

impl DataFiles {
    /// Looks for the files.
    ///
    /// # Errors
    /// If there is none to train on.
    pub fn find(data: &Path) -> Result<Self> {
        let exists = |file: &Path| match fs::metadata(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|_| true).with_context(|| format!("`{}`", file.display())),
        };
        if exists(data)? && !data.is_dir() {
            let reason = format!("`{}` is a file: no validation", data.display());
            return Ok(DataFiles { train: data.to_owned(), valid: Err(reason) });
        }
        let (train, valid) = (data.join("train.jsonl"), data.join("valid.jsonl"));
        fs::metadata(&train).with_context(|| format!("`{}`", train.display()))?;
        let reason = format!("`{}` is not there: no validation", valid.display());
        Ok(DataFiles { train, valid: if exists(&valid)? { Ok(valid) } else { Err(reason) } })
    }

    /// Loads both; says what was cut or left out.
    ///
    /// # Errors
    /// If a file or one of its lines is bad.
    pub fn load(&self, format: &ChatFormat, options: &DataOptions) -> Result<(Dataset, Option<Dataset>)> {
        let load = |file: &Path| {
            let message = format!("Encoding `{}`", file.display());
            under_a_spinner(message, || Dataset::load(file, format, options))
        };
        let train = load(&self.train)?;
        let valid = match &self.valid {
            Ok(file) => Some(load(file)?),
            Err(reason) => {
                warn(reason);
                None
            }
        };
        for warning in [Some(&train), valid.as_ref()].into_iter().flatten().flat_map(Dataset::warnings) {
            warn(&warning);
        }
        Ok((train, valid))
    }
}
