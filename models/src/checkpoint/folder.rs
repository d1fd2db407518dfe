//! Finds the folder of a checkpoint, also in Hugging Face's cache.

use std::fs;
use std::path::{Path, PathBuf};

use crate::reading;

use super::CheckpointError;

/// The folder that holds the files of a checkpoint: `dir` itself, or, where `dir` is a model of Hugging Face's cache
/// (`models--Qwen--Qwen3.5-0.8B`), the snapshot of it that `refs/main` names, or the only one.
///
/// # Errors
/// If the cache holds no snapshot, or several and does not say which is the newest.
pub fn checkpoint_folder(dir: &Path) -> Result<PathBuf, CheckpointError> {
    let snapshots = dir.join("snapshots");
    if dir.join("config.json").exists() || !snapshots.is_dir() {
        return Ok(dir.to_owned());
    }
    let main = reading::read_text(&dir.join("refs/main"), 1000).ok();
    if let Some(commit) = main.as_deref().map(str::trim).filter(|commit| is_commit(commit)) {
        let snapshot = snapshots.join(commit);
        if snapshot.is_dir() {
            return Ok(snapshot);
        }
    }
    let io_error = |source| CheckpointError::io(&snapshots, source);
    let mut found = Vec::new();
    for entry in fs::read_dir(&snapshots).map_err(io_error)? {
        found.push(entry.map_err(io_error)?.path());
    }
    found.sort();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(CheckpointError::damaged(
            dir,
            "is a model of Hugging Face's cache without a snapshot\nhelp: download the model again",
        )),
        [first, ..] => {
            let reason = format!(
                "is a model of Hugging Face's cache with {} snapshots\nhelp: give one of them, such as `{}`",
                found.len(),
                first.display()
            );
            Err(CheckpointError::damaged(dir, reason))
        }
    }
}

/// Returns whether `text` is the name of a commit, and so no path.
fn is_commit(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files and folders (which end in `/`) in it.
    fn folder(paths: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in paths {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn a_model_of_the_cache_stands_for_its_newest_snapshot() {
        let (one, two) = (("snapshots/1a/config.json", "{}"), ("snapshots/2b/config.json", "{}"));
        for (paths, expected) in [
            (vec![("config.json", "{}"), one], ""),
            (vec![("model.safetensors", "")], ""),
            (vec![one], "snapshots/1a"),
            (vec![one, two, ("refs/main", "2b\n")], "snapshots/2b"),
            (vec![one, ("refs/main", "../../elsewhere")], "snapshots/1a"),
        ] {
            let dir = folder(&paths);
            assert_eq!(checkpoint_folder(dir.path()).unwrap(), dir.path().join(expected), "{paths:?}");
        }
    }

    #[test]
    fn a_model_of_the_cache_that_names_no_snapshot_is_refused() {
        let message = |dir: &Path| checkpoint_folder(dir).unwrap_err().to_string();
        let several = folder(&[("snapshots/1a/config.json", "{}"), ("snapshots/2b/config.json", "{}")]);
        assert!(message(several.path()).contains("with 2 snapshots\nhelp: give one of them, such as"));
        let none = folder(&[("refs/main", "2b")]);
        fs::create_dir(none.path().join("snapshots")).unwrap();
        assert!(message(none.path()).contains("without a snapshot"));
    }
}
