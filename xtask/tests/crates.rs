//! Tests which crate of the workspace may depend on which, and what the lowest may do.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Each crate depends only on those before it. Programs and tests at the end may depend on all.
const ORDER: [&str; 9] = [
    "cotangent-metal",
    "cotangent-macros-core",
    "cotangent-macros",
    "cotangent-emulator",
    "cotangent",
    "cotangent-commands",
    "cotangent-kernels",
    "cotangent-models",
    "cotangent-trainer",
];

/// Pairs that the order would allow and that stay apart: the emulator knows nothing of declarations.
const APART: [(&str, &str); 2] =
    [("cotangent-emulator", "cotangent-macros-core"), ("cotangent-emulator", "cotangent-macros")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Returns what is wrong with the dependencies in the answer of `cargo metadata`, without those of tests.
fn arrows_upwards(metadata: &Value) -> Vec<String> {
    let place = |name: &str| ORDER.iter().position(|known| *known == name);
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let Some(own) = place(name) else { continue };
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        for dependency in dependencies.filter(|dependency| dependency["kind"] != "dev") {
            let dependency = dependency["name"].as_str().unwrap();
            let below = place(dependency).is_none_or(|other| other < own) && !APART.contains(&(name, dependency));
            if !below {
                wrong.push(format!("{name} depends on {dependency}"));
            }
        }
    }
    wrong
}

/// Returns what `cargo` prints. The lock file names everything, so no network is needed.
fn cargo(arguments: &[&str]) -> String {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let output = cargo.current_dir(root()).env("CARGO_NET_OFFLINE", "true").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn metadata() -> Value {
    serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version=1"])).unwrap()
}

/// Returns the packages that a package needs to run, by the names in its manifest.
fn needs<'a>(metadata: &'a Value, name: &str) -> BTreeSet<&'a str> {
    let package = metadata["packages"].as_array().unwrap().iter().find(|package| package["name"] == name).unwrap();
    let dependencies = package["dependencies"].as_array().unwrap().iter();
    let normal = dependencies.filter(|dependency| dependency["kind"].is_null());
    normal.filter_map(|dependency| dependency["name"].as_str()).collect()
}

#[test]
fn the_trainer_is_built_without_the_emulator() {
    let tree = |features: &[&str]| {
        let arguments = ["tree", "--edges=normal", "--package=cotangent-trainer", "--prefix=none", "--format={p}"];
        let lines = cargo(&[&arguments, features].concat());
        lines.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect::<BTreeSet<String>>()
    };
    let metadata = metadata();
    let others: BTreeSet<&str> = ORDER
        .iter()
        .filter(|name| **name != "cotangent-emulator")
        .flat_map(|name| needs(&metadata, name))
        .filter(|name| *name != "cotangent-emulator")
        .collect();
    let own = needs(&metadata, "cotangent-emulator");
    let only_its_own: BTreeSet<&str> = own.difference(&others).copied().chain(["cotangent-emulator"]).collect();
    assert!(only_its_own.contains("addr2line") && only_its_own.contains("corosensei"), "{only_its_own:?}");

    let without = tree(&[]);
    let found: Vec<_> = only_its_own.iter().filter(|name| without.contains(**name)).collect();
    assert_eq!(found, [&""; 0], "what only the emulator needs");
    let with = tree(&["--features=cotangent/emulator"]);
    assert!(only_its_own.iter().all(|name| with.contains(*name)), "{with:?}");
}

#[test]
fn crates_depend_only_on_those_below_them() {
    let mut metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    assert!(ORDER.iter().all(|name| names.contains(name)), "{names:?}");
    assert_eq!(arrows_upwards(&metadata), Vec::<String>::new());

    let metal = packages.iter().position(|package| package["name"] == "cotangent-metal").unwrap();
    let dependencies = metadata["packages"][metal]["dependencies"].as_array_mut().unwrap();
    dependencies.push(serde_json::json!({ "name": "cotangent", "kind": null }));
    assert_eq!(arrows_upwards(&metadata), ["cotangent-metal depends on cotangent"]);
}

/// Names for which a library of text has no use.
const FORBIDDEN: [&str; 6] = ["std::fs", "File::open", "std::process", "std::net", "libloading", "unsafe "];

/// The one file that reads another: the source that a declaration names.
const READS: &str = "tokens/text.rs";

#[test]
fn the_language_opens_only_files_that_declarations_name() {
    let sources = root().join("macros/metal/src");
    let mut folders = vec![sources.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.strip_prefix(&sources).unwrap().to_str().unwrap().to_owned();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let words = code.flat_map(|line| FORBIDDEN.into_iter().filter(|word| line.contains(word)));
            found.extend(words.map(|word| format!("{name}: {word}")));
        }
    }
    assert_eq!(found, [format!("{READS}: std::fs")]);
}
