//! Set-up of a crate outside the checkout: its Cargo is shown where MLX is.

use super::folder::SetupFolder;
use super::pins::Build;
use super::{linux, set_up};
use crate::project::{Origin, Project};
use crate::{cargo, program};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Put before what a configuration of Cargo has.
const INCLUDE: &str = "\
# Where MLX is. `cargo cotangent setup` writes the second file, which takes the place of the first.
include = [
    { path = \"mlx-is-not-set-up.toml\" },
    { path = \"../.mlx/cargo.toml\", optional = true },
]
";

/// The included file, as seen from `.cargo`.
const INCLUDED: &str = "../.mlx/cargo.toml";

/// A crate that was carried to another machine lacks what is not committed.
const NOT_SET_UP: &str = "\
# Makes a plain `cargo build` on Linux end with this sentence instead of mlx-sys' attempt to build MLX with macOS' tools.

[target.x86_64-unknown-linux-gnu.mlx]
rustc-env = { OUT_DIR = \"/MLX is not set up: run `cargo cotangent setup`\" }

[target.aarch64-unknown-linux-gnu.mlx]
rustc-env = { OUT_DIR = \"/MLX is not set up: run `cargo cotangent setup`\" }
";

/// Sets MLX up for the project in whose folder `folder` lies. A checkout of Cotangent that it depends on lends its own MLX;
/// otherwise MLX is put into the project's folder `.mlx`.
///
/// # Errors
/// As [`set_up`]; or if the project's configuration of Cargo includes other files.
pub fn set_up_project(folder: &Path, build: Option<Build>, force: bool) -> Result<()> {
    let project = Project::at(folder)?;
    let home = home_of_mlx(&project)?;
    set_up(&home, build, force)?;
    // On macOS Cargo builds MLX itself, and a checkout of Cotangent already has its configuration.
    if std::env::consts::OS != "linux" || (home == project.root && matches!(project.cotangent, Origin::Folder(_))) {
        return Ok(());
    }
    let own = SetupFolder::new(&project.root);
    write(&own.folder.join(".gitignore"), "*\n")?;
    if home != project.root {
        write(&own.cargo_config(), &borrowed(&SetupFolder::new(&home).cargo_config())?)?;
    }
    let cargo = project.root.join(".cargo");
    write(&cargo.join("mlx-is-not-set-up.toml"), NOT_SET_UP)?;
    let path = cargo.join("config.toml");
    let found = fs::read_to_string(&path).unwrap_or_default();
    if let Some(text) = with_include(&found).with_context(|| format!("cannot add to `{}`", path.display()))? {
        write(&path, &text)?;
    }
    eprintln!("`{}` uses it.", project.root.display());
    Ok(())
}

/// The folder in which MLX lies, or is put.
fn home_of_mlx(project: &Project) -> Result<PathBuf> {
    let Origin::Folder(runtime) = &project.cotangent else { return Ok(project.root.clone()) };
    let locate = ["locate-project", "--workspace", "--message-format=plain"];
    let manifest = program::output(cargo::cargo().current_dir(runtime).args(locate))?;
    let root = Path::new(manifest.trim()).parent().context("a manifest lies in a folder")?;
    Ok(root.to_owned())
}

/// A configuration that follows another, also when that is set up for another build of MLX.
fn borrowed(from: &Path) -> Result<String> {
    let path = from.to_str().with_context(|| format!("`{}` is not UTF-8", from.display()))?;
    let path = toml::Value::from(path);
    Ok(format!("# Written by `cargo cotangent setup`.\ninclude = [{{ path = {path}, optional = true }}]\n"))
}

/// A configuration of Cargo that includes where MLX is, with all that `text` has; nothing if `text` is that already.
fn with_include(text: &str) -> Result<Option<String>> {
    let table: toml::Table = text.parse().context("it is not TOML")?;
    let Some(include) = table.get("include") else {
        let between = if text.is_empty() { "" } else { "\n" };
        return Ok(Some(format!("{INCLUDE}{between}{text}")));
    };
    let path = |entry: &toml::Value| entry.as_str().or_else(|| entry.get("path")?.as_str()).map(str::to_owned);
    let included = match include {
        toml::Value::Array(entries) => entries.iter().filter_map(path).collect(),
        one => Vec::from_iter(path(one)),
    };
    if included.iter().any(|path| path == INCLUDED) {
        return Ok(None);
    }
    bail!("it includes other files\n  help: add `{{ path = \"{INCLUDED}\", optional = true }}` to `include`")
}

/// Writes a whole file with its folder, unless it is there as it should be.
fn write(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    let folder = path.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    linux::write_whole(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn includes(text: &str) -> Vec<String> {
        let table: toml::Table = text.parse().unwrap();
        let entries = table["include"].as_array().unwrap().iter();
        entries.map(|entry| entry["path"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_configuration_keeps_what_it_has() {
        for own in ["", "[build]\njobs = 1\n", "# Mine.\nparallel = 1\n\n[alias]\nb = \"build\"\n"] {
            let text = with_include(own).unwrap().unwrap();
            assert!(text.ends_with(own), "{text}");
            assert_eq!(includes(&text), ["mlx-is-not-set-up.toml", INCLUDED]);
            let (mut table, own): (toml::Table, toml::Table) = (text.parse().unwrap(), own.parse().unwrap());
            table.remove("include");
            assert_eq!(table, own);
            assert_eq!(with_include(&text).unwrap(), None, "a second time");
        }
    }

    #[test]
    fn other_includes_are_left_to_their_author() {
        let error = with_include("include = [\"mine.toml\"]\n").unwrap_err().to_string();
        assert!(error.contains("help: add `{ path = \"../.mlx/cargo.toml\", optional = true }`"), "{error}");
        let added = "include = [\"mine.toml\", { path = \"../.mlx/cargo.toml\", optional = true }]\n";
        assert_eq!(with_include(added).unwrap(), None);
        assert!(with_include("include = ").is_err());
    }

    #[test]
    fn a_borrowed_configuration_names_the_other() {
        let text = borrowed(Path::new("/home/ada/my \"work\"/.mlx/cargo.toml")).unwrap();
        assert_eq!(includes(&text), ["/home/ada/my \"work\"/.mlx/cargo.toml"]);
    }
}
