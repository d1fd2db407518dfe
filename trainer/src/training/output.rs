//! The output folder of a run.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cotangent_models::checkpoint::{CheckpointError, HostTensor};
use serde_json::Value as Json;

use super::{TrainingError, TrainingState, state_file};
use crate::adapter::{self, AdapterConfig};
use crate::transfer::to_host;

/// A folder that adapters and the state of a run are saved to. Every file is replaced as a whole, or stays as it was.
#[derive(Debug)]
pub struct Output {
    dir: PathBuf,
    config: AdapterConfig,
    /// The arguments of the run, which the configuration records.
    arguments: BTreeMap<String, Json>,
    /// What must be the same for a run to go on.
    identity: BTreeMap<String, String>,
}

/// What was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Iterations done.
    pub iteration: usize,
    /// The file with the newest adapters.
    pub adapters: PathBuf,
    /// The same under the number of the iteration.
    pub numbered: PathBuf,
}

impl Output {
    /// Makes the folder `dir` if it is not there, and makes sure that files can be written to it.
    ///
    /// # Errors
    /// If it is a file, or cannot be made or written to.
    pub fn prepare(
        dir: &Path,
        config: AdapterConfig,
        arguments: BTreeMap<String, Json>,
        identity: BTreeMap<String, String>,
    ) -> Result<Self, TrainingError> {
        check_folder(dir)?;
        let io_error = |source| CheckpointError::Io { file: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(io_error)?;
        tempfile::tempfile_in(dir).map_err(io_error)?;
        Ok(Output { dir: dir.to_owned(), config, arguments, identity })
    }

    /// Saves adapters, their configuration and the state.
    ///
    /// # Errors
    /// If a file cannot be written: those not yet written are as before.
    pub fn save(&self, state: &TrainingState) -> Result<Saved, TrainingError> {
        let saved = Saved {
            iteration: state.iteration,
            adapters: self.dir.join(adapter::WEIGHTS_FILE),
            numbered: self.dir.join(format!("{:07}_{}", state.iteration, adapter::WEIGHTS_FILE)),
        };
        let tensors: BTreeMap<String, HostTensor> = state
            .adapters
            .iter()
            .map(|(name, tensor)| Ok((name.clone(), to_host(tensor)?)))
            .collect::<cotangent::Result<_>>()?;
        adapter::write_tensors(&saved.numbered, &tensors)?;
        self.config.write(&self.dir.join(adapter::CONFIG_FILE), &self.arguments)?;
        adapter::write_tensors(&saved.adapters, &tensors)?;
        state.save(&state_file(&self.dir), &self.identity)?;
        Ok(saved)
    }
}

/// Checks that `dir` is a folder, or nothing yet.
///
/// # Errors
/// If it is a file.
pub fn check_folder(dir: &Path) -> Result<(), CheckpointError> {
    match fs::metadata(dir) {
        Ok(kind) if !kind.is_dir() => Err(CheckpointError::Damaged {
            file: dir.to_owned(),
            reason: "found a file, expected a folder or nothing\nhelp: give another folder with `--output`".into(),
        }),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CheckpointError::Io { file: dir.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}
