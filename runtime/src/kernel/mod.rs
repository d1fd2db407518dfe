//! Kernels that cannot be called without their gradient.
//!
//! A kernel is declared with [`#[differentiable]`](macro@crate::differentiable). The macro checks the declaration and
//! generates data and a function. The data is a marker type that implements [`Kernel`] with a constant
//! [`Signature`](signature::Signature); the function calls [`call()`]. This module interprets the data:
//!
//! - [`signature`]: what a declaration says, as constants,
//! - [`pairing`]: the proof, at compile time, that a backward belongs to its forward,
//! - [`registry`]: every kernel of the program, with [the checks that cover it](check::Check),
//! - [`mod@check`]: gradients of all of them against finite differences and against their fallbacks,
//! - [`mutation`]: mistakes that those checks must notice.
//!
//! # Declaring a kernel
//!
//! [`#[differentiable]`](macro@crate::differentiable) has a page with an example for each option. This is the language of a declaration.
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
//! ## Ports
//!
//! `In![dtype; extents]` is an input, `Out![dtype; extents]` an output; `Out![f32;]` is an array without dimensions. A float input
//! is differentiable and arrives as `&Tensor<M>`; `#[nodiff]` makes it a `&Constant`. Integer inputs are `&Indices`, `bool` inputs `&Mask`.
//! Parameters of type `f32`, `i32`, `u32` and `bool` are scalars.
//!
//! - `#[saved]` marks an output that is kept for the backward and never seen by the caller.
//! - `#[values(low..high)]` says what generated tests fill an input with most of the time. They also draw values near zero and far
//!   from it, unless `#[values(low..high, only = "reason")]` says that the function has none there.
//! - `#[differs("reason")]` on a gradient says that it is meant not to be the derivative, as in a straight-through estimate.
//!
//! [`Audit`](crate::Audit) lists the reasons.
//!
//! ## Calls
//!
//! The generated function takes inputs and scalars in the order in which they are declared, then the template constants
//! that no shape binds, in lower case. If there are more than three inputs, it takes them by name, in a struct beside
//! it with the same visibility:
//!
//! ```
//! # use cotangent::{Graph, Result, Tensor, differentiable};
//! /// `y = by (a b + c) + d`.
//! #[differentiable(fallback = in_operations, cases = [(N = 7)])]
//! pub fn blend(a: In![f32; N], b: In![f32; N], c: In![f32; N], d: Option<In![f32; N]>, by: f32, y: Out![f32; N]) {
//!     Ok(Outputs { y: in_operations(BlendInputs { a, b, c, d, by })? })
//! }
//!
//! fn in_operations<M: Graph>(inputs: BlendInputs<'_, M>) -> Result<Tensor<M>> {
//!     let y = inputs.a.multiply(inputs.b)?.add(inputs.c)?.multiply(inputs.by)?;
//!     if let Some(d) = inputs.d { y.add(d) } else { Ok(y) }
//! }
//!
//! # fn layer<M: Graph>(x: &Tensor<M>, w: &Tensor<M>) -> Result<Tensor<M>> {
//! blend(BlendInputs { a: x, b: w, c: x, d: None, by: 2.0 })
//! # }
//! ```
//!
//! The struct has no default: a call names every field, optional ones too, and an input that the kernel gains is a missing field.
//! The fallback takes the same struct; so does a stage, behind `stages`.
//!
//! ## Optional inputs
//!
//! A call may leave out `mask: Option<In![bool; B, S]>`. The function takes an `Option<&Mask>`, and so do a Rust body and the fallback; Metal
//! source asks the template bool `HAS_mask` before it reads `mask`. A backward declares the primal, and its gradient, optional as
//! well. Such a port binds no dimension, because without it nothing would give the size.
//!
//! ## Extents
//!
//! Extents consist of integers, upper-case names, `+ - * / %`, `ceil_div(a, b)`, `min(a, b)` and `max(a, b)`. A name
//! that is an extent of an input by itself is bound by the input's shape. Any other name is a template constant, `const
//! N: usize`, which becomes an argument of the generated function. Extents are compared in a normal form: `B * H`
//! equals `H * B`.
//!
//! `dims = [CHUNKS = ceil_div(T, C), ROWS = CHUNKS * 4]` names expressions, each made of dimensions, constants and the names before
//! it. In Metal such a name is a `constexpr int` if only constants decide it (an array may then have that length), else a
//! `const int`; in Rust it is an `i32`.
//!
//! ## Dtypes
//!
//! A dtype is `f32`, `bf16`, `f16`, `bool`, an integer from `i8` and `u8` to `i64` and `u64`, or a parameter: `T: Float`, `T: Int`,
//! `T: F32 + BF16`. A parameter of one dtype, `T: U8`, needs no input that settles it. The outputs of a
//! [`#[stage]`](macro@crate::stage) may have a parameter that no input settles: the generated function takes a
//! [`Dtype`](crate::Dtype) for it.
//!
//! ## Bodies
//!
//! `metal! { .. }` is one launch. Ports, dimensions, constants and scalars have their names in it. A backward has a template bool
//! `WANTS_d_x` for each gradient, a forward `SAVES_r` for each residual.
//!
//! A Rust body sees tensors of mode [`Infer`](crate::Infer), dimensions as `i32`, and `wants_d_x`. It ends in `Ok(Outputs { .. })`, with an
//! `Option` for each output of a backward. It composes operations and the launches that it lists: `stages = [a]` gives it the name
//! `stages`, and `a(stages, x, ..)?` launches the kernel that [`#[stage]`](macro@crate::stage) declares.
//!
//! Nothing differentiates through either kind of body: there is no second order, and gradients come back as
//! [`Stored`](crate::Stored), with which nothing is computed.
//!
//! Metal in a body without `metal!` gives two errors: the compiler's own, because it reads the function as Rust before
//! any attribute does, and one that says what to write.
//!
//! `expf`, `threadIdx`, `let` and other names of C, CUDA or Rust are refused with a message that gives Metal's own; so
//! are lambdas, which Metal has from version 4 on. A header may declare such names.
//!
//! ## Source in files
//!
//! Code that does not consist of Rust tokens cannot be inside `metal! { .. }`: lines that `\` continues, `1'000`,
//! hexadecimal floats, raw strings, brackets that do not match inside `#if`. Put such source into a file, and write
//! `metal_file!("rotate.metal")` instead of `metal! { .. }`, with the path relative to the Rust file
//! (`cuda_file!("rotate.cu")` for CUDA). The same checks apply; messages name file, line and column.
//!
//! ## CUDA
//!
//! On an NVIDIA GPU the Metal source runs, translated by `cotangent_metal::cuda_text`. Where CUDA has no counterpart at the sizes of a
//! call (raw `simdgroup_matrix`; threads that meet in a ragged threadgroup) the fallback runs.
//!
//! `cuda! { .. }` beside `metal! { .. }` is CUDA C++ of its own for such a GPU. Ports are pointers there, or values where they have no
//! dimensions; scalars, dimensions and template constants have their names; `headers` are not seen. CUDA starts whole blocks, so such
//! source has to keep threads beyond the grid from writing.
//!
//! Translated sources are compiled on all cores while the graph is built, into the folder where MLX looks for what it compiled
//! before. `COTANGENT_CUDA_AHEAD=0` leaves that to MLX, one source at a time.
//!
//! ## Where a kernel runs
//!
//! On a GPU, and in the emulator, the kernel runs with its paired backward, or with the gradient of its fallback. On the CPU the
//! fallback runs as it is. A pair of Rust bodies without stages runs everywhere. The options `requires`, `fallback_on` and
//! `inference_only` change that; [`#[differentiable]`](macro@crate::differentiable) describes them with all others.
//!
//! ## Tests
//!
//! A declaration puts a test into its crate, `kernel_NAME::is_as_declared`, which does what [`check::assert_declared`] does.

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
    BackwardOf, Body, Declaration, Fallback, FallbackAs, InferenceMode, Kernel, Launch, PairedWith, Route, Run,
};
pub use dispatch::{call, call_stage};
pub use preference::{Preference, with_preference};
pub use registry::{callers, functions, kernels};
pub use tally::{Calls, calls};
pub use value::{ConstantValue, PortValue, ScalarValue};
