//! Writes the files of a checkpoint tensor by tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::write::WrittenHeader;
use super::{CheckpointError, HostTensor, INDEX_FILE, SINGLE_FILE, TensorPlan, write_atomically};

/// The safetensors files of a checkpoint whose tensors are planned before and written one at a time, in any order; so that
/// one of them is in memory at most.
#[derive(Debug)]
pub struct ShardWriter {
    dir: PathBuf,
    files: Vec<(PathBuf, File)>,
    /// The file and the first byte of each tensor that is not written yet.
    places: BTreeMap<String, (usize, u64, TensorPlan)>,
    /// Tensor to the name of its file.
    index: BTreeMap<String, String>,
    /// Whether the index is written.
    is_listed: bool,
    total: u64,
}

impl ShardWriter {
    /// Makes the files in the folder `dir`, each of `limit` bytes of tensors at most, or of one tensor.
    ///
    /// # Errors
    /// If two tensors have one name, or a file cannot be made.
    pub fn create(dir: &Path, tensors: Vec<TensorPlan>, limit: u64) -> Result<Self, CheckpointError> {
        let mut names = BTreeSet::new();
        if let Some(twice) = tensors.iter().find(|tensor| !names.insert(&tensor.name)) {
            return Err(CheckpointError::tensor(dir, &twice.name, "is to be written twice"));
        }
        let mut shards: Vec<Vec<TensorPlan>> = vec![Vec::new()];
        let mut filled = 0;
        for tensor in tensors {
            if filled > 0 && filled + tensor.bytes() > limit {
                shards.push(Vec::new());
                filled = 0;
            }
            filled += tensor.bytes();
            shards.last_mut().unwrap_or(&mut Vec::new()).push(tensor);
        }
        let count = shards.len();
        let name = |number: usize| match count {
            1 => SINGLE_FILE.to_owned(),
            _ => format!("model-{number:05}-of-{count:05}.safetensors"),
        };
        Self::from_files(dir, (1..).map(name).zip(shards).collect(), true)
    }

    /// Makes the one file `name` in the folder `dir`, which no index lists.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn beside(dir: &Path, name: &str, tensors: Vec<TensorPlan>) -> Result<Self, CheckpointError> {
        Self::from_files(dir, vec![(name.to_owned(), tensors)], false)
    }

    fn from_files(
        dir: &Path,
        shards: Vec<(String, Vec<TensorPlan>)>,
        is_listed: bool,
    ) -> Result<Self, CheckpointError> {
        let total = shards.iter().flat_map(|(_, tensors)| tensors).map(TensorPlan::bytes).sum();
        let mut writer = ShardWriter {
            dir: dir.to_owned(),
            files: Vec::new(),
            places: BTreeMap::new(),
            index: BTreeMap::new(),
            is_listed,
            total,
        };
        for (number, (name, shard)) in shards.into_iter().enumerate() {
            let path = dir.join(&name);
            let metadata = [("format".to_owned(), "mlx".to_owned())].into();
            let header = WrittenHeader::new(&path, shard, &metadata)?;
            let io_error = |source| CheckpointError::io(&path, source);
            let file = File::create_new(&path).map_err(io_error)?;
            file.write_all_at(&header.bytes, 0).map_err(io_error)?;
            for (tensor, start) in header.tensors {
                writer.index.insert(tensor.name.clone(), name.clone());
                let start = header.bytes.len() as u64 + start;
                writer.places.insert(tensor.name.clone(), (number, start, tensor));
            }
            writer.files.push((path, file));
        }
        Ok(writer)
    }

    /// Writes the tensor called `name`.
    ///
    /// # Errors
    /// If it was not planned, not so, or is written already; or if the disk is full.
    pub fn write(&mut self, name: &str, tensor: &HostTensor) -> Result<(), CheckpointError> {
        let Some((number, start, plan)) = self.places.remove(name) else {
            return Err(CheckpointError::tensor(&self.dir, name, "is not to be written"));
        };
        let (path, file) = &self.files[number];
        if (tensor.dtype, &tensor.shape) != (plan.dtype, &plan.shape) || tensor.bytes.len() as u64 != plan.bytes() {
            let reason = format!("is {} {:?}, planned was {} {:?}", tensor.dtype, tensor.shape, plan.dtype, plan.shape);
            return Err(CheckpointError::tensor(path, name, reason));
        }
        file.write_all_at(&tensor.bytes, start).map_err(|source| CheckpointError::io(path, source))
    }

    /// Writes the index, if one lists the files, when all tensors are written; `parameters` is the number of elements
    /// that they stand for.
    ///
    /// # Errors
    /// If a tensor is missing, or the disk is full.
    pub fn finish(self, parameters: usize) -> Result<(), CheckpointError> {
        if let Some((name, (number, ..))) = self.places.first_key_value() {
            return Err(CheckpointError::tensor(&self.files[*number].0, name, "was not written"));
        }
        for (path, file) in &self.files {
            file.sync_all().map_err(|source| CheckpointError::io(path, source))?;
        }
        if !self.is_listed {
            return Ok(());
        }
        let metadata = json!({"total_size": self.total, "total_parameters": parameters});
        let index = json!({"metadata": metadata, "weight_map": self.index});
        write_atomically(&self.dir.join(INDEX_FILE), |file| write!(file, "{index:#}"))
    }

    /// Returns the number of files, and the bytes of all tensors.
    pub fn size(&self) -> (usize, u64) {
        (self.files.len(), self.total)
    }
}
