//! Finds snapshots that no test compares any more: they would be read as true and never be checked.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A list of the snapshots that tests have looked at, which insta keeps if asked to.
pub struct References {
    list: PathBuf,
}

impl References {
    /// Makes an empty list.
    pub fn new(root: &Path) -> Result<Self> {
        let list = root.join("target/xtask/referenced-snapshots");
        let context = || format!("cannot write `{}`", list.display());
        fs::create_dir_all(root.join("target/xtask")).with_context(context)?;
        fs::write(&list, "").with_context(context)?;
        Ok(Self { list })
    }

    /// Has the tests that `command` runs enter the snapshots they look at.
    pub fn note_in<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env("INSTA_SNAPSHOT_REFERENCES_FILE", &self.list)
    }

    /// Returns whether each snapshot in the checkout is in the list; names those that are not.
    pub fn check(&self, root: &Path) -> Result<bool> {
        let list = fs::read_to_string(&self.list).with_context(|| format!("cannot read `{}`", self.list.display()))?;
        // insta's paths may contain `..`.
        let referenced: BTreeSet<PathBuf> = list.lines().filter_map(|line| fs::canonicalize(line).ok()).collect();
        let mut found = BTreeSet::new();
        collect_snapshots(root, &mut found)?;
        let unreferenced: Vec<_> = found.difference(&referenced).collect();
        for snapshot in &unreferenced {
            let snapshot = snapshot.strip_prefix(root).unwrap_or(snapshot);
            eprintln!("error: no test compares with `{}`\n  help: remove it", snapshot.display());
        }
        eprintln!("{} snapshots, {} of them without a test", found.len(), unreferenced.len());
        Ok(unreferenced.is_empty())
    }
}

/// Adds the snapshots below `folder`, except in hidden folders and in what Cargo builds.
fn collect_snapshots(folder: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    let context = || format!("cannot list `{}`", folder.display());
    let entries = match fs::read_dir(folder) {
        // Tests that run in another terminal may remove their files meanwhile.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(context)?,
    };
    for entry in entries {
        let entry = entry.with_context(context)?;
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        let kind = entry.file_type().with_context(context)?;
        if kind.is_dir() && !name.starts_with('.') && name != "target" {
            collect_snapshots(&path, found)?;
        } else if kind.is_file() && name.ends_with(".snap") {
            found.insert(fs::canonicalize(&path).with_context(|| format!("cannot read `{}`", path.display()))?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_without_a_test_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let snapshots = root.join("tests/snapshots");
        fs::create_dir_all(&snapshots).unwrap();
        fs::write(snapshots.join("used.snap"), "").unwrap();
        let references = References::new(&root).unwrap();
        fs::write(&references.list, format!("{}\n", root.join("tests/../tests/snapshots/used.snap").display()))
            .unwrap();
        assert!(references.check(&root).unwrap());

        fs::write(snapshots.join("stale.snap"), "").unwrap();
        assert!(!references.check(&root).unwrap());
    }

    #[test]
    fn build_products_are_no_snapshots() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("target/tests")).unwrap();
        fs::write(folder.path().join("target/tests/a.snap"), "").unwrap();
        assert!(References::new(folder.path()).unwrap().check(folder.path()).unwrap());
    }
}
