//! Writes files and folders so that they are never seen incomplete.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::{CheckpointError, HostTensor};

/// The beginning of the names of files that are not complete yet. One that a killed process left may be removed.
pub const TEMPORARY_PREFIX: &str = ".writing-";

/// Writes the file at `path` so that it is, at every moment, either as before or complete: into a temporary file beside
/// it, which is flushed to the disk and then renamed. On failure the temporary file is removed.
///
/// # Errors
/// If the folder does not exist or is not writable, the disk is full, or `write` fails.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), CheckpointError> {
    let attempt = || -> io::Result<()> {
        let dir = parent_of(path);
        // The file gets the permissions of an ordinary file, less those that the umask removes.
        let temporary = tempfile::Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(dir)?;
        let mut buffer = BufWriter::with_capacity(1 << 20, temporary.as_file());
        write(&mut buffer)?;
        buffer.flush()?;
        drop(buffer);
        temporary.as_file().sync_all()?;
        temporary.persist(path).map_err(|error| error.error)?;
        // The rename itself is durable only once the folder is on the disk.
        File::open(dir)?.sync_all()
    };
    attempt().map_err(|source| CheckpointError::io(path, source))
}

/// Writes `tensors` as a safetensors file, widest dtype first and then by name (as the format's own writer does, so
/// that every tensor is aligned), with `metadata` if there is any; atomically.
///
/// # Errors
/// If a tensor's bytes do not fit its shape, or the file cannot be written.
pub fn write_safetensors(
    path: &Path,
    tensors: &BTreeMap<String, HostTensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), CheckpointError> {
    let plan = |(name, tensor): (&String, &HostTensor)| TensorPlan {
        name: name.clone(),
        dtype: tensor.dtype,
        shape: tensor.shape.clone(),
    };
    let header = WrittenHeader::new(path, tensors.iter().map(plan).collect(), metadata)?;
    for (tensor, _) in &header.tensors {
        let (found, expected) = (tensors[&tensor.name].bytes.len() as u64, tensor.bytes());
        if found != expected {
            let reason = format!("cannot be written: has {found} bytes, expected {expected}");
            return Err(CheckpointError::tensor(path, &tensor.name, reason));
        }
    }
    write_atomically(path, |file| {
        file.write_all(&header.bytes)?;
        header.tensors.iter().try_for_each(|(tensor, _)| file.write_all(&tensors[&tensor.name].bytes))
    })
}

/// The name, dtype and shape of a tensor that is still to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorPlan {
    /// The name under which the tensor is stored.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
}

impl TensorPlan {
    /// The bytes of all elements.
    pub fn bytes(&self) -> u64 {
        (self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8) as u64
    }
}

/// The beginning of a safetensors file, and where each of its tensors begins after that.
pub(super) struct WrittenHeader {
    pub(super) bytes: Vec<u8>,
    pub(super) tensors: Vec<(TensorPlan, u64)>,
}

impl WrittenHeader {
    pub(super) fn new(
        path: &Path,
        mut tensors: Vec<TensorPlan>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, CheckpointError> {
        tensors.sort_by(|one, next| (Reverse(one.dtype), &one.name).cmp(&(Reverse(next.dtype), &next.name)));
        let (mut starts, mut reached) = (Vec::with_capacity(tensors.len()), 0);
        for tensor in &tensors {
            starts.push(reached);
            reached += tensor.bytes();
        }
        let entry = |(TensorPlan { name, dtype, shape }, start): (&TensorPlan, &u64)| {
            let length = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            let data_offsets = (*start as usize, *start as usize + length);
            (name.clone(), TensorInfo { dtype: *dtype, shape: shape.clone(), data_offsets })
        };
        let entries = tensors.iter().zip(&starts).map(entry).collect();
        let invalid =
            |error: &dyn std::fmt::Display| CheckpointError::damaged(path, format!("cannot be written: {error}"));
        let metadata: Option<HashMap<_, _>> =
            (!metadata.is_empty()).then(|| metadata.iter().map(|(key, value)| (key.clone(), value.clone())).collect());
        let header = Metadata::new(metadata, entries).map_err(|error| invalid(&error))?;
        let mut header = serde_json::to_value(&header).map_err(|error| invalid(&error))?;
        // Without this the entries have another order in each process, and the file has other bytes.
        if let Some(metadata) = header.get_mut("__metadata__") {
            metadata.sort_all_objects();
        }
        let mut header = serde_json::to_vec(&header).map_err(|error| invalid(&error))?;
        // Spaces align the data for readers that map the file.
        header.resize(header.len().next_multiple_of(8), b' ');
        let bytes = [&(header.len() as u64).to_le_bytes()[..], &header].concat();
        Ok(WrittenHeader { bytes, tensors: tensors.into_iter().zip(starts).collect() })
    }
}

/// Makes the folder at `path`, which must not be there or be empty, so that it is there only once it is complete: `fill` gets
/// a folder beside it, which is then renamed. If `fill` fails, or returns nothing, nothing is left. What a process left there that
/// was killed is removed.
///
/// # Errors
/// If there is something at `path`, the disk is full or not writable, or `fill` fails.
pub fn write_folder_atomically<T, E: From<CheckpointError>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let io_error = |source| CheckpointError::io(path, source);
    match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
        Ok(true) => {}
        Ok(false) => {
            let reason = "is not empty, expected a folder to be made\nhelp: give another folder, or remove it";
            return Err(CheckpointError::damaged(path, reason).into());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error(error).into()),
    }
    let parent = parent_of(path);
    fs::create_dir_all(parent).map_err(io_error)?;
    remove_abandoned(parent);
    let temporary = tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .permissions(Permissions::from_mode(0o777))
        .tempdir_in(parent)
        .map_err(io_error)?;
    // The lock says, as long as the process lives, that it is writing this folder.
    let handle = File::open(temporary.path()).map_err(io_error)?;
    let _ = handle.try_lock();
    let Some(filled) = fill(temporary.path())? else { return Ok(None) };
    let finish = || -> io::Result<()> {
        handle.sync_all()?;
        fs::rename(temporary.path(), path)?;
        File::open(parent)?.sync_all()
    };
    finish().map_err(io_error)?;
    // The folder has its final name now.
    let _ = temporary.keep();
    Ok(Some(filled))
}

/// The time that an incomplete folder may lie without a lock: a process that has just made it is about to lock it.
const TO_BE_LOCKED: Duration = Duration::from_secs(60);

/// Removes the folders in `parent` that processes were filling when they were killed, as far as that can be done. A lock that
/// can be had says that no process is at work: the operating system ends it with the process.
fn remove_abandoned(parent: &Path) {
    let is_abandoned = |entry: &fs::DirEntry| -> io::Result<bool> {
        let is_temporary = entry.file_name().to_str().is_some_and(|name| name.starts_with(TEMPORARY_PREFIX));
        if !is_temporary || !entry.file_type()?.is_dir() {
            return Ok(false);
        }
        let handle = File::open(entry.path())?;
        let age = handle.metadata()?.modified()?.elapsed().unwrap_or_default();
        Ok(age > TO_BE_LOCKED && handle.try_lock().is_ok())
    };
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if is_abandoned(&entry).unwrap_or(false) {
            // A folder that cannot be removed only takes room.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The folder that `path` is in.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
