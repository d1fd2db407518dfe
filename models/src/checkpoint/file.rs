//! An open safetensors file, whose tensors are read when asked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::reading;

use super::header::{Entry, Header, MAX_HEADER_BYTES};
use super::{CheckpointError, HostTensor, TensorInfo};

/// The bytes that are read at once when two tensors are compared.
const PIECE_BYTES: u64 = 1 << 20;

/// One open safetensors file: its header is in memory, its tensors are read by position when asked for.
///
/// There is no memory map: a file that is truncated while it is mapped kills the process.
#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    file: File,
    header: Header,
    data_start: u64,
}

impl SafetensorsFile {
    /// Opens the file at `path` and reads its header.
    ///
    /// # Errors
    /// If the file cannot be read, or its header does not describe exactly the bytes that follow it.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let io_error = |source| CheckpointError::io(path, source);
        let file = reading::open(path).map_err(io_error)?;
        let file_bytes = file.metadata().map_err(io_error)?.len();

        if file_bytes < 8 {
            let reason = format!("has {file_bytes} bytes, too few for a safetensors file\nhelp: fetch the file again");
            return Err(CheckpointError::damaged(path, reason));
        }
        let mut length = [0; 8];
        file.read_exact_at(&mut length, 0).map_err(io_error)?;
        // Read as the length of a header, this would be larger than any file.
        if length == reading::LFS_POINTER[..8] {
            return Err(CheckpointError::damaged(path, reading::IS_LFS_POINTER));
        }
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > file_bytes - 8 || header_bytes > MAX_HEADER_BYTES {
            let limit = MAX_HEADER_BYTES.min(file_bytes - 8);
            let reason = format!(
                "claims a header of {header_bytes} bytes, expected at most {limit}: it is truncated or no \
                 safetensors file"
            );
            return Err(CheckpointError::damaged(path, reason));
        }
        let mut json = vec![0; header_bytes as usize];
        file.read_exact_at(&mut json, 8).map_err(io_error)?;
        let data_start = 8 + header_bytes;
        let header = Header::parse(path, &json, file_bytes - data_start)?;
        Ok(Self { path: path.to_owned(), file, header, data_start })
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The free text that the writer of the file left in it.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.header.metadata
    }

    /// The names of all tensors, in ascending order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.header.tensors.keys().map(String::as_str)
    }

    /// Returns what the header says about the tensor `name`.
    pub fn get(&self, name: &str) -> Option<TensorInfo<'_>> {
        let Entry { dtype, shape, .. } = self.header.tensors.get(name)?;
        Some(TensorInfo { dtype: *dtype, shape, file: &self.path })
    }

    /// Reads the tensor `name`.
    ///
    /// # Errors
    /// If there is no such tensor, or the file cannot be read any more.
    pub fn read(&self, name: &str) -> Result<HostTensor, CheckpointError> {
        let Some(entry) = self.header.tensors.get(name) else {
            return Err(CheckpointError::tensor(&self.path, name, "is not in the file"));
        };
        let bytes = self.read_bytes(name, entry.begin, entry.end - entry.begin)?;
        Ok(HostTensor { dtype: entry.dtype, shape: entry.shape.clone(), bytes })
    }

    /// Reads the first or the second half of the rows of every matrix of the tensor `name`, a stack of them with an even
    /// number of rows.
    ///
    /// # Errors
    /// If there is no such tensor, or the file cannot be read any more.
    pub(super) fn read_half(&self, name: &str, second: bool) -> Result<HostTensor, CheckpointError> {
        let entry = self.header.tensors.get(name);
        let Some((entry, [matrices, rows, rest @ ..])) = entry.map(|entry| (entry, entry.shape.as_slice())) else {
            return Err(CheckpointError::tensor(&self.path, name, "is not in the file, or no stack of matrices"));
        };
        let half = (entry.end - entry.begin) / (2 * *matrices as u64).max(1);
        let mut bytes = Vec::new();
        for number in 0..*matrices as u64 {
            let begin = entry.begin + (2 * number + u64::from(second)) * half;
            bytes.extend(self.read_bytes(name, begin, half)?);
        }
        Ok(HostTensor { dtype: entry.dtype, shape: [&[*matrices, rows / 2], rest].concat(), bytes })
    }

    /// Returns whether tensor `name` and tensor `other_name` of file `other` have the same dtype, shape and bytes;
    /// piece by piece, so that neither is held whole. `false` if one is not there.
    ///
    /// # Errors
    /// If a file cannot be read any more.
    pub(super) fn same(&self, name: &str, other: &Self, other_name: &str) -> Result<bool, CheckpointError> {
        let (Some(left), Some(right)) = (self.header.tensors.get(name), other.header.tensors.get(other_name)) else {
            return Ok(false);
        };
        if (left.dtype, &left.shape) != (right.dtype, &right.shape) {
            return Ok(false);
        }
        let total = left.end - left.begin;
        for start in (0..total).step_by(PIECE_BYTES as usize) {
            let length = PIECE_BYTES.min(total - start);
            let piece = self.read_bytes(name, left.begin + start, length)?;
            if piece != other.read_bytes(other_name, right.begin + start, length)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// `length` bytes of the data from `begin` on, which belong to the tensor `name`.
    fn read_bytes(&self, name: &str, begin: u64, length: u64) -> Result<Vec<u8>, CheckpointError> {
        // The length is at most the file's own: the header was checked against it.
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, self.data_start + begin).map_err(|error| {
            let reason = match error.kind() {
                io::ErrorKind::UnexpectedEof => "the file became shorter while it was open".to_owned(),
                _ => format!("cannot be read: {error}"),
            };
            CheckpointError::tensor(&self.path, name, reason)
        })?;
        Ok(bytes)
    }
}
