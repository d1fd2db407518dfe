//! The stamp of a finished set-up: what it was made from, which shows whether it is up to date.

use super::pins::{self, Architecture, Build};
use super::sources;
use crate::setup::digest;
use std::path::Path;

/// The version of the layout, to be raised when files of the same versions are laid out or compiled differently.
const LAYOUT: &str = "1";

/// Named facts, one a line. A set-up holds as long as all of them do.
#[derive(Debug, PartialEq, Eq)]
pub struct Stamp(Vec<(&'static str, String)>);

impl Stamp {
    /// The stamp of a set-up made now, for the checkout at `root`.
    pub fn current(root: &Path, build: Build, architecture: Architecture) -> Self {
        let mut inputs = vec![LAYOUT, pins::mlx(build, architecture).sha256, pins::openblas(architecture).sha256];
        inputs.extend(sources::ALL.map(|source| source.text));
        Self(vec![
            // Libraries and Cargo's configuration hold absolute paths.
            ("checkout", root.display().to_string()),
            ("MLX", build.version()),
            ("mlx-sys", pins::MLX_SYS.to_owned()),
            ("inputs", digest::sha256(inputs.join("\n").as_bytes())),
        ])
    }

    /// The digest of all that a set-up is made from.
    pub fn inputs(&self) -> &str {
        self.0.iter().find(|(name, _)| *name == "inputs").map_or("", |(_, digest)| digest)
    }

    pub fn text(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
    }

    /// Returns why a set-up with the stamp `found` is out of date, or nothing if it is not.
    pub fn difference(&self, found: &str) -> Option<String> {
        self.0.iter().find_map(|(name, expected)| {
            let value = found.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            match (*name, value) {
                (_, Some(value)) if value == expected => None,
                ("checkout", Some(value)) => Some(format!("the checkout has moved here from `{value}`")),
                ("inputs", Some(_)) => Some("the way MLX is set up has changed".to_owned()),
                (name, Some(value)) => Some(format!("{name} has changed from {value} to {expected}")),
                (name, None) => Some(format!("its stamp names no {name}")),
            }
        })
    }
}

/// The build that the stamp `found` is of; the CPU's if it names none.
pub fn build_in(found: &str) -> Build {
    let cuda = found.lines().any(|line| line == format!("MLX: {}", Build::Cuda.version()));
    if cuda { Build::Cuda } else { Build::Cpu }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp() -> Stamp {
        Stamp::current(Path::new("/home/ada/cotangent"), Build::Cpu, Architecture::X86_64)
    }

    #[test]
    fn a_stamp_matches_itself() {
        assert_eq!(stamp().difference(&stamp().text()), None);
    }

    #[test]
    fn each_difference_is_named() {
        let text = stamp().text();
        let inputs = text.lines().last().unwrap();
        let cases = [
            (text.replace("/home/ada/", "/tmp/"), "the checkout has moved here from `/tmp/cotangent`"),
            (text.replace("MLX: 0.32.2", "MLX: 0.31.0"), "MLX has changed from 0.31.0 to 0.32.2"),
            (text.replace("sys: 0.7.0", "sys: 0.6.0"), "mlx-sys has changed from 0.6.0 to 0.7.0"),
            (text.replace(inputs, "inputs: 00"), "the way MLX is set up has changed"),
            (String::new(), "its stamp names no checkout"),
        ];
        for (found, expected) in cases {
            assert_eq!(stamp().difference(&found).as_deref(), Some(expected));
        }
    }

    #[test]
    fn architectures_and_builds_have_different_stamps() {
        let current = |build, architecture| Stamp::current(Path::new("/home/ada/cotangent"), build, architecture);
        assert_ne!(stamp(), current(Build::Cpu, Architecture::Aarch64));
        let cuda = current(Build::Cuda, Architecture::X86_64);
        assert_eq!(cuda.difference(&stamp().text()).unwrap(), "MLX has changed from 0.32.2 to 0.32.2 with CUDA");
    }

    #[test]
    fn a_stamp_tells_which_build_it_is_of() {
        for build in [Build::Cpu, Build::Cuda] {
            let stamp = Stamp::current(Path::new("/home/ada/cotangent"), build, Architecture::X86_64);
            assert_eq!(build_in(&stamp.text()), build);
        }
        assert_eq!(build_in(""), Build::Cpu);
    }
}
