//! The way from C++ to code in this process: the system's compiler, a cache of its results, the loaded image.

mod cache;
mod compiler;
mod image;
mod messages;

pub(crate) use cache::{Cache, cache_error};
pub use compiler::SAME_BITS;
pub(crate) use compiler::{Build, Compiler};
pub(crate) use image::Image;
pub(crate) use messages::{MIXED_ARMS, explain};
