//! Checkpoints on the host: safetensors files, whole or in shards, read lazily and checked before anything is believed.
//!
//! Opening reads the headers only; a tensor's bytes are read from the file when it is asked for. Nothing here panics or
//! allocates more than the files hold, whatever they contain.

mod checksum;
mod codes;
mod error;
mod file;
mod folder;
mod header;
mod host_tensor;
mod index;
mod layout;
mod multi_token;
mod names;
mod plan;
mod shards;
mod source;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::quoting::quoted;

pub use checksum::Checksum;
pub use error::{CheckpointError, Mismatch};
pub use file::SafetensorsFile;
pub use folder::checkpoint_folder;
pub use host_tensor::HostTensor;
pub use layout::{Layout, mlx_shape, to_mlx};
pub use multi_token::{HeadPlace, MULTI_TOKEN_FILE};
pub use names::{TensorRole, classify, name_in_mlx, name_in_transformers};
pub use plan::{LoadPlan, Skipped};
pub use safetensors::Dtype;
pub use shards::ShardWriter;
pub(crate) use source::modules;
pub use write::{TEMPORARY_PREFIX, TensorPlan, write_atomically, write_folder_atomically, write_safetensors};

const SINGLE_FILE: &str = "model.safetensors";
const INDEX_FILE: &str = "model.safetensors.index.json";

/// The facts about a tensor that are known before its bytes are read.
#[derive(Debug, Clone, Copy)]
pub struct TensorInfo<'a> {
    /// Element type, as stored.
    pub dtype: Dtype,
    /// Extents, outermost first; empty for a scalar.
    pub shape: &'a [usize],
    /// The file that holds the tensor.
    pub file: &'a Path,
}

/// An open checkpoint: `model.safetensors`, or the shards named by `model.safetensors.index.json`.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    files: Vec<SafetensorsFile>,
    /// Tensor name to the index of its file in `files`.
    tensors: BTreeMap<String, usize>,
}

impl Checkpoint {
    /// Opens the checkpoint in folder `dir` and reads the headers of its files.
    ///
    /// # Errors
    /// If there is no checkpoint, or more than one; if a file is missing, damaged or truncated; or if the index and the
    /// shards disagree.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let dir = dir.as_ref();
        if !fs::metadata(dir).map_err(|source| CheckpointError::io(dir, source))?.is_dir() {
            return Err(CheckpointError::damaged(dir, "found a file, expected the folder of a checkpoint"));
        }
        let (single, index) = (dir.join(SINGLE_FILE), dir.join(INDEX_FILE));
        match (is_present(&single), is_present(&index)) {
            (true, false) => Self::from_single(dir, &single),
            (false, true) => Self::from_shards(dir, &index, &index::read(&index)?),
            (true, true) => {
                // mlx-lm writes an index beside a single file too; any other pair is two checkpoints in one folder.
                let map = index::read(&index)?;
                if map.values().any(|file| file != SINGLE_FILE) {
                    let reason = format!(
                        "names other files than `{SINGLE_FILE}`, which is there too\n\
                         help: remove the one that is out of date"
                    );
                    return Err(CheckpointError::damaged(&index, reason));
                }
                Self::from_shards(dir, &index, &map)
            }
            (false, false) => Err(CheckpointError::damaged(dir, nothing_to_open(dir))),
        }
    }

    fn from_single(dir: &Path, path: &Path) -> Result<Self, CheckpointError> {
        let file = SafetensorsFile::open(path)?;
        if file.names().next().is_none() {
            return Err(CheckpointError::damaged(path, "holds no tensors"));
        }
        let tensors = file.names().map(|name| (name.to_owned(), 0)).collect();
        Ok(Self { dir: dir.to_owned(), files: vec![file], tensors })
    }

    fn from_shards(dir: &Path, index: &Path, map: &BTreeMap<String, String>) -> Result<Self, CheckpointError> {
        let mut files: Vec<SafetensorsFile> = Vec::new();
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        let mut tensors = BTreeMap::new();
        for (tensor, shard) in map {
            let number = match numbers.get(shard.as_str()) {
                Some(number) => *number,
                None => {
                    let path = dir.join(shard);
                    if !is_present(&path) {
                        let reason = format!(
                            "is missing, but `{INDEX_FILE}` says that it holds the tensor `{tensor}`\n\
                             help: fetch the file"
                        );
                        return Err(CheckpointError::damaged(&path, reason));
                    }
                    files.push(SafetensorsFile::open(&path)?);
                    numbers.insert(shard, files.len() - 1);
                    files.len() - 1
                }
            };
            if files[number].get(tensor).is_none() {
                let reason = format!("is not in the file, although `{INDEX_FILE}` says so");
                return Err(CheckpointError::tensor(files[number].path(), tensor, reason));
            }
            tensors.insert(tensor.clone(), number);
        }
        for (number, file) in files.iter().enumerate() {
            if let Some(stray) = file.names().find(|name| tensors.get(*name) != Some(&number)) {
                let reason = match tensors.get(stray) {
                    Some(other) => format!("`{INDEX_FILE}` says that it is in `{}`", files[*other].path().display()),
                    None => format!("`{INDEX_FILE}` does not list it"),
                };
                return Err(CheckpointError::tensor(file.path(), stray, format!("is in the file, but {reason}")));
            }
        }
        if tensors.is_empty() {
            return Err(CheckpointError::damaged(index, "lists no tensors"));
        }
        Ok(Self { dir: dir.to_owned(), files, tensors })
    }

    /// The folder that was opened.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The names of all tensors, as stored, in ascending order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Returns what the header says about the tensor stored under `name`.
    pub fn get(&self, name: &str) -> Option<TensorInfo<'_>> {
        self.files[*self.tensors.get(name)?].get(name)
    }

    /// Reads the tensor stored under `name`.
    ///
    /// # Errors
    /// If there is no such tensor, or the file cannot be read any more.
    pub fn read(&self, name: &str) -> Result<HostTensor, CheckpointError> {
        match self.tensors.get(name) {
            Some(number) => self.files[*number].read(name),
            None => Err(CheckpointError::tensor(&self.dir, name, "is not in the checkpoint")),
        }
    }

    /// Reads half of a tensor, as [`SafetensorsFile::read_half`] does.
    fn read_half(&self, name: &str, second: bool) -> Result<HostTensor, CheckpointError> {
        match self.tensors.get(name) {
            Some(number) => self.files[*number].read_half(name, second),
            None => Err(CheckpointError::tensor(&self.dir, name, "is not in the checkpoint")),
        }
    }

    /// Returns whether a file says that MLX wrote it.
    fn written_by_mlx(&self) -> bool {
        self.files.iter().any(|file| file.metadata().get("format").is_some_and(|format| format == "mlx"))
    }
}

/// Returns whether anything, a broken link included, exists at `path`.
fn is_present(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn nothing_to_open(dir: &Path) -> String {
    let mut others: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".safetensors") || name.ends_with(".bin") || name.ends_with(".gguf"))
        .collect();
    others.sort();
    let found = match others.first() {
        None => "no weights".to_owned(),
        Some(name) => format!("`{}`", quoted(name)),
    };
    format!(
        "found {found}, expected `{SINGLE_FILE}` or `{INDEX_FILE}`\n\
         help: give the folder of a Hugging Face checkpoint in safetensors format"
    )
}
