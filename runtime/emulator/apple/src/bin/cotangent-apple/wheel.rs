//! MLX's package for macOS from the Python index: the library that Apple's compiler made, and the sources of its kernels.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use cotangent_apple::Library;

/// The package that `pip` downloads. The build for macOS 15 is in Metal 3.2.
const PACKAGE: &str = "mlx-metal==0.32.4";
const PLATFORM: &str = "macosx_15_0_arm64";

/// The unpacked package.
pub struct Wheel {
    folder: PathBuf,
}

impl Wheel {
    /// The package in `cache`, which is downloaded once.
    pub fn in_cache(cache: &Path) -> Result<Self> {
        let folder = cache.join(PACKAGE.replace("==", "-"));
        if !folder.is_dir() {
            let download = cache.join(format!("download-{}", std::process::id()));
            eprintln!("downloading {PACKAGE} (45 MB)");
            let done = fetch(&download).and_then(|wheel| unpack(&wheel, &download.join("unpacked")));
            let placed = done.and_then(|()| Ok(fs::rename(download.join("unpacked"), &folder)?));
            let cleared = fs::remove_dir_all(&download);
            placed?;
            cleared.with_context(|| format!("cannot remove {}", download.display()))?;
        }
        Ok(Wheel { folder })
    }

    /// The kernels that Apple's compiler made.
    pub fn library(&self) -> Result<Library> {
        let path = self.folder.join("mlx/lib/mlx.metallib");
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Library::read(bytes)?)
    }

    /// The folder to which `#include` in MLX's sources is relative.
    pub fn sources(&self) -> PathBuf {
        self.folder.join("mlx/include")
    }
}

fn fetch(folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--platform", PLATFORM, PACKAGE]);
    pip.arg("--dest").arg(folder);
    run(&mut pip, "download the package: `python3` with `pip` and a network are needed once")?;
    let mut files = fs::read_dir(folder)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let wheel = files.find(|path| path.extension().is_some_and(|extension| extension == "whl"));
    wheel.context("`pip download` left no wheel")
}

fn unpack(wheel: &Path, folder: &Path) -> Result<()> {
    let mut unzip = Command::new("python3");
    unzip.args(["-m", "zipfile", "-e"]).arg(wheel).arg(folder);
    run(&mut unzip, "unpack the package")
}

fn run(command: &mut Command, what: &str) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot {what}"))?;
    if !output.status.success() {
        bail!("cannot {what}\n{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
