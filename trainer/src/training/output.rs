//! The output folder of a run.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use cotangent_models::checkpoint::{CheckpointError, HostTensor};
use cotangent_models::transfer::to_host;
use serde_json::Value as Json;

use super::{Claim, TrainingError, TrainingState, state_file};
use crate::adapter::{self, AdapterConfig};

/// A folder that adapters and the state of a run are saved to. Every file is replaced as a whole, or stays as it was.
#[derive(Debug)]
pub struct Output {
    claim: Claim,
    config: AdapterConfig,
    /// The arguments of the run, which the configuration records.
    arguments: BTreeMap<String, Json>,
    /// The options that must not change if a run goes on.
    identity: BTreeMap<String, String>,
    /// Files of an earlier run that go once this one has saved.
    to_replace: RefCell<Vec<PathBuf>>,
}

/// The files that were saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Iterations done.
    pub iteration: usize,
    /// The file with the newest adapters.
    pub adapters: PathBuf,
    /// The file with the same adapters that is named by the iteration.
    pub numbered: PathBuf,
}

impl Output {
    /// Makes the folder that was claimed if it is not there.
    ///
    /// # Errors
    /// If it cannot be made or written to, or another run came first.
    pub fn prepare(
        claim: Claim,
        config: AdapterConfig,
        arguments: BTreeMap<String, Json>,
        identity: BTreeMap<String, String>,
    ) -> Result<Self, TrainingError> {
        let claim = claim.open()?;
        let to_replace = RefCell::new(claim.to_replace()?);
        Ok(Output { claim, config, arguments, identity, to_replace })
    }

    /// Saves adapters, their configuration and the state.
    ///
    /// # Errors
    /// If a file cannot be written: those not yet written are as before, and none with the iteration's number is left.
    pub fn save(&self, state: &TrainingState) -> Result<Saved, TrainingError> {
        let dir = self.claim.dir();
        let saved = Saved {
            iteration: state.iteration,
            adapters: dir.join(adapter::WEIGHTS_FILE),
            numbered: dir.join(format!("{:07}_{}", state.iteration, adapter::WEIGHTS_FILE)),
        };
        let tensors: BTreeMap<String, HostTensor> = state
            .adapters
            .iter()
            .map(|(name, tensor)| Ok((name.clone(), to_host(tensor)?)))
            .collect::<cotangent::Result<_>>()?;
        let is_new = !saved.numbered.exists();
        let numbered = [saved.numbered.clone(), adapter::head_file(&saved.numbered)];
        let write = || -> Result<(), TrainingError> {
            adapter::write_tensors(&saved.numbered, &tensors)?;
            self.config.write(&dir.join(adapter::CONFIG_FILE), &self.arguments)?;
            adapter::write_tensors(&saved.adapters, &tensors)?;
            state.save(&state_file(dir), &self.identity)
        };
        if let Err(error) = write() {
            // On a full disk, adapters of failed saves would take the space of the next save.
            if is_new {
                let _ = numbered.each_ref().map(fs::remove_file);
            }
            return Err(error);
        }
        for file in self.to_replace.take().into_iter().filter(|file| !numbered.contains(file)) {
            fs::remove_file(&file).map_err(|source| CheckpointError::Io { file, source })?;
        }
        Ok(saved)
    }
}
