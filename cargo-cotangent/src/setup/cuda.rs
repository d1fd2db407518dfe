//! The libraries of CUDA that MLX's CUDA build needs and does not bring.

use super::folder::Installation;
use super::problem::Problem;
use super::python::Python;
use anyhow::{Context, Result};
use std::os::unix::fs::symlink;

/// Lets MLX find the libraries of CUDA that `python` has as packages: MLX's wheel expects the folder `nvidia` beside
/// itself. Without such packages it is left to the system to find them.
pub fn use_libraries_of(python: &Python, installation: &Installation) -> Result<()> {
    let Some(folder) = python.namespace_package("nvidia") else {
        eprintln!("  no packages of CUDA in Python: counting on the system's");
        return Ok(());
    };
    eprintln!("  using CUDA in `{}`", folder.display());
    symlink(&folder, installation.wheel().join("nvidia"))
        .with_context(|| format!("cannot link to `{}`", folder.display()))
}

/// Returns what to say if MLX does not load.
pub fn missing_libraries() -> Problem {
    Problem::new(
        "MLX's CUDA build does not load: it needs an NVIDIA driver for CUDA 13, and CUDA's libraries",
        "install the driver; then the libraries with `python3 -m pip install 'nvidia-cublas==13.*' \
         'nvidia-cufft==12.*' 'nvidia-cuda-nvrtc==13.*' 'nvidia-cuda-runtime==13.*' 'nvidia-cudnn-cu13==9.*' \
         nvidia-nccl-cu13`; or set MLX up without `--cuda`",
    )
}
