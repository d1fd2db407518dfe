//! The parts of a finished set-up, for those who distribute it with a program.

use super::folder::SetupFolder;
use super::linux::{lock, remove_if_there};
use super::pins::{self, Architecture, Build, Wheel};
use super::python::Python;
use super::{download, mlx_c};
use crate::cargo;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// The places of the parts of MLX's CPU build.
#[derive(Debug)]
pub struct Parts {
    /// MLX's C interface, which programs are linked to.
    pub library: PathBuf,
    /// MLX's package, unpacked.
    pub wheel: PathBuf,
    /// The sources of the C interface, with their licence.
    pub mlx_c: PathBuf,
    /// Rust's name for this machine.
    pub target: &'static str,
}

/// The parts of the CPU build that is set up at `root`.
///
/// # Errors
/// If only the CUDA build is; if this is not Linux.
pub fn parts(root: &Path) -> Result<Parts> {
    let installation = SetupFolder::new(root).installation(Build::Cpu);
    ensure!(
        installation.is_complete(),
        "MLX's CPU build is not set up\n  help: set it up with `cargo xtask setup --cpu`"
    );
    Ok(Parts {
        library: installation.libmlxc(),
        wheel: installation.wheel(),
        mlx_c: mlx_c::Source::unchecked(&cargo::source_of(root, "mlx-sys", pins::MLX_SYS)?).folder().to_owned(),
        target: architecture()?.target(),
    })
}

fn architecture() -> Result<Architecture> {
    Architecture::host().context("MLX is published for x86_64 and aarch64 Linux")
}

/// Downloads MLX's package for CUDA and unpacks its folders into `folder`. Neither a GPU nor CUDA's libraries need to be there.
///
/// # Errors
/// No Python, no network; a download that is not what was published.
pub fn unpack_cuda(root: &Path, folder: &Path) -> Result<()> {
    unpack(root, &pins::mlx(Build::Cuda, architecture()?), folder)?;
    // Only Python and CMake read these files.
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "dist-info") {
            remove_if_there(&path)?;
        }
    }
    remove_if_there(&folder.join("mlx/share"))
}

/// Puts the licences of MLX and OpenBLAS below `folder`, and those of what their packages bundle.
///
/// # Errors
/// As [`unpack_cuda`].
pub fn unpack_licences(root: &Path, folder: &Path) -> Result<()> {
    let architecture = architecture()?;
    for wheel in [pins::mlx(Build::Cpu, architecture), pins::openblas(architecture)] {
        let unpacked = folder.join("unpacked");
        unpack(root, &wheel, &unpacked)?;
        let name = format!("{}-{}", wheel.project.replace('-', "_"), wheel.version);
        let licences = unpacked.join(format!("{name}.dist-info/licenses"));
        fs::rename(&licences, folder.join(name))
            .with_context(|| format!("the package `{}` brings no licences", wheel.file))?;
        remove_if_there(&unpacked)?;
    }
    Ok(())
}

fn unpack(root: &Path, wheel: &Wheel, folder: &Path) -> Result<()> {
    let home = SetupFolder::new(root);
    let _lock = lock(&home.lock())?;
    let python = Python::find()?;
    let path = download::fetch(wheel, &home.downloads(), |wheel, folder| {
        eprintln!("  downloading {} {} ({} MB)", wheel.project, wheel.version, wheel.megabytes);
        python.download(wheel, folder, &home.python())
    })?;
    python.unzip(&path, folder)
}
