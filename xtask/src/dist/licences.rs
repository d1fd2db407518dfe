//! The licences of what is in the archive: a folder for each crate, and a table of all.

use anyhow::{Context, Result};
use cargo_cotangent::{cargo, program};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The beginnings of the names of licence files, in upper case.
const NAMES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

/// Says of a crate that brings no file with its licence where the words are.
const STANDARD: &str =
    "its package has no copy of the licence; the words of MIT and Apache 2.0 are those in this folder";

/// A crate of others.
struct Crate {
    name: String,
    version: String,
    licence: String,
    folder: PathBuf,
}

/// Writes the licences of all crates of others that `package` links on `target`, and of Rust's own library, into `folder`.
pub fn write(root: &Path, package: &str, target: &str, folder: &Path) -> Result<()> {
    let filter = format!("--filter-platform={target}");
    let mut command = cargo::cargo();
    command.current_dir(root).args(["metadata", "--format-version=1", &filter]);
    let metadata = serde_json::from_str(&program::output(&mut command)?).context("`cargo metadata` wrote no JSON")?;
    for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
        copy(&root.join(name), &folder.join(name))?;
    }
    let mut table = String::from(
        "What is linked into the program, beside Cotangent itself (MIT or Apache 2.0, at your choice):\n\n",
    );
    table += "Rust's own library: MIT OR Apache-2.0, https://www.rust-lang.org/policies/licenses\n";
    for Crate { name, version, licence, folder: source } in linked(&metadata, package)? {
        let own = folder.join("crates").join(format!("{name}-{version}"));
        let files = copy_licences(&source, &own)?;
        let remark = if files == 0 { format!(" ({STANDARD})") } else { String::new() };
        table += &format!("{name} {version}: {licence}{remark}\n");
    }
    write_file(&folder.join("crates.txt"), &table)
}

/// Copies the files with licences that lie in `from` itself, and returns how many there are.
pub fn copy_licences(from: &Path, into: &Path) -> Result<usize> {
    let context = || format!("cannot read `{}`", from.display());
    let mut files = 0;
    for entry in fs::read_dir(from).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_licence = NAMES.iter().any(|known| name.to_ascii_uppercase().starts_with(known));
        if is_licence && path.is_file() {
            copy(&path, &into.join(name))?;
            files += 1;
        }
    }
    Ok(files)
}

/// Copies a file, into a folder that is made.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder)
        .and_then(|()| fs::copy(from, to))
        .map(drop)
        .with_context(|| format!("cannot copy `{}` to `{}`", from.display(), to.display()))
}

/// Writes a file, into a folder that is made.
pub fn write_file(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, text))
        .with_context(|| format!("cannot write `{}`", path.display()))
}

/// The crates of others that `package` links: what it and they depend on but to build or to test.
fn linked(metadata: &Value, package: &str) -> Result<Vec<Crate>> {
    let list = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
    let packages: BTreeMap<String, Value> = list(&metadata["packages"])
        .into_iter()
        .filter_map(|package| Some((package["id"].as_str()?.to_owned(), package)))
        .collect();
    let nodes: BTreeMap<String, Value> = list(&metadata["resolve"]["nodes"])
        .into_iter()
        .filter_map(|node| Some((node["id"].as_str()?.to_owned(), node)))
        .collect();
    let start = packages.iter().find(|(_, found)| found["name"] == package).context("no such package")?.0.clone();
    let (mut seen, mut waiting) = (BTreeSet::new(), vec![start]);
    while let Some(id) = waiting.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        for dependency in list(&nodes.get(&id).context("a package is not resolved")?["deps"]) {
            let is_linked = list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
            let is_macro = |id: &str| {
                let targets = packages.get(id).map(|package| list(&package["targets"])).unwrap_or_default();
                targets.iter().any(|target| list(&target["kind"]).iter().any(|kind| kind == "proc-macro"))
            };
            waiting.extend(dependency["pkg"].as_str().filter(|id| is_linked && !is_macro(id)).map(str::to_owned));
        }
    }
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    let of_others = seen.iter().filter_map(|id| packages.get(id)).filter(|package| !package["source"].is_null());
    let crates = of_others.map(|package| {
        let folder = Path::new(package["manifest_path"].as_str()?).parent()?.to_owned();
        let (name, version, licence) = (text(&package["name"]), text(&package["version"]), text(&package["license"]));
        Some(Crate { name, version, licence, folder })
    });
    let mut crates: Vec<Crate> = crates.collect::<Option<_>>().context("a package without a manifest")?;
    crates.sort_by(|left, right| (&left.name, &left.version).cmp(&(&right.name, &right.version)));
    Ok(crates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_linked_needs_its_licence_named() {
        let package = |name: &str, kind: &str| {
            json!({
                "id": name, "name": name, "version": "1.0.0", "license": "MIT", "manifest_path": format!("/crates/{name}/Cargo.toml"),
                "source": if name == "program" || name == "own" { json!(null) } else { json!("registry") },
                "targets": [{ "kind": [kind] }],
            })
        };
        let node = |name: &str, deps: &[(&str, &str)]| {
            let deps: Vec<Value> = deps
                .iter()
                .map(|(to, kind)| {
                    let kind = if *kind == "normal" { json!(null) } else { json!(kind) };
                    json!({ "pkg": to, "dep_kinds": [{ "kind": kind }] })
                })
                .collect();
            json!({ "id": name, "deps": deps })
        };
        let metadata = json!({
            "packages": [
                package("program", "bin"), package("own", "lib"), package("linked", "lib"), package("deep", "lib"),
                package("builds", "lib"), package("tests", "lib"), package("derives", "proc-macro"),
            ],
            "resolve": { "nodes": [
                node("program", &[("own", "normal"), ("tests", "dev"), ("builds", "build")]),
                node("own", &[("linked", "normal"), ("derives", "normal")]),
                node("linked", &[("deep", "normal")]), node("deep", &[]), node("builds", &[]), node("tests", &[]),
                node("derives", &[("builds", "normal")]),
            ] },
        });
        let names: Vec<String> = linked(&metadata, "program").unwrap().into_iter().map(|found| found.name).collect();
        assert_eq!(names, ["deep", "linked"]);
    }

    #[test]
    fn files_are_known_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let (from, into) = (folder.path().join("from"), folder.path().join("into"));
        fs::create_dir_all(from.join("licenses")).unwrap();
        for name in ["LICENSE-MIT", "Copying.txt", "README.md", "lib.rs"] {
            fs::write(from.join(name), name).unwrap();
        }
        assert_eq!(copy_licences(&from, &into).unwrap(), 2);
        assert!(into.join("LICENSE-MIT").is_file() && into.join("Copying.txt").is_file());
    }
}
