//! Set-up on macOS: mlx-sys builds MLX itself, if the tools for it are there.

use super::problem::{self, Problem};
use crate::program;
use anyhow::Result;
use std::process::Command;

/// Checks for the tools that building MLX takes.
pub fn check() -> Result<()> {
    let runs = |program: &str, arguments: &[&str]| program::output(Command::new(program).args(arguments)).is_ok();
    problem::report(&missing(runs).iter().collect::<Vec<_>>())
}

/// `runs` tells whether a program with arguments runs and succeeds.
fn missing(runs: impl Fn(&str, &[&str]) -> bool) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !runs("xcrun", &["-sdk", "macosx", "metal", "--version"]) {
        problems.push(if runs("xcodebuild", &["-version"]) {
            Problem::new(
                "Xcode is here but not its Metal compiler",
                "download it with `xcodebuild -downloadComponent MetalToolchain`",
            )
        } else {
            Problem::new(
                "no Metal compiler: it comes with Xcode, not with the command line tools alone",
                "install Xcode from the App Store, choose it with \
                 `sudo xcode-select --switch /Applications/Xcode.app`, \
                 then run `xcodebuild -downloadComponent MetalToolchain`",
            )
        });
    }
    if !runs("cmake", &["--version"]) {
        problems
            .push(Problem::new("no CMake, with which MLX is built", "install it, with Homebrew: `brew install cmake`"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(present: &[&str]) -> Vec<String> {
        missing(|program, _| present.contains(&program)).into_iter().map(|problem| problem.found).collect()
    }

    #[test]
    fn each_missing_tool_is_a_problem_of_its_own() {
        let cases: [(&[&str], &[&str]); 4] = [
            (&["xcrun", "xcodebuild", "cmake"], &[]),
            (&["xcrun", "xcodebuild"], &["no CMake, with which MLX is built"]),
            (&["xcodebuild", "cmake"], &["Xcode is here but not its Metal compiler"]),
            (
                &[],
                &[
                    "no Metal compiler: it comes with Xcode, not with the command line tools alone",
                    "no CMake, with which MLX is built",
                ],
            ),
        ];
        for (present, expected) in cases {
            assert_eq!(found(present), expected, "with {present:?}");
        }
    }
}
