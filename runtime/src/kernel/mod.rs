//! Kernels that cannot be called without their gradient.
//!
//! A kernel is declared with [`#[differentiable]`](macro@crate::differentiable). The macro checks the declaration and
//! generates data: a marker type that implements [`Kernel`] with a constant [`Signature`](signature::Signature), and a
//! function that calls [`call()`]. This module holds everything that data is interpreted with:
//!
//! - [`signature`]: what a declaration says, as constants,
//! - [`pairing`]: the proof, at compile time, that a backward belongs to its forward,
//! - [`registry`]: every kernel of the program, each of which tells [what checks it](check::Check),
//! - [`mod@check`]: gradients of all of them against finite differences and against their fallbacks,
//! - [`mutation`]: mistakes that those checks must notice.
//!
//! # Declaring a kernel
//!
//! ```
//! use cotangent::{Graph, Result, Tensor, differentiable};
//!
//! /// Multiplies rows `[B, D]` by one weight each.
//! #[differentiable(
//!     backward = scale_rows_backward,        // a paired kernel ..
//!     fallback = scale_rows_by_operations,   // .. and the same function made of differentiable operations
//!     cases = [(B = 3, D = 4), (B = 1, D = 130)],
//! )]
//! pub fn scale_rows<T: Float>(x: In![T; B, D], w: In![T; B], y: Out![T; B, D], #[saved] column: Out![T; B, 1]) {
//!     let column = w.reshape(&[B, 1])?;
//!     Ok(Outputs { y: x.multiply(&column)?, column })
//! }
//!
//! #[differentiable(backward_of = scale_rows)]
//! pub fn scale_rows_backward<T: Float>(
//!     x: In![T; B, D],
//!     column: In![T; B, 1],
//!     d_y: In![T; B, D],
//!     d_x: Out![T; B, D],
//!     d_w: Out![T; B],
//! ) {
//!     let d_w = if wants_d_w { Some(d_y.multiply(x)?.sum(&[1])?) } else { None };
//!     Ok(Outputs { d_x: Some(d_y.multiply(column)?), d_w })
//! }
//!
//! fn scale_rows_by_operations<M: Graph>(x: &Tensor<M>, w: &Tensor<M>) -> Result<Tensor<M>> {
//!     x.multiply(&w.expand_dims(1)?)
//! }
//!
//! # fn model<M: Graph>(x: &Tensor<M>, w: &Tensor<M>) -> Result<Tensor<M>> {
//! scale_rows(x, w)
//! # }
//! ```
//!
//! **Ports** are `In![dtype; extents]` and `Out![dtype; extents]`; `Out![f32;]` is a scalar array. A float input is
//! differentiable and arrives as `&Tensor<M>`; `#[nodiff]` makes it a `&Constant`. Inputs of integers are `&Indices`,
//! `bool` inputs `&Mask`. `#[saved]` marks an output that is kept for the backward and never seen by the caller.
//! `#[values(low..high)]` says what generated tests fill an input with most of the time; they also draw values near and far
//! from zero, unless `#[values(low..high, only = "reason")]` says that the function has none there. `#[differs("reason")]` on
//! a gradient says that it is meant not to be the derivative (a straight-through estimate). Both are listed by
//! [`Audit`](crate::Audit). Parameters of type `f32`, `i32`, `u32` and `bool`
//! are scalars.
//!
//! **Optional inputs**: a call may leave out `mask: Option<In![bool; B, S]>`. The function takes `Option<&Mask>`, a Rust body
//! and the fallback see an `Option`; a text asks the template bool `HAS_mask` before it reads `mask`. A backward declares
//! the primal, and its gradient, optional as well. Such a port binds no dimension: without it nothing would say the size.
//!
//! **Extents** are integers, upper-case names, `+ - * / %`, `ceil_div(a, b)`, `min(a, b)` and `max(a, b)`. A name that
//! stands alone in an input's shape is bound by it; any other must be a template constant `const N: usize`, which becomes
//! an argument of the generated function. Extents are compared in a normal form: `B * H` is `H * B`.
//!
//! **Sizes.** `dims = [CHUNKS = ceil_div(T, C), ROWS = CHUNKS * 4]` names expressions that a declaration repeats, each made of
//! dimensions, constants and the sizes before it. Shapes, `grid`, `threads`, `requires` and later sizes may use the name, and
//! both kinds of bodies: in Metal it is a `constexpr int` if only constants decide it (then arrays may be as long), else a
//! `const int`; in Rust an `i32`.
//!
//! **Dtypes** are `f32`, `bf16`, `f16`, `bool`, integers from `i8` and `u8` to `i64` and `u64`, or a parameter: `T: Float`,
//! `T: Int`, `T: F32 + BF16`. A parameter of one type alone, `T: U8`, needs no input that settles it.
//!
//! **Bodies.** `metal! { .. }` is one launch, with `grid = (x, y, z)` and `threads = (x, y, z)` in the attribute. Ports,
//! dimensions, constants and scalars have their names in it; a backward has a template bool `WANTS_d_x` for each gradient,
//! a forward `SAVES_r` for each residual. A Rust body sees tensors of mode [`Infer`](crate::Infer), dimensions as `i32`,
//! and `wants_d_x`; it ends in `Ok(Outputs { .. })`, with an `Option` for each output of a backward. It composes
//! operations and the launches it lists: `stages = [a]` gives it the name `stages`, and `a(stages, x, ..)?` launches the
//! kernel that [`#[stage]`](macro@crate::stage) declares. Nothing differentiates through either kind of body: there is no
//! second order, and gradients come back as [`Stored`](crate::Stored), with which nothing is computed.
//!
//! **Options of a launch**: `init = 0.0` fills outputs beforehand, `atomic` makes them atomics (floats also need
//! `nondeterministic`), `strided` hands inputs over as they lie, `headers = [TEXT]` puts constants of text before it.
//!
//! **CUDA.** On an NVIDIA GPU the Metal text runs, translated by
//! `cotangent_metal::cuda_text`; where CUDA has no counterpart at a call's sizes (raw
//! `simdgroup_matrix`; threads that meet in a ragged threadgroup) the fallback runs. `cuda! { .. }` beside `metal! { .. }`
//! is a text of one's own for it, in CUDA C++: ports are pointers (values where they have no dimensions), scalars,
//! dimensions and template constants have their names, `headers` are not seen. CUDA starts whole blocks: such a text keeps
//! threads beyond the grid from writing. Translated texts are compiled on all cores while the graph is built, into the
//! folder where MLX looks for what it compiled before; `COTANGENT_CUDA_AHEAD=0` leaves that to MLX, one text at a time.
//!
//! **Requirements.** `requires = [D % 16 == 0, D <= 256]` says at which sizes the kernel runs: comparisons of extents. At
//! others its fallback runs; a stage, or a kernel without a fallback, is then an error that names the size.
//! `fallback_on = [cuda]` lets the fallback run on a backend where it is measured to be faster than the kernel.
//!
//! **Recomputation.** A driver that walks blocks computes them again in the backward pass. `expensive` says that this
//! kernel's outputs, residuals included, are worth their memory: [`Keep::Expensive`](crate::Keep::Expensive) keeps them.
//!
//! **Routes.** On a GPU (and in the emulator) the kernel runs with its paired backward, or with the gradient of its
//! fallback; on the CPU the fallback runs as it is. A pair of Rust bodies without stages runs everywhere.
//! `inference_only = "reason"` instead of a route gives a function that no training graph can reach.
//!
//! **Tests.** A declaration puts a test into its crate, `kernel_NAME::is_as_declared`, which does what
//! [`check::assert_declared`] does. `untested = "reason"` takes it out.
//!
//! **Texts in files.** What does not lex as Rust tokens cannot stand inside `metal! { .. }`: lines that `\` continues,
//! `1'000`, hexadecimal floats, raw strings, brackets that do not match inside `#if`. A text that needs them, or is simply
//! better off alone, stands in a file: `metal_file!("rotate.metal")` instead of `metal! { .. }`, with the path as seen from
//! the Rust file (`cuda_file!("rotate.cu")` for CUDA). It meets the same checks; messages name file, line and column.

mod binding;
mod call;
pub mod check;
mod declaration;
mod dispatch;
mod launch;
pub mod mutation;
pub mod pairing;
mod preference;
pub mod registry;
pub mod signature;
mod tally;
mod value;

pub use call::{Call, Outputs, Stages};
pub use declaration::{
    BackwardOf, Body, Declaration, Differentiable, Fallback, Kernel, Launch, PairedWith, Route, Run,
};
pub use dispatch::{call, call_stage};
pub use preference::{Preference, with_preference};
pub use registry::{functions, kernels};
pub use tally::{Calls, calls};
pub use value::{ConstantValue, PortValue, ScalarValue};
