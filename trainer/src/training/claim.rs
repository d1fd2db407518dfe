//! The right of one run to an output folder.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use cotangent_models::checkpoint::{CheckpointError, TEMPORARY_PREFIX};

use super::{STATE_FILE, TrainingError};
use crate::adapter::{self, CONFIG_FILE, WEIGHTS_FILE};

/// The treatment of an earlier run in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    /// The earlier run is kept, and the new one refused.
    Refuse,
    /// The new run goes on with it.
    Resume,
    /// The earlier run is replaced as soon as the new one saves.
    Replace,
}

/// A folder that no other run writes to while this lives. The lock is the operating system's and ends with the process,
/// however that ends; no file stands for it.
#[derive(Debug)]
pub struct Claim {
    dir: PathBuf,
    earlier: Earlier,
    /// `None` as long as the folder is not made.
    lock: Option<File>,
}

impl Claim {
    /// Claims the folder `dir`, which need not be there yet. Nothing is written.
    ///
    /// # Errors
    /// If `dir` is a file, cannot be written to or made, is in use by another run, or holds an earlier run that is to be
    /// kept.
    pub fn new(dir: &Path, earlier: Earlier) -> Result<Self, TrainingError> {
        check_writable(dir)?;
        let mut claim = Claim { dir: dir.to_owned(), earlier, lock: None };
        if dir.is_dir() {
            claim.lock()?;
        }
        Ok(claim)
    }

    /// Makes the folder if it is not there, and removes what a run left that was killed while it saved.
    ///
    /// # Errors
    /// As [`new`](Self::new), where the folder changed meanwhile.
    pub(super) fn open(mut self) -> Result<Self, TrainingError> {
        fs::create_dir_all(&self.dir).map_err(|source| self.io_error(source))?;
        if self.lock.is_none() {
            self.lock()?;
        }
        for name in self.names()?.iter().filter(|name| name.starts_with(TEMPORARY_PREFIX)) {
            let file = self.dir.join(name);
            fs::remove_file(&file).map_err(|source| CheckpointError::Io { file, source })?;
        }
        Ok(self)
    }

    /// The folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The files of an earlier run that this one replaces under no name of its own.
    pub(super) fn to_replace(&self) -> Result<Vec<PathBuf>, TrainingError> {
        if self.earlier != Earlier::Replace {
            return Ok(Vec::new());
        }
        Ok(self.names()?.iter().filter(|name| is_numbered(name)).map(|name| self.dir.join(name)).collect())
    }

    fn lock(&mut self) -> Result<(), TrainingError> {
        let dir = self.dir.display();
        let folder = File::open(&self.dir).map_err(|source| self.io_error(source))?;
        match folder.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let reason =
                    "another run is writing to it\nhelp: wait for its end, or give another folder with `--output`";
                return Err(TrainingError::Output { dir: self.dir.clone(), reason: reason.into() });
            }
            // Some network file systems have no locks, and a run without one is better than none.
            Err(TryLockError::Error(error)) => {
                eprintln!("warning: `{dir}` cannot be locked ({error}): a second run in it would not be noticed");
            }
        }
        self.lock = Some(folder);
        if self.earlier == Earlier::Refuse
            && let Some(name) = self.names()?.iter().find(|name| is_of_a_run(name))
        {
            let reason = format!(
                "holds an earlier run (`{name}`)\nhelp: `--overwrite` replaces it, `cotangent train --resume` goes on with it, \
                 and `--output` takes another folder"
            );
            return Err(TrainingError::Output { dir: self.dir.clone(), reason });
        }
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, TrainingError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(|source| self.io_error(source))? {
            let entry = entry.map_err(|source| self.io_error(source))?;
            // A name that is not UTF-8 is not this program's.
            names.extend(entry.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    fn io_error(&self, source: io::Error) -> CheckpointError {
        CheckpointError::Io { file: self.dir.clone(), source }
    }
}

/// Checks that files can be written to the folder `dir`, or to the nearest folder above in which it would be made.
/// Nothing is left behind.
///
/// # Errors
/// If a file stands in the way, or the system refuses.
pub fn check_writable(dir: &Path) -> Result<(), CheckpointError> {
    let start = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    for folder in start.ancestors().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder }) {
        let io_error = |source| CheckpointError::Io { file: folder.to_owned(), source };
        match fs::metadata(folder) {
            Ok(kind) if kind.is_dir() => return tempfile::tempfile_in(folder).map(drop).map_err(io_error),
            Ok(_) => {
                let reason = "found a file, expected a folder or nothing\nhelp: give another folder".into();
                return Err(CheckpointError::Damaged { file: folder.to_owned(), reason });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // There is no folder below a file; the file itself is found next.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(error) => return Err(io_error(error)),
        }
    }
    Ok(())
}

