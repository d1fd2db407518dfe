#![doc = include_str!("../README.md")]

mod bound;
mod build;
mod cuda;
mod cuda_compiler;
mod dtype;
mod emulator;
mod error;
mod finding;
mod function;
mod kernel;
mod launch;
mod launch_check;
mod machine;
mod report;
mod static_check;
mod text;

pub use bound::{Bound, BoundLaunch, BoundRun, Memory, Object};
pub use build::SAME_BITS;
pub use cuda::{CudaGrid, CudaText, GRID_INPUT, cuda_text};
pub use cuda_compiler::{CudaCompiler, CudaUnit};
pub use dtype::Dtype;
pub use emulator::Emulator;
pub use error::Error;
pub use finding::{Action, Finding, FindingKind, Location, Side, Thread};
pub use function::FunctionText;
pub use kernel::{KernelText, Port, Source, TemplateValue};
pub use launch::{Buffer, Checks, Launch, Run, Schedule};
pub use static_check::{Complaint, StaticCheck};

/// Metal text of `tile<T, 16, 16>`, to put in front of a kernel's header when it runs on a real GPU. The emulator has
/// the type built in: `tile_load`, `tile_load_transposed`, `tile_store`, `tile_multiply_accumulate`, `tile_transpose`,
/// `tile_row_sum`, `tile_row_max`, and for right factors `tile_load_right`, `tile_load_right_transposed`, `tile_as_right`,
/// `tile_as_right_transposed`, all of which the 32 lanes of a simdgroup must reach together; `tile_cast`, `tile_for_each`,
/// `tile_with_rows`, `tile_multiply_accumulate_elements`, `tile_copy_rows`, `tile_prefetch_rows`.
pub const TILE_METAL: &str = include_str!("../shim/tile.metal");
