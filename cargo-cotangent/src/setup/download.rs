//! Wheels, fetched once and checked every time.

use super::digest;
use super::pins::Wheel;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// The path of `wheel` in the folder `downloads`. Calls `download(wheel, folder)` to put it into a folder if it is not
/// there or not what was published.
///
/// # Errors
/// What `download` fails with; or if what it brought is not what was published either.
pub fn fetch(wheel: &Wheel, downloads: &Path, download: impl FnOnce(&Wheel, &Path) -> Result<()>) -> Result<PathBuf> {
    let path = downloads.join(wheel.file);
    if path.is_file() {
        if digest::file_sha256(&path)? == wheel.sha256 {
            return Ok(path);
        }
        eprintln!("  `{}` is damaged", path.display());
        fs::remove_file(&path).with_context(|| format!("cannot remove `{}`", path.display()))?;
    }
    let arriving = downloads.join("arriving");
    if arriving.exists() {
        fs::remove_dir_all(&arriving).with_context(|| format!("cannot remove `{}`", arriving.display()))?;
    }
    fs::create_dir_all(&arriving).with_context(|| format!("cannot create `{}`", arriving.display()))?;
    download(wheel, &arriving).with_context(|| {
        format!(
            "cannot download {} {}\n  \
             help: connect to the network; behind a proxy or with a mirror, set HTTPS_PROXY or PIP_INDEX_URL; \
             without a network, put the file `{}` into `{}`",
            wheel.project,
            wheel.version,
            wheel.file,
            downloads.display()
        )
    })?;
    let arrived = arriving.join(wheel.file);
    let found = if arrived.is_file() { digest::file_sha256(&arrived)? } else { "no such file".to_owned() };
    if found != wheel.sha256 {
        bail!(
            "what was downloaded as `{}` is not what its authors published\n  found SHA-256:    {found}\n  \
             expected SHA-256: {}\n  help: run it again; if it stays so, distrust the network or the mirror in between",
            wheel.file,
            wheel.sha256
        );
    }
    fs::rename(&arrived, &path).with_context(|| format!("cannot write `{}`", path.display()))?;
    // The folder is empty now; if this fails, the next download removes it.
    let _ = fs::remove_dir(&arriving);
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wheel whose contents are `abc`.
    const WHEEL: Wheel = Wheel {
        project: "letters",
        version: "1.0",
        platform: "any",
        file: "letters-1.0-py3-none-any.whl",
        sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        megabytes: 0,
    };

    fn brings(text: &'static str) -> impl FnOnce(&Wheel, &Path) -> Result<()> {
        move |wheel, folder| Ok(fs::write(folder.join(wheel.file), text)?)
    }

    fn must_not_be_called(_: &Wheel, _: &Path) -> Result<()> {
        panic!("downloaded a file that was there")
    }

    #[test]
    fn a_wheel_is_downloaded_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = fetch(&WHEEL, folder.path(), brings("abc")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "abc");
        assert_eq!(fetch(&WHEEL, folder.path(), must_not_be_called).unwrap(), path);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "something was left beside the wheel");
    }

    #[test]
    fn a_damaged_wheel_is_downloaded_again() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(WHEEL.file), "ab").unwrap();
        let path = fetch(&WHEEL, folder.path(), brings("abc")).unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "abc");
    }

    #[test]
    fn what_a_broken_download_left_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("arriving")).unwrap();
        fs::write(folder.path().join("arriving").join(WHEEL.file), "a").unwrap();
        assert!(fetch(&WHEEL, folder.path(), |_, _| bail!("no network")).is_err());
        assert!(fetch(&WHEEL, folder.path(), brings("abc")).is_ok());
    }

    #[test]
    fn a_forged_wheel_is_refused_and_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let error = fetch(&WHEEL, folder.path(), brings("abd")).unwrap_err().to_string();
        assert!(error.contains("is not what its authors published"), "{error}");
        assert!(error.contains(WHEEL.sha256), "{error}");
        assert!(!folder.path().join(WHEEL.file).exists());
    }

    #[test]
    fn without_a_network_the_error_says_where_to_put_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = fetch(&WHEEL, folder.path(), |_, _| bail!("no network")).unwrap_err().to_string();
        assert!(error.starts_with("cannot download letters 1.0\n  help: connect to the network"), "{error}");
        assert!(error.contains(WHEEL.file) && error.contains(&folder.path().display().to_string()), "{error}");
    }
}
