//! `cargo xtask setup`: makes MLX available to this checkout.

#[cfg(feature = "bindgen")]
pub mod bindings;
mod blas;
mod cargo_config;
mod digest;
mod download;
mod layout;
mod linux;
mod macos;
mod mlx_c;
mod pins;
mod problem;
mod python;
mod sources;
mod stamp;
mod tools;

use anyhow::{Result, bail};
use std::path::Path;

/// Sets MLX up, if it is not or `force` is given.
pub fn set_up(root: &Path, force: bool) -> Result<()> {
    match std::env::consts::OS {
        "linux" => linux::set_up(root, force, linux::Report::Always),
        "macos" => {
            macos::check()?;
            eprintln!("Nothing to set up: on macOS Cargo builds MLX itself, in some minutes the first time.");
            Ok(())
        }
        system => bail!("MLX runs on macOS and Linux, not on {system}\n  help: use one of these two"),
    }
}

/// What every command that builds the project begins with: silent if MLX is set up.
pub fn ensure(root: &Path) -> Result<()> {
    match std::env::consts::OS {
        "linux" => linux::set_up(root, false, linux::Report::Work),
        "macos" => macos::check(),
        _ => set_up(root, false),
    }
}
