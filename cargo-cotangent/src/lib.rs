//! `cargo cotangent ..`: what authors of kernels run, in any crate that depends on `cotangent`.
//!
//! - [`setup`] makes MLX available to a crate.
//! - [`explain`] says what a code in an error message means.
//! - [`expand`] shows what a kernel's attribute generates. It reads the sources.
//! - [`linked`] runs what needs a program that links the kernels: lists, checks and mistakes.
//!
//! `cargo xtask` runs the same for the project itself. Nothing here links MLX, so that it builds before MLX is set up.

pub mod arguments;
pub mod cargo;
pub mod expand;
pub mod explain;
pub mod linked;
pub mod program;
pub mod project;
pub mod setup;
pub mod source;
