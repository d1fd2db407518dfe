//! `cargo xtask expand KERNEL`: the Rust that a kernel's attribute generates.

use super::source::{KernelSource, Kind};
use anyhow::{Context, Result};
use quote::ToTokens;
use std::path::Path;

/// The items generated for the kernel `name`, or the `compile_error!`s that refuse it.
pub fn expand(root: &Path, name: &str) -> Result<String> {
    expansion(super::find(root, name)?)
}

fn expansion(kernel: KernelSource) -> Result<String> {
    let function = kernel.function.into_token_stream();
    let tokens = match kernel.kind {
        Kind::Differentiable => cotangent_macros_core::differentiable(kernel.options, function),
        Kind::Stage => cotangent_macros_core::stage(kernel.options, function),
    };
    let file = syn::parse2(tokens).context("the expansion is not Rust, which is a mistake in cotangent-macros-core")?;
    Ok(prettyplease::unparse(&file))
}
