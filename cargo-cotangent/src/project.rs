//! A crate or workspace that depends on `cotangent`, and what commands need to know of it.

use crate::{cargo, program};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The workspace, or single crate, that a command is about.
#[derive(Debug)]
pub struct Project {
    /// The folder of the project's `Cargo.lock`.
    pub root: PathBuf,
    /// The folder into which Cargo builds.
    pub target: PathBuf,
    /// The packages that the command is about.
    pub packages: Vec<Package>,
    /// The origin of the `cotangent` that it depends on.
    pub cotangent: Origin,
}

/// A package of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// The name of the package in its manifest.
    pub name: String,
    /// The folder of the package's manifest.
    pub folder: PathBuf,
    /// The name of its library in Rust, if it has one that programs can link.
    pub library: Option<String>,
}

/// The origin of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A folder on this machine, in which its manifest lies.
    Folder(PathBuf),
    /// A registry: the version.
    Registry(String),
    /// A repository: its address, and what of it as a key and a value, such as `branch` and `main`.
    Git(String, Option<(String, String)>),
}

impl Project {
    /// The project in whose folder, or below it, `folder` lies: its package there, or all packages at the root of a workspace.
    ///
    /// # Errors
    /// If there is none, if it does not depend on `cotangent`, or if Cargo cannot tell what it depends on.
    pub fn at(folder: &Path) -> Result<Self> {
        let locate = ["locate-project", "--message-format=plain"];
        let manifest = program::output(cargo::cargo().current_dir(folder).args(locate))
            .context("found no crate here\n  help: run it in the folder of a crate that depends on `cotangent`")?;
        Self::from_metadata(&cargo::metadata(folder, false)?, Path::new(manifest.trim()))
    }

    /// The project that `metadata` describes, asked about in the package or workspace with this `manifest`.
    fn from_metadata(metadata: &Value, manifest: &Path) -> Result<Self> {
        let path = |value: &Value| Some(PathBuf::from(value.as_str()?));
        let root = path(&metadata["workspace_root"]).context("`cargo metadata` names no workspace")?;
        let target = path(&metadata["target_directory"]).context("`cargo metadata` names no target directory")?;
        let all = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
        let members = metadata["workspace_members"].as_array().map_or(&[][..], Vec::as_slice);
        let mut packages: Vec<&Value> = all.iter().filter(|package| members.contains(&package["id"])).collect();
        let here = |package: &&Value| path(&package["manifest_path"]).as_deref() == Some(manifest);
        if packages.iter().any(here) {
            packages.retain(here);
        }
        let packages = packages.into_iter().filter_map(package).collect();
        let used: Vec<&Value> = all.iter().filter(|package| package["name"] == "cotangent").collect();
        let [cotangent] = used[..] else {
            let problem = if used.is_empty() { "does not depend on `cotangent`" } else { "has several `cotangent`s" };
            bail!(
                "`{}` {problem}\n  help: add the one to use, with `cargo add --path CHECKOUT/runtime`",
                root.display()
            )
        };
        Ok(Self { root, target, packages, cotangent: origin(cotangent)? })
    }

    /// The folders of the sources of its packages.
    pub fn sources(&self) -> Vec<PathBuf> {
        let sources = self.packages.iter().map(|package| package.folder.join("src"));
        sources.filter(|folder| folder.is_dir()).collect()
    }
}

fn package(package: &Value) -> Option<Package> {
    const LINKED: [&str; 3] = ["lib", "rlib", "dylib"];
    let targets = package["targets"].as_array()?.iter();
    let is_library = |target: &&Value| {
        let kinds = target["kind"].as_array().map_or(&[][..], Vec::as_slice);
        kinds.iter().any(|kind| LINKED.iter().any(|linked| kind == linked))
    };
    let mut libraries = targets.filter(is_library);
    Some(Package {
        name: package["name"].as_str()?.to_owned(),
        folder: Path::new(package["manifest_path"].as_str()?).parent()?.to_owned(),
        library: libraries.next().and_then(|target| Some(target["name"].as_str()?.replace('-', "_"))),
    })
}

