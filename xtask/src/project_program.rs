//! Programs of this workspace that link MLX: built and started by Cargo once MLX is set up.

use crate::{setup, workspace};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// A binary of a package of this workspace.
pub struct ProjectProgram {
    package: &'static str,
    binary: &'static str,
}

impl ProjectProgram {
    /// The program that people use; its `demo` subcommand is `cargo xtask demo`.
    pub const DEMO: Self = Self { package: "cotangent-trainer", binary: "cotangent" };
    pub const PARITY: Self = Self { package: "cotangent-tests", binary: "parity" };
    pub const BENCH: Self = Self { package: "cotangent-tests", binary: "bench" };
    pub const CHECK: Self = Self { package: "cotangent-tests", binary: "check" };

    /// Builds and runs it in the caller's working directory, to which its `arguments` may be relative. Its standard
    /// output is passed through with nothing added, and so is its exit code.
    pub fn run(&self, root: &Path, arguments: &[OsString]) -> Result<ExitCode> {
        setup::ensure(root)?;
        let status = workspace::cargo()
            .args(["run", "--release", "--manifest-path"])
            .arg(root.join("Cargo.toml"))
            .args(["--package", self.package, "--bin", self.binary, "--"])
            .args(arguments)
            .status()
            .context("cannot start `cargo`")?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
    }
}

/// The arguments of `cotangent` for the demo: results go to `demo-output` in the checkout unless `arguments` say where.
pub fn demo_arguments(root: &Path, arguments: Vec<OsString>) -> Vec<OsString> {
    let says_where = arguments.iter().filter_map(|argument| argument.to_str()).any(|argument| {
        argument == "--output" || argument.starts_with("--output=") || argument == "--help" || argument == "-h"
    });
    let mut all = vec![OsString::from("demo")];
    if !says_where {
        all.extend(["--output".into(), root.join("demo-output").into()]);
    }
    all.extend(arguments);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_writes_where_it_is_told_or_into_the_checkout() {
        let root = Path::new("/home/ada/cotangent");
        let cases: [(&[&str], &[&str]); 4] = [
            (&[], &["demo", "--output", "/home/ada/cotangent/demo-output"]),
            (&["--seed", "1"], &["demo", "--output", "/home/ada/cotangent/demo-output", "--seed", "1"]),
            (&["--output", "here"], &["demo", "--output", "here"]),
            (&["--output=here"], &["demo", "--output=here"]),
        ];
        for (arguments, expected) in cases {
            assert_eq!(demo_arguments(root, arguments.iter().map(OsString::from).collect()), expected);
        }
    }
}
