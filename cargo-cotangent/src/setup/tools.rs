//! The tools that a Linux machine must have before MLX can be set up.

use super::pins::{self, Build};
use super::problem::Problem;
use crate::program;
use std::path::Path;
use std::process::Command;

/// Wheels, unpacked wheels and object files, with room to spare.
fn needed_megabytes(build: Build) -> u64 {
    match build {
        Build::Cpu => 200,
        Build::Cuda => 800,
    }
}

/// A C++ compiler that knows C++20.
pub struct Compiler {
    program: String,
}

impl Compiler {
    /// The one that `CXX` names, else the first that is installed.
    pub fn find() -> Result<Self, Problem> {
        const HELP: &str =
            "install g++ 11 or newer, on Debian and Ubuntu with `sudo apt-get install g++`, or name one in CXX";
        let asked_for = std::env::var("CXX").ok().filter(|name| !name.trim().is_empty());
        let candidates = match &asked_for {
            Some(name) => vec![name.as_str()],
            None => vec!["c++", "g++", "clang++"],
        };
        let installed: Vec<_> = candidates.iter().filter(|name| is_program(name)).collect();
        if let Some(able) = installed.iter().find(|name| compiles_cpp20(name)) {
            return Ok(Self { program: able.to_string() });
        }
        Err(match (installed.first(), &asked_for) {
            (Some(old), _) => Problem::new(format!("the C++ compiler `{old}` does not compile C++20"), HELP),
            (None, Some(name)) => Problem::new(format!("no program `{name}`, which CXX names as C++ compiler"), HELP),
            (None, None) => Problem::new("no C++ compiler, with which MLX's C interface is compiled", HELP),
        })
    }

    pub fn command(&self) -> Command {
        Command::new(&self.program)
    }
}

fn is_program(name: &str) -> bool {
    if name.contains('/') { Path::new(name).is_file() } else { program::find(name).is_some() }
}

fn compiles_cpp20(compiler: &str) -> bool {
    // `<concepts>` belongs to C++20's library, so this tests the library's version as well.
    let arguments = ["-std=c++20", "-fsyntax-only", "-include", "concepts", "-x", "c++", "/dev/null"];
    program::output(Command::new(compiler).args(arguments)).is_ok()
}

/// Returns what to say if the C library is older than the one MLX was built for.
pub fn glibc_problem() -> Option<Problem> {
    let text = program::output(Command::new("getconf").arg("GNU_LIBC_VERSION")).ok()?;
    old_glibc(&text)
}

/// `text` is what getconf says: `glibc 2.36`.
fn old_glibc(text: &str) -> Option<Problem> {
    let version = text.trim().strip_prefix("glibc ")?;
    let (major, minor) = version.split_once('.')?;
    let found = (major.parse().ok()?, minor.split('.').next()?.parse().ok()?);
    let (major, minor) = pins::GLIBC;
    (found < pins::GLIBC).then(|| {
        Problem::new(
            format!("found glibc {version}, but MLX is published for glibc {major}.{minor} or newer"),
            "use a newer system or a container of one: Ubuntu 22.04, Debian 12, Fedora 36 and later will do",
        )
    })
}

/// Returns what to say if there is too little room for `folder`.
pub fn disk_problem(folder: &Path, build: Build) -> Option<Problem> {
    let text = program::output(Command::new("df").arg("-Pk").arg(folder)).ok()?;
    full_disk(&text, folder, needed_megabytes(build))
}

/// `text` is what `df -Pk` says: a heading, then name, size, used and available kilobytes, and more.
fn full_disk(text: &str, folder: &Path, needed: u64) -> Option<Problem> {
    let kilobytes: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    let available = kilobytes / 1024;
    (available < needed).then(|| {
        Problem::new(
            format!("{available} MB are free for `{}`, but set-up takes {needed} MB", folder.display()),
            "make room, or move the checkout to another disk",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_c_libraries_are_named() {
        for text in ["glibc 2.35\n", "glibc 2.36", "glibc 2.41.9000", "glibc 3.0", "musl 1.2"] {
            assert_eq!(old_glibc(text), None, "{text}");
        }
        for version in ["2.31", "2.34", "1.99"] {
            let problem = old_glibc(&format!("glibc {version}\n")).unwrap();
            assert_eq!(problem.found, format!("found glibc {version}, but MLX is published for glibc 2.35 or newer"));
        }
    }

    #[test]
    fn a_full_disk_is_named() {
        let df = |kilobytes: u64| {
            format!(
                "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda 9000000 1 {kilobytes} 99% /home\n"
            )
        };
        let folder = Path::new("/home/ada/.mlx");
        assert_eq!(full_disk(&df(300 * 1024), folder, 200), None);
        assert_eq!(
            full_disk(&df(20 * 1024), folder, 200).unwrap().found,
            "20 MB are free for `/home/ada/.mlx`, but set-up takes 200 MB"
        );
    }
}
