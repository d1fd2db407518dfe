//! Programs that link the kernels of a project: written below its target directory, built and run by Cargo.
//!
//! A kernel is known only to a program that links it, so a command about kernels is such a program. What it does stands in
//! `cotangent-commands`.

use crate::project::{Origin, Package, Project};
use crate::{cargo, program};
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The variable that tells a program what a person typed, for its messages.
pub const CALLER: &str = "COTANGENT_CALLER";

/// Runs `command` of `cotangent-commands` about the kernels of `project`, in the caller's folder. Its output is passed through
/// with nothing added, and so is its exit code.
///
/// # Errors
/// If no package has a library, or Cargo cannot be started.
pub fn run(project: &Project, command: &str, arguments: &[OsString], caller: &str) -> Result<ExitCode> {
    let (folder, libraries) = write(project)?;
    let mut command_line = cargo::cargo();
    cargo::with_one_blas_thread(&mut command_line)
        .args(["run", "--quiet", "--manifest-path"])
        .arg(folder.join("Cargo.toml"))
        .args(["--bin", &binary(command, &libraries), "--"])
        .args(arguments)
        .env("CARGO_TARGET_DIR", &project.target)
        .env(CALLER, caller);
    program::pass_through(&mut command_line)
}

/// Writes the package with the programs, and returns its folder and the libraries that its programs link, as names hold them.
fn write(project: &Project) -> Result<(PathBuf, String)> {
    let linked: Vec<(&Package, &str)> =
        project.packages.iter().filter_map(|package| Some((package, package.library.as_deref()?))).collect();
    if linked.is_empty() {
        bail!(
            "no package of `{}` has a library, so no other program can link its kernels\n  \
             help: move the kernels into a `src/lib.rs`, which `main.rs` uses",
            project.root.display()
        );
    }
    let libraries = linked.iter().map(|(_, library)| *library).collect::<Vec<_>>().join("-");
    let folder = project.target.join("cotangent").join(binary("commands", &libraries));
    let own = fs::read_to_string(project.root.join("Cargo.toml")).context("cannot read the workspace's Cargo.toml")?;
    put(
        &folder.join("Cargo.toml"),
        &manifest(project, &linked, &libraries, &own.parse().context("Cargo.toml is not TOML")?),
    )?;
    let lock = folder.join("Cargo.lock");
    if !lock.exists() {
        // With the same versions, compiled crates need not be compiled again.
        fs::copy(project.root.join("Cargo.lock"), &lock).context("cannot copy Cargo.lock")?;
    }
    for command in ["kernels", "check", "mutate"] {
        put(&folder.join(format!("src/bin/{}.rs", binary(command, &libraries))), &program(command, &linked))?;
    }
    Ok((folder, libraries))
}

/// The name of a program about these libraries. Projects may share a target directory, and may have a program that is called
/// `check`.
fn binary(command: &str, libraries: &str) -> String {
    format!("{command}-of-{libraries}")
}

fn program(command: &str, linked: &[(&Package, &str)]) -> String {
    let uses: String = linked.iter().map(|(_, library)| format!("use {library} as _;\n")).collect();
    let names: Vec<&str> = linked.iter().map(|(_, library)| *library).collect();
    format!(
        "// Written by `cargo cotangent`.\n\n// Linked for their kernels.\n{uses}\n\
         fn main() -> std::process::ExitCode {{\n    cotangent_commands::{command}(&{names:?})\n}}\n"
    )
}

fn manifest(project: &Project, linked: &[(&Package, &str)], libraries: &str, own: &toml::Table) -> String {
    let mut dependencies = toml::Table::new();
    dependencies.insert("cotangent-commands".to_owned(), commands_of(&project.cotangent));
    for (package, _) in linked {
        dependencies.insert(package.name.clone(), in_folder(&package.folder));
    }
    let mut package = toml::Table::new();
    package.insert("name".to_owned(), binary("commands", libraries).into());
    package.insert("edition".to_owned(), "2024".into());
    let mut manifest = toml::Table::new();
    manifest.insert("package".to_owned(), package.into());
    manifest.insert("dependencies".to_owned(), dependencies.into());
    manifest.insert("workspace".to_owned(), toml::Table::new().into());
    if let Some(profiles) = own.get("profile") {
        manifest.insert("profile".to_owned(), profiles.clone());
    }
    format!("# Written by `cargo cotangent`.\n\n{manifest}")
}

/// The dependency on `cotangent-commands`, from where `cotangent` is.
fn commands_of(cotangent: &Origin) -> toml::Value {
    let mut table = toml::Table::new();
    match cotangent {
        Origin::Folder(runtime) => return in_folder(&runtime.join("commands")),
        Origin::Registry(version) => drop(table.insert("version".to_owned(), format!("={version}").into())),
        Origin::Git(address, what) => {
            table.insert("git".to_owned(), address.as_str().into());
            table.extend(what.iter().map(|(key, value)| (key.clone(), value.as_str().into())));
        }
    }
    table.into()
}

fn in_folder(folder: &Path) -> toml::Value {
    toml::Table::from_iter([("path".to_owned(), folder.display().to_string().into())]).into()
}

/// Writes a file unless it is there as it should be: Cargo compiles again what is newer.
fn put(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    let folder = path.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, text))
        .with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(library: Option<&str>, cotangent: Origin) -> Project {
        let package = Package {
            name: "my-kernels".to_owned(),
            folder: "/home/ada/my kernels".into(),
            library: library.map(str::to_owned),
        };
        let root = PathBuf::from("/home/ada/my kernels");
        Project { target: root.join("target"), root, packages: vec![package], cotangent }
    }

    #[test]
    fn a_program_links_what_it_is_about() {
        let project = project(Some("my_kernels"), Origin::Folder("/home/ada/cotangent/runtime".into()));
        let linked = [(&project.packages[0], "my_kernels")];
        let text = program("check", &linked);
        assert!(
            text.contains("use my_kernels as _;\n") && text.contains("cotangent_commands::check(&[\"my_kernels\"])")
        );

        let own = "[package]\nname = \"my-kernels\"\n[profile.dev.package.\"*\"]\nopt-level = 1\n".parse().unwrap();
        let manifest: toml::Table = manifest(&project, &linked, "my_kernels", &own).parse().unwrap();
        assert_eq!(manifest["dependencies"]["my-kernels"]["path"].as_str(), Some("/home/ada/my kernels"));
        let commands = &manifest["dependencies"]["cotangent-commands"];
        assert_eq!(commands["path"].as_str(), Some("/home/ada/cotangent/runtime/commands"));
        assert_eq!(manifest["profile"]["dev"]["package"]["*"]["opt-level"].as_integer(), Some(1));
        assert!(manifest.contains_key("workspace"), "it is no member of the project's");
    }

    #[test]
    fn commands_are_from_where_cotangent_is() {
        let branch = Some(("branch".to_owned(), "main".to_owned()));
        for (origin, expected) in [
            (Origin::Registry("0.3.1".to_owned()), "version = \"=0.3.1\"\n"),
            (
                Origin::Git("https://example.org/c".to_owned(), branch),
                "branch = \"main\"\ngit = \"https://example.org/c\"\n",
            ),
        ] {
            assert_eq!(commands_of(&origin).as_table().unwrap().to_string(), expected);
        }
    }

    #[test]
    fn kernels_of_a_program_alone_are_out_of_reach() {
        let error = write(&project(None, Origin::Registry("0.3.1".to_owned()))).unwrap_err().to_string();
        assert!(error.contains("has a library") && error.contains("help: move the kernels"), "{error}");
    }
}
