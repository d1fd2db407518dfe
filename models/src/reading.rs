//! Small foreign files, read with a limit.
//!
//! A pipe under the name of a configuration blocks the program that opens it, and a device never ends. So only regular
//! files are opened, and no file is read beyond a limit.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// The limit for a configuration or a chat template: a hundred times the largest that is published.
pub const CONFIGURATION_BYTES: u64 = 16 << 20;

/// The beginning of the text that Git LFS puts in the place of a large file.
pub const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The message about such a file.
pub const IS_LFS_POINTER: &str = "is a Git LFS pointer, which stands for the file\n\
                                  help: run `git lfs pull` in its folder, or download the file itself";

/// Opens the regular file at `path`, of any size.
///
/// # Errors
/// If it cannot be opened, or is a folder, a pipe, a device or a socket.
pub fn open(path: &Path) -> io::Result<File> {
    // The kind is checked before opening, because opening a pipe waits for a writer, and again after, because files can
    // be exchanged.
    expect_file(&fs::metadata(path)?)?;
    let file = File::open(path)?;
    expect_file(&file.metadata()?)?;
    Ok(file)
}

/// Reads the regular file at `path`, of at most `limit` bytes.
///
/// # Errors
/// If it cannot be read, is no regular file, or is longer.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let too_long = |bytes: u64| {
        let message = format!("has {bytes} bytes or more, expected at most {limit}");
        io::Error::new(ErrorKind::FileTooLarge, message)
    };
    let length = file.metadata()?.len();
    if length > limit {
        return Err(too_long(length));
    }
    // Some files claim to be empty and never end.
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        length if length > limit => Err(too_long(length)),
        _ if bytes.starts_with(LFS_POINTER) => Err(io::Error::new(ErrorKind::InvalidData, IS_LFS_POINTER)),
        _ => Ok(bytes),
    }
}

/// Reads the regular file at `path`, of at most `limit` bytes, as text.
///
/// # Errors
/// If it cannot be read, is no regular file, is longer, or is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    String::from_utf8(read(path, limit)?).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        io::Error::new(ErrorKind::InvalidData, format!("not UTF-8 (byte {place}); save the file as UTF-8"))
    })
}

/// Turns the error of a missing file into `None`, and keeps every other error.
///
/// # Errors
/// Those of `result`, except for [`ErrorKind::NotFound`].
pub fn if_present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn expect_file(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let (kind, found) = match metadata.is_dir() {
        true => (ErrorKind::IsADirectory, "a folder"),
        false => (ErrorKind::InvalidInput, "a pipe or a device"),
    };
    Err(io::Error::new(kind, format!("found {found}, expected a file")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        fs::write(&path, "{\"a\": 1}").unwrap();
        assert_eq!(read(&path, 8).unwrap(), b"{\"a\": 1}");
        assert_eq!(read(&path, 7).unwrap_err().to_string(), "has 8 bytes or more, expected at most 7");
        fs::write(&path, b"ab\xff").unwrap();
        assert_eq!(read_text(&path, 7).unwrap_err().to_string(), "not UTF-8 (byte 2); save the file as UTF-8");
    }

    #[test]
    fn what_is_no_file_is_refused_before_it_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for (path, expected) in [
            (dir.path(), "found a folder, expected a file"),
            (&pipe, "found a pipe or a device, expected a file"),
            (Path::new("/dev/zero"), "found a pipe or a device, expected a file"),
        ] {
            assert_eq!(read(path, 100).unwrap_err().to_string(), expected, "{}", path.display());
        }
    }

    #[test]
    fn a_pointer_of_git_lfs_is_not_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        fs::write(&path, "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234\n").unwrap();
        assert_eq!(read_text(&path, 1000).unwrap_err().to_string(), IS_LFS_POINTER);
    }

    #[test]
    fn only_absence_is_excused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(if_present(read(&dir.path().join("absent"), 1)).unwrap().is_none());
        assert!(if_present(read(dir.path(), 1)).is_err());
    }
}