fn is_of_a_run(name: &str) -> bool {
    [WEIGHTS_FILE, CONFIG_FILE, STATE_FILE].contains(&name) || is_numbered(name)
}

/// Returns whether it is the name of a numbered adapter, such as `0000100_adapters.safetensors`.
fn is_numbered(name: &str) -> bool {
    let of_head = adapter::head_file(Path::new(WEIGHTS_FILE));
    [Path::new(WEIGHTS_FILE), &of_head]
        .iter()
        .find_map(|file| name.strip_suffix(file.to_str()?)?.strip_suffix('_'))
        .is_some_and(|number| number.len() >= 7 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(dir: &Path, earlier: Earlier) -> String {
        match Claim::new(dir, earlier) {
            Ok(_) => "none".into(),
            Err(error) => error.to_string().replace(&dir.display().to_string(), "out"),
        }
    }

    #[test]
    fn a_folder_has_one_run_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Claim::new(dir.path(), Earlier::Refuse).unwrap();
        assert!(refusal(dir.path(), Earlier::Replace).starts_with("`out`: another run is writing to it\nhelp: "));
        drop(first);
        assert_eq!(refusal(dir.path(), Earlier::Replace), "none");

        // Two runs want to make this folder at the same time.
        let new = dir.path().join("new");
        let (one, two) = (Claim::new(&new, Earlier::Refuse).unwrap(), Claim::new(&new, Earlier::Refuse).unwrap());
        let one = one.open().unwrap();
        assert!(two.open().unwrap_err().to_string().contains("another run is writing to it"));
        drop(one);
    }

    #[test]
    fn an_earlier_run_is_kept_unless_something_else_is_asked() {
        for (name, used) in [
            ("adapters.safetensors", true),
            ("adapter_config.json", true),
            ("training_state.safetensors", true),
            ("0000100_adapters.safetensors", true),
            ("0000100_adapters.mtp.safetensors", true),
            ("notes.txt", false),
            ("my_adapters.safetensors", false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(name), "").unwrap();
            let message = refusal(dir.path(), Earlier::Refuse);
            assert_eq!(message.starts_with(&format!("`out`: holds an earlier run (`{name}`)")), used, "{message}");
            assert_eq!(refusal(dir.path(), Earlier::Resume), "none");
            assert_eq!(refusal(dir.path(), Earlier::Replace), "none");
        }
    }

    #[test]
    fn what_a_killed_save_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".writing-aB3xYz", ".hidden", "notes.txt", "0000100_adapters.safetensors"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let claim = Claim::new(dir.path(), Earlier::Replace).unwrap().open().unwrap();
        assert_eq!(claim.names().unwrap(), [".hidden", "0000100_adapters.safetensors", "notes.txt"]);
        assert_eq!(claim.to_replace().unwrap(), [dir.path().join("0000100_adapters.safetensors")]);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_found_before() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        check_writable(&dir.path().join("a/b/c")).unwrap();
        for path in ["file", "file/a/b"] {
            let message = check_writable(&dir.path().join(path)).unwrap_err().to_string();
            assert!(message.contains("/file`: found a file, expected a folder or nothing"), "{message}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something was left behind");
    }
}
