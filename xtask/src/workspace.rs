//! The place of the checkout.

use anyhow::{Context, Result};
use std::path::PathBuf;

/// The absolute path of the workspace.
///
/// Read at run time: a checkout that was moved has moved its xtask with it, but not the path it was compiled under.
pub fn root() -> Result<PathBuf> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map_or(env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let root = manifest.parent().context("xtask lies in no workspace")?;
    root.canonicalize().with_context(|| format!("cannot read `{}`; run `cargo xtask` in the checkout", root.display()))
}
