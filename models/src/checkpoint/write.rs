use std::collections::{BTreeMap, HashMap};
use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo};

use super::{CheckpointError, HostTensor};

/// How the names of files begin that are not complete yet. One that a killed process left may be removed.
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
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        // The permissions of an ordinary file, less what the umask takes away.
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
        // The rename itself lasts only once the folder is on the disk.
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
    let mut tensors: Vec<(&String, &HostTensor)> = tensors.iter().collect();
    tensors.sort_by_key(|(name, tensor)| (std::cmp::Reverse(tensor.dtype), *name));
    let mut entries = Vec::with_capacity(tensors.len());
    let mut reached = 0;
    for (name, tensor) in &tensors {
        let data_offsets = (reached, reached + tensor.bytes.len());
        reached = data_offsets.1;
        entries.push(((*name).clone(), TensorInfo { dtype: tensor.dtype, shape: tensor.shape.clone(), data_offsets }));
    }
    let invalid = |error: &dyn std::fmt::Display| CheckpointError::damaged(path, format!("cannot be written: {error}"));
    let metadata: Option<HashMap<_, _>> =
        (!metadata.is_empty()).then(|| metadata.iter().map(|(key, value)| (key.clone(), value.clone())).collect());
    let header = Metadata::new(metadata, entries).map_err(|error| invalid(&error))?;
    let mut header = serde_json::to_vec(&header).map_err(|error| invalid(&error))?;
    // Spaces, so that the data is aligned for readers that map the file.
    header.resize(header.len().next_multiple_of(8), b' ');

    write_atomically(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        tensors.iter().try_for_each(|(_, tensor)| file.write_all(&tensor.bytes))
    })
}
