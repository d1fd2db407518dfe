//! The errors of checkpoints.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::quoting::{quoted, quoted_path};

/// The reason why a checkpoint cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The operating system refused to read or write a file.
    #[error("`{file}`: {source}", file = quoted_path(file))]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file or folder as a whole is not what it should be.
    #[error("`{file}`: {reason}", file = quoted_path(file))]
    Damaged {
        /// The file or folder.
        file: PathBuf,
        /// The text of what was found and what was expected.
        reason: String,
    },
    /// One tensor is not what it should be.
    #[error("`{file}`: tensor `{tensor}`: {reason}", file = quoted_path(file), tensor = quoted(tensor))]
    Tensor {
        /// The file, or the folder of the checkpoint.
        file: PathBuf,
        /// The tensor's name as stored.
        tensor: String,
        /// The text of what was found and what was expected.
        reason: String,
    },
    /// The tensors are sound, but are not those of the model that `config.json` describes.
    #[error("{0}")]
    Mismatch(Box<Mismatch>),
}

impl CheckpointError {
    pub(super) fn io(file: &Path, source: io::Error) -> Self {
        Self::Io { file: file.to_owned(), source }
    }

    pub(super) fn damaged(file: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_owned(), reason: reason.into() }
    }

    pub(super) fn tensor(file: &Path, tensor: &str, reason: impl Into<String>) -> Self {
        Self::Tensor { file: file.to_owned(), tensor: tensor.to_owned(), reason: reason.into() }
    }
}

/// All differences between the tensors of a checkpoint and the parameters of a model.
#[derive(Debug, Default)]
pub struct Mismatch {
    /// The folder of the checkpoint.
    pub dir: PathBuf,
    /// Parameters that no tensor provides: canonical name and expected shape.
    pub missing: Vec<(String, Vec<usize>)>,
    /// Tensors, by stored name, that are no parameter of the model: name and shape.
    pub extra: Vec<(String, Vec<usize>)>,
    /// Tensors of another shape: stored name, found, expected.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Tensors that are not f32, bf16 or f16: stored name and dtype.
    pub not_float: Vec<(String, String)>,
}

impl Mismatch {
    pub(super) fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.misshapen.is_empty() && self.not_float.is_empty()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "`{}`: the tensors are not those of the model in `config.json`", quoted_path(&self.dir))?;
        for (name, shape) in &self.missing {
            write!(f, "\n  missing: `{name}`, expected {shape:?}")?;
        }
        for (name, shape) in &self.extra {
            write!(f, "\n  extra: `{}`, found {shape:?}", quoted(name))?;
        }
        for (name, found, expected) in &self.misshapen {
            write!(f, "\n  shape: `{}`, found {found:?}, expected {expected:?}", quoted(name))?;
        }
        for (name, dtype) in &self.not_float {
            write!(f, "\n  dtype: `{}`, found {dtype}, expected F32, BF16 or F16", quoted(name))?;
        }
        write!(f, "\nhelp: take `config.json` and the safetensors files from the same model")
    }
}
