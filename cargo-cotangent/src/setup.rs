//! `cargo cotangent setup`: makes MLX available to a crate, and `cargo xtask setup` to the checkout of Cotangent.

#[cfg(feature = "bindgen")]
pub mod bindings;
mod blas;
mod cargo_config;
mod cuda;
mod digest;
mod download;
mod folder;
mod linux;
mod macos;
mod mlx_c;
pub mod nvrtc;
mod outside;
mod parts;
mod pins;
mod problem;
mod python;
mod sources;
mod stamp;
mod tools;

use anyhow::{Result, bail};
use std::path::Path;

pub use outside::set_up_project;
pub use parts::{Parts, parts, unpack_cuda, unpack_licences};
pub use pins::Build;

/// Sets MLX up in the folder `.mlx` below `root`, if it is not or `force` is given; without a `build`, the one that was set up
/// last.
///
/// # Errors
/// What the machine lacks, with what to install; a failed download.
pub fn set_up(root: &Path, build: Option<Build>, force: bool) -> Result<()> {
    match std::env::consts::OS {
        "linux" => linux::set_up(root, build, force, linux::Report::Always),
        "macos" if build == Some(Build::Cuda) => bail!("there is no CUDA on macOS\n  help: leave out `--cuda`"),
        "macos" => {
            macos::check()?;
            eprintln!("Nothing to set up: on macOS Cargo builds MLX itself, in some minutes the first time.");
            Ok(())
        }
        system => bail!("MLX runs on macOS and Linux, not on {system}\n  help: use one of these two"),
    }
}

/// Sets MLX up if that has not been done, and is silent otherwise. Every command that builds the project begins with this.
///
/// # Errors
/// As [`set_up`].
pub fn ensure(root: &Path) -> Result<()> {
    match std::env::consts::OS {
        "linux" => linux::set_up(root, None, false, linux::Report::Work),
        "macos" => macos::check(),
        _ => set_up(root, None, false),
    }
}
