//! Python, which downloads and unpacks wheels.

use super::pins::Wheel;
use super::problem::Problem;
use crate::program;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python 3 of the system.
pub struct Python {
    program: String,
}

impl Python {
    pub fn find() -> Result<Self, Problem> {
        const HELP: &str = "install Python 3, on Debian and Ubuntu with `sudo apt-get install python3 python3-pip`";
        for program in ["python3", "python"] {
            let version = ["-c", "import sys, zipfile, zlib; sys.exit(sys.version_info < (3, 8))"];
            if program::output(Command::new(program).args(version)).is_ok() {
                return Ok(Self { program: program.to_owned() });
            }
        }
        Err(Problem::new("no Python 3.8 or newer, which downloads MLX with pip", HELP))
    }

    /// Downloads `wheel` into `folder`. If this Python has no pip, one is made in `environment`.
    pub fn download(&self, wheel: &Wheel, folder: &Path, environment: &Path) -> Result<()> {
        let python = self.with_pip(environment)?;
        let mut pip = Command::new(&python.program);
        // Nothing is installed, so the user's rule about where to install does not apply.
        pip.env("PIP_REQUIRE_VIRTUALENV", "false");
        pip.args(["-m", "pip", "download", "--disable-pip-version-check", "--progress-bar=off", "--no-deps"])
            // The wheel's Python code never runs, so neither this Python's version nor its platform matters.
            .args(["--only-binary=:all:", "--ignore-requires-python", "--platform", wheel.platform])
            .arg("--dest")
            .arg(folder)
            .arg(format!("{}=={}", wheel.project, wheel.version));
        program::output(&mut pip).map(drop)
    }

    /// Unpacks a wheel, which is a zip file, and checks the checksums in it.
    pub fn unzip(&self, wheel: &Path, into: &Path) -> Result<()> {
        program::output(Command::new(&self.program).args(["-m", "zipfile", "-e"]).arg(wheel).arg(into))
            .map(drop)
            .with_context(|| format!("cannot unpack `{}`", wheel.display()))
    }

    /// The folder of the package `name`, which other packages put their parts into.
    pub fn namespace_package(&self, name: &str) -> Option<PathBuf> {
        let script = format!("import {name}; print(list({name}.__path__)[0])");
        let folder = program::output(Command::new(&self.program).args(["-c", &script])).ok()?;
        Some(PathBuf::from(folder.trim())).filter(|folder| folder.is_dir())
    }

    /// This Python or, as Debian's has no pip unless asked for, one in a virtual environment.
    fn with_pip(&self, environment: &Path) -> Result<Self> {
        let has_pip =
            |python: &Self| program::output(Command::new(&python.program).args(["-m", "pip", "--version"])).is_ok();
        if has_pip(self) {
            return Ok(Self { program: self.program.clone() });
        }
        let own = Self { program: environment.join("bin/python").display().to_string() };
        if !has_pip(&own) {
            eprintln!("  making a Python environment, because `{}` has no pip", self.program);
            program::output(Command::new(&self.program).args(["-m", "venv", "--clear"]).arg(environment)).context(
                Problem::new(
                    format!("`{}` has neither pip nor the means to make an environment with it", self.program),
                    "install pip, on Debian and Ubuntu with `sudo apt-get install python3-pip`",
                ),
            )?;
        }
        Ok(own)
    }
}
