//! NVIDIA's run-time compiler, with which tests compile kernels where there is no GPU. Nothing else needs it.

use super::folder::SetupFolder;
use super::pins::{self, Architecture};
use super::python::Python;
use super::{download, linux};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// The library, downloaded and unpacked at the first call in a checkout.
///
/// # Errors
/// A system that NVIDIA has none for; no Python, no network; a download that is not what was published.
pub fn library(root: &Path) -> Result<PathBuf> {
    let Some(architecture) = Architecture::host().filter(|_| std::env::consts::OS == "linux") else {
        bail!("NVIDIA publishes it for x86_64 and aarch64 Linux");
    };
    let home = SetupFolder::new(root);
    let library = home.nvrtc().join("nvidia/cu13/lib/libnvrtc.so.13");
    if library.is_file() {
        return Ok(library);
    }
    fs::create_dir_all(&home.folder).with_context(|| format!("cannot create `{}`", home.folder.display()))?;
    let _lock = linux::lock(&home.lock())?;
    let python = Python::find()?;
    let wheel = download::fetch(&pins::nvrtc(architecture), &home.downloads(), |wheel, folder| {
        eprintln!("  downloading {} {} ({} MB)", wheel.project, wheel.version, wheel.megabytes);
        python.download(wheel, folder, &home.python())
    })?;
    let unfinished = home.folder.join("unfinished-nvrtc");
    for folder in [&unfinished, &home.nvrtc()] {
        linux::remove_if_there(folder)?;
    }
    python.unzip(&wheel, &unfinished)?;
    fs::rename(&unfinished, home.nvrtc()).with_context(|| format!("cannot rename `{}`", unfinished.display()))?;
    // The unpacked wheel is not needed any more: another checkout downloads its own.
    linux::remove_if_there(&wheel)?;
    if !library.is_file() {
        bail!(
            "`{}` is not in the package\n  help: correct its place in cargo-cotangent/src/setup/nvrtc.rs",
            library.display()
        );
    }
    Ok(library)
}