/// Returns what the `source` of a package says: `registry+https://…`, `git+https://…?branch=main#abc`, nothing of a
/// folder.
fn origin(package: &Value) -> Result<Origin> {
    let Some(source) = package["source"].as_str() else {
        let manifest = package["manifest_path"].as_str().context("`cargo metadata` names no manifest")?;
        let folder = Path::new(manifest).parent().context("a manifest lies in a folder")?;
        return Ok(Origin::Folder(folder.to_owned()));
    };
    let Some(repository) = source.strip_prefix("git+") else {
        let version = package["version"].as_str().context("`cargo metadata` names no version")?;
        return Ok(Origin::Registry(version.to_owned()));
    };
    let address = repository.split('#').next().unwrap_or(repository);
    let (address, what) = address.split_once('?').map_or((address, None), |(address, what)| (address, Some(what)));
    let what = what.and_then(|what| what.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned()));
    Ok(Origin::Git(address.to_owned(), what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metadata(cotangent: &[Value]) -> Value {
        let member = |name: &str, kind: &str| {
            json!({
                "name": name, "id": name, "version": "0.1.0", "source": null,
                "manifest_path": format!("/home/ada/work/{name}/Cargo.toml"),
                "targets": [{ "name": name, "kind": [kind] }, { "name": "build-script", "kind": ["custom-build"] }],
            })
        };
        let mut packages = vec![member("my-kernels", "lib"), member("my-program", "bin")];
        packages.extend_from_slice(cotangent);
        json!({
            "workspace_root": "/home/ada/work", "target_directory": "/home/ada/work/target",
            "workspace_members": ["my-kernels", "my-program"], "packages": packages,
        })
    }

    fn cotangent(source: Value) -> Value {
        json!({
            "name": "cotangent", "id": source, "version": "0.3.1", "source": source,
            "manifest_path": "/home/ada/cotangent/runtime/Cargo.toml", "targets": [],
        })
    }

    fn names(manifest: &str) -> Vec<(String, Option<String>)> {
        let project = Project::from_metadata(&metadata(&[cotangent(json!(null))]), Path::new(manifest)).unwrap();
        project.packages.into_iter().map(|package| (package.name, package.library)).collect()
    }

    #[test]
    fn a_command_is_about_the_package_in_whose_folder_it_runs_or_about_all() {
        let kernels = ("my-kernels".to_owned(), Some("my_kernels".to_owned()));
        let program = ("my-program".to_owned(), None);
        assert_eq!(names("/home/ada/work/my-kernels/Cargo.toml"), std::slice::from_ref(&kernels));
        assert_eq!(names("/home/ada/work/Cargo.toml"), [kernels, program]);
    }

    #[test]
    fn an_origin_is_read_from_what_cargo_says() {
        let git = |what: Option<(&str, &str)>| {
            let what = what.map(|(key, value)| (key.to_owned(), value.to_owned()));
            Origin::Git("https://example.org/cotangent".to_owned(), what)
        };
        for (source, expected) in [
            (json!(null), Origin::Folder("/home/ada/cotangent/runtime".into())),
            (json!("registry+https://example.org/index"), Origin::Registry("0.3.1".to_owned())),
            (json!("git+https://example.org/cotangent#0123"), git(None)),
            (json!("git+https://example.org/cotangent?branch=main#0123"), git(Some(("branch", "main")))),
        ] {
            let project = Project::from_metadata(&metadata(&[cotangent(source)]), Path::new("")).unwrap();
            assert_eq!(project.cotangent, expected);
        }
    }

    #[test]
    fn a_folder_without_a_crate_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = Project::at(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("found no crate here\n  help: "), "{error}");
    }

    #[test]
    fn a_project_without_cotangent_is_told_what_to_add() {
        for (used, problem) in [
            (vec![], "`/home/ada/work` does not depend on `cotangent`\n"),
            (
                vec![cotangent(json!(null)), cotangent(json!("registry+x"))],
                "`/home/ada/work` has several `cotangent`s\n",
            ),
        ] {
            let error = Project::from_metadata(&metadata(&used), Path::new("")).unwrap_err().to_string();
            assert!(error.starts_with(problem) && error.contains("help: add"), "{error}");
        }
    }
}
