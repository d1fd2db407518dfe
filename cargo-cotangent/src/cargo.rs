//! Cargo, and what it knows about a workspace.

use crate::program;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program that runs as `cargo`.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Returns what `cargo metadata` answers in `folder`: all packages with their dependencies, or only those of the
/// workspace.
///
/// # Errors
/// If there is no workspace, or its dependencies cannot be found or downloaded.
pub fn metadata(folder: &Path, only_workspace: bool) -> Result<Value> {
    let mut command = cargo();
    command.current_dir(folder).args(["metadata", "--format-version=1"]);
    command.args(only_workspace.then_some("--no-deps"));
    serde_json::from_str(&program::output(&mut command)?).context("`cargo metadata` did not answer in JSON")
}

/// The folder of the sources of `package`, which Cargo downloads if need be.
///
/// # Errors
/// If the workspace at `root` depends on another version of it, or not at all.
pub fn source_of(root: &Path, package: &str, version: &str) -> Result<PathBuf> {
    let metadata = metadata(root, false)?;
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    let versions: Vec<_> = packages.iter().filter(|found| found["name"] == package).collect();
    let Some(found) = versions.iter().find(|found| found["version"] == version) else {
        let versions: Vec<_> = versions.iter().filter_map(|found| found["version"].as_str()).collect();
        bail!(
            "expected {package} {version} among the dependencies, found {}\n  \
             help: follow CONTRIBUTING.md, \"A new version of MLX\"",
            if versions.is_empty() { "none".to_owned() } else { versions.join(", ") }
        );
    };
    let manifest = Path::new(found["manifest_path"].as_str().context("`cargo metadata` names no manifest")?);
    Ok(manifest.parent().context("a manifest lies in a folder")?.to_owned())
}

/// The version of `package` in the text of a Cargo.lock, if exactly one is locked.
pub fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let quoted = |line: &'a str, key: &str| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"');
    let mut versions = lock.split("[[package]]").filter_map(|entry| {
        let named = entry.lines().any(|line| quoted(line, "name") == Some(package));
        entry.lines().filter(|_| named).find_map(|line| quoted(line, "version"))
    });
    let version = versions.next()?;
    versions.next().is_none().then_some(version)
}

/// Sets one OpenBLAS thread, unless the user says otherwise: for programs of small matrices, or several at a time, threads that
/// share cores wait for each other more than they help.
pub fn with_one_blas_thread(command: &mut Command) -> &mut Command {
    const VARIABLE: &str = "OPENBLAS_NUM_THREADS";
    if std::env::var_os(VARIABLE).is_none() {
        command.env(VARIABLE, "1");
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_version_is_found_by_the_whole_name() {
        let lock = "version = 4\n\n[[package]]\nname = \"mlx-sys-extra\"\nversion = \"9.0.0\"\n\n\
                    [[package]]\nname = \"mlx-sys\"\nversion = \"0.7.0\"\nsource = \"registry\"\n";
        assert_eq!(locked_version(lock, "mlx-sys"), Some("0.7.0"));
        assert_eq!(locked_version(lock, "mlx"), None);
    }

    #[test]
    fn two_locked_versions_are_no_answer() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n[[package]]\nname = \"a\"\nversion = \"2.0.0\"\n";
        assert_eq!(locked_version(lock, "a"), None);
    }
}
