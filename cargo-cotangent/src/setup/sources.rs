//! The files in `cargo-cotangent/mlx`, carried in this program.

use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

pub struct Source {
    pub name: &'static str,
    pub text: &'static str,
}

macro_rules! source {
    ($name:literal) => {
        Source { name: $name, text: include_str!(concat!("../../mlx/", $name)) }
    };
}

/// Included before every source of mlx-c.
pub const BEFORE_MLX_C: Source = source!("before_mlx_c.h");
/// The function of macOS that mlx-rs calls.
pub const MACH_TIME: Source = source!("mach_time.cpp");
/// A program that proves the libraries work.
pub const SMOKE_TEST: Source = source!("smoke_test.c");
/// The bindings that bindgen made of mlx-c's headers. They are committed, so that setting up needs no libclang.
pub const BINDINGS: Source = source!("bindings.rs");

pub const ALL: [Source; 4] = [BEFORE_MLX_C, MACH_TIME, SMOKE_TEST, BINDINGS];

impl Source {
    pub fn write_into(&self, folder: &Path) -> Result<()> {
        let path = folder.join(self.name);
        fs::write(&path, self.text).with_context(|| format!("cannot write `{}`", path.display()))
    }
}
