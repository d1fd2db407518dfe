//! Programs of this workspace: built and started by Cargo, once MLX is set up where they link it.

use crate::CALLER;
use anyhow::Result;
use cargo_cotangent::{cargo, linked, program, setup};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// A binary of a package of this workspace.
pub struct ProjectProgram {
    package: &'static str,
    binary: &'static str,
    /// Whether its matrices are too small for several threads.
    small: bool,
    /// The profile with which Cargo builds it: programs that compute little are quicker to build in that of the tests.
    profile: &'static str,
    /// Whether the program links MLX.
    mlx: bool,
}

const COMPUTES: &str = "release";
const ANSWERS: &str = "dev";

impl ProjectProgram {
    /// The program that people use; its `demo` subcommand is `cargo xtask demo`.
    pub const DEMO: Self =
        Self { package: "cotangent-trainer", binary: "cotangent", small: true, profile: COMPUTES, mlx: true };
    pub const PARITY: Self =
        Self { package: "cotangent-tests", binary: "parity", small: false, profile: COMPUTES, mlx: true };
    pub const BENCH: Self =
        Self { package: "cotangent-tests", binary: "bench", small: false, profile: COMPUTES, mlx: true };
    pub const CHECK: Self =
        Self { package: "cotangent-tests", binary: "check", small: false, profile: COMPUTES, mlx: true };
    pub const MUTATE: Self =
        Self { package: "cotangent-tests", binary: "mutate", small: true, profile: ANSWERS, mlx: true };
    pub const KERNELS: Self =
        Self { package: "cotangent-tests", binary: "kernels", small: false, profile: ANSWERS, mlx: true };

    /// Kernels as Apple's compiler made them.
    pub const APPLE: Self =
        Self { package: "cotangent-apple", binary: "cotangent-apple", small: true, profile: ANSWERS, mlx: false };

    /// The project's own kernels as clang compiles them.
    pub const COMPILED: Self =
        Self { package: "cotangent-tests", binary: "compiled", small: true, profile: ANSWERS, mlx: true };

    /// Builds and runs it in the caller's working directory, to which its `arguments` may be relative. Its standard
    /// output is passed through with nothing added, and so is its exit code.
    pub fn run(&self, root: &Path, arguments: &[OsString]) -> Result<ExitCode> {
        if self.mlx {
            setup::ensure(root)?;
        }
        let mut command = cargo::cargo();
        if self.small {
            cargo::with_one_blas_thread(&mut command);
        }
        command
            .args(["run", "--profile", self.profile, "--manifest-path"])
            .arg(root.join("Cargo.toml"))
            .args(["--package", self.package, "--bin", self.binary, "--"])
            .args(arguments)
            .env(linked::CALLER, CALLER);
        program::pass_through(&mut command)
    }
}

/// The arguments of `cotangent` for the demo: its folders are the checkout's, whatever the working directory is, unless
/// `arguments` name others.
pub fn demo_arguments(root: &Path, arguments: Vec<OsString>) -> Vec<OsString> {
    let mut all = vec![OsString::from("demo")];
    for (option, folder) in [("--demo", "demo"), ("--output", "demo-output")] {
        let named = arguments
            .iter()
            .filter_map(|argument| argument.to_str())
            .any(|argument| argument.strip_prefix(option).is_some_and(|rest| rest.is_empty() || rest.starts_with('=')));
        if !named {
            all.extend([option.into(), root.join(folder).into()]);
        }
    }
    all.extend(arguments);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demos_folders_are_the_checkouts_unless_others_are_named() {
        const DEMO: [&str; 2] = ["--demo", "/home/ada/cotangent/demo"];
        const OUTPUT: [&str; 2] = ["--output", "/home/ada/cotangent/demo-output"];
        let cases: [(&[&str], &[&[&str]]); 5] = [
            (&[], &[&DEMO, &OUTPUT]),
            (&["--seed", "1"], &[&DEMO, &OUTPUT, &["--seed", "1"]]),
            (&["--output", "here"], &[&DEMO, &["--output", "here"]]),
            (&["--output=here"], &[&DEMO, &["--output=here"]]),
            (&["--demo", "mine", "--output=here"], &[&["--demo", "mine", "--output=here"]]),
        ];
        for (arguments, expected) in cases {
            let found =
                demo_arguments(Path::new("/home/ada/cotangent"), arguments.iter().map(OsString::from).collect());
            assert_eq!(found[0], "demo");
            assert_eq!(found[1..], expected.concat(), "for {arguments:?}");
        }
    }
}
