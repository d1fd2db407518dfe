//! Tensors, kernels and gradients on MLX that cannot be silently wrong.
//!
//! On MLX a custom kernel has no gradient, a captured array gets the gradient zero, and a value that is read in the middle of a
//! graph becomes a constant. In this crate each of these is a compile error, or an error that names the operation.
//!
//! # A model that trains
//!
//! A model is a struct that is generic over its *mode*: [`Stored`] weights can be loaded, read and saved, [`Train`] records for a
//! gradient, [`Infer`] computes without one. Only the drivers of a [`Session`] turn one mode into another. So a loss takes the model as an
//! argument, and cannot read a value:
//!
//! ```
//! use cotangent::optimizer::{AdamW, AdamWOptions};
//! use cotangent::{
//!     Constant, Mode, Parameters, Result, Session, Stored, Tensor, Train, Trainable, value_and_grad,
//! };
//!
//! #[derive(Parameters)]
//! struct Line<M: Mode> {
//!     slope: Tensor<M>,
//!     height: Tensor<M>,
//! }
//!
//! struct Points {
//!     x: Constant,
//!     y: Constant,
//! }
//!
//! fn loss(line: &Line<Train>, points: &Points) -> Result<Tensor<Train>> {
//!     let y = line.slope.multiply(&points.x)?.add(&line.height)?;
//!     y.subtract(&points.y)?.square()?.sum_all()
//! }
//!
//! # fn main() -> Result<()> {
//! let points = Points {
//!     x: Constant::from_slice(&[0.0_f32, 1.0, 2.0], &[3])?,
//!     y: Constant::from_slice(&[1.0_f32, 3.0, 5.0], &[3])?,
//! };
//! let mut line: Line<Stored> = Line {
//!     slope: Tensor::from_slice(&[0.0_f32], &[1])?,
//!     height: Tensor::from_slice(&[0.0_f32], &[1])?,
//! };
//! let mut session = Session::new()?;
//! let trainable = Trainable::new(&line, |_| true)?;
//! let mut optimizer = AdamW::new(AdamWOptions { weight_decay: 0.0, ..AdamWOptions::default() });
//! for _ in 0..200 {
//!     let (_, gradients) = value_and_grad(&mut session, &line, &trainable, &points, loss)?;
//!     optimizer.update(&mut line, &gradients, 0.1)?;
//! }
//! assert!((line.slope.item::<f32>()? - 2.0).abs() < 0.1);
//! # Ok(())
//! # }
//! ```
//!
//! # Where to look
//!
//! | | |
//! |---|---|
//! | [`#[differentiable]`](macro@differentiable), [`kernel`] | Metal kernels that cannot be called without their gradient |
//! | [`Tensor`], [`Constant`], [`Indices`], [`Mask`], [`ops`] | values of a graph, and operations on them |
//! | [`Parameters`](macro@Parameters), [`parameters`] | models as trees of named tensors |
//! | [`value_and_grad`], [`train_stack`], [`evaluate`], [`Session::infer`] | drivers: one loss, a model block by block, without gradients |
//! | [`checkpoint`], [`custom_vjp()`] | functions that are computed again, and functions with a gradient of their own |
//! | [`optimizer`] | AdamW, SGD, and rules of your own |
//! | [`audit_stack`], [`Audit`] | the gradient of each parameter of a model, and each place that cuts one |
//! | [`errors`] | one page for each error code |
//!
//! # Where errors appear
//!
//! The compiler finds every mistake that types or the source of a kernel show. An operation checks shapes, dtypes and index ranges when
//! it is called. The gradients of kernels are checked when the backward pass gives them to MLX. Errors of MLX itself appear when a
//! driver evaluates.
//!
//! # Programs
//!
//! A program calls [`enter`] first in `main`, and returns the result of [`leave`] from `main`: MLX and OpenBLAS need work at both ends.
//! The feature `emulator`, on by default, adds the emulator in which generated tests run; a program that only trains leaves it out.

mod backend;
mod constant;
mod cut;
mod dtype;
mod error;
pub mod errors;
mod ffi;
mod flat;
pub mod host;
mod identity;
mod in_flight;
mod kept;
pub mod kernel;
pub mod memory;
mod mode;
pub mod ops;
pub mod optimizer;
mod packed;
pub mod parameters;
mod planned;
mod process;
pub mod random;
mod repeat;
mod resident;
mod running;
mod session;
mod source;
mod tensor;
mod transform;

pub use backend::{Backend, backend};
pub use constant::{Constant, Indices, Mask};
#[doc = include_str!("differentiable.md")]
#[doc(inline)]
pub use cotangent_macros::differentiable;
#[doc = include_str!("stage.md")]
#[doc(inline)]
pub use cotangent_macros::stage;
pub use cotangent_macros::{Config, Parameters};
pub use cut::{Cut, CutKind};
pub use dtype::Dtype;
pub use error::{Error, Result};
pub use mode::{Graph, Held, Infer, Mode, Planned, Readable, Stored, Train};
pub use packed::{CodeFormat, CodeMode, Packed};
pub use parameters::{Config, Frozen, Parameters};
pub use planned::{Plan, Storage};
pub use process::{enter, ignores_hangup, leave};
pub use session::Session;
pub use tensor::{Element, Tensor};
pub use transform::{
    Audit, AuditedParameter, Backward, CustomVjp, Forward, GradientState, Gradients, Keep, Stack, StackStages,
    Trainable, VjpCase, audit_stack, checkpoint, custom_vjp, evaluate, evaluate_stack, train_stack, value_and_grad,
};

/// The items that the expansions of macros use. They are not an interface, and change with the macros.
#[doc(hidden)]
pub mod __private {
    pub use cotangent_macros::items;
    pub use inventory;

    pub use crate::transform::{NamedBackward, NamedForward, OptionalBackward, OptionalForward, named, named_if_any};

    use crate::kernel::signature::Signature;
    use crate::kernel::{Declaration, Kernel};

    /// What the name of a kernel stands for in its generated test, where the kernel stands inside a function: Rust's harness
    /// does not find tests there, so this one never runs.
    pub struct InsideFunction {}

    impl Kernel for InsideFunction {
        const SIGNATURE: Signature = Signature::STAND_IN;

        fn declaration() -> &'static Declaration {
            unreachable!("no harness runs a test inside a function")
        }
    }

    /// Seals [`Parameters`](crate::Parameters): only the derive implements both.
    #[diagnostic::on_unimplemented(
        message = "`Parameters` of `{Self}` is not derived, so it could leave a parameter out [C06]",
        label = "implements `Parameters` by hand",
        note = "write `#[derive(Parameters)]` on it instead; see `cotangent::errors::C06`"
    )]
    pub trait DerivedParameters {}

    // These hold for any content: where a container is used, `Parameters` is required of its content.
    impl<M: crate::Mode> DerivedParameters for crate::Tensor<M> {}
    impl<M: crate::Mode> DerivedParameters for crate::Frozen<M> {}
    impl<M: crate::Mode> DerivedParameters for std::marker::PhantomData<M> {}
    impl<P> DerivedParameters for Option<P> {}
    impl<P> DerivedParameters for Vec<P> {}
    impl<P> DerivedParameters for Box<P> {}
    impl<P, const N: usize> DerivedParameters for [P; N] {}

    /// Names of tensors.
    #[derive(Debug)]
    pub struct Leaves {
        /// The names of the tree's own fields.
        pub own: &'static [&'static str],
        /// The names of the trees that are flattened into this one.
        pub flattened: &'static [&'static Leaves],
    }

    impl Leaves {
        /// The empty list, of a tree whose names the compiler does not see.
        pub const NONE: Leaves = Leaves { own: &[], flattened: &[] };

        /// Returns whether one of the tensors has this name.
        pub const fn has(&self, name: &str) -> bool {
            let mut index = 0;
            while index < self.own.len() {
                if crate::kernel::pairing::same_text(self.own[index], name) {
                    return true;
                }
                index += 1;
            }
            let mut index = 0;
            while index < self.flattened.len() {
                if self.flattened[index].has(name) {
                    return true;
                }
                index += 1;
            }
            false
        }

        /// Returns whether two tensors, one of each, have one name.
        pub const fn meets(&self, other: &Leaves) -> bool {
            let mut index = 0;
            while index < self.own.len() {
                if other.has(self.own[index]) {
                    return true;
                }
                index += 1;
            }
            let mut index = 0;
            while index < self.flattened.len() {
                if self.flattened[index].meets(other) {
                    return true;
                }
                index += 1;
            }
            false
        }
    }

    /// Seals [`Config`](crate::Config): only the derive implements both.
    #[diagnostic::on_unimplemented(
        message = "`Config` of `{Self}` is not derived, so it could hide a tensor [C06]",
        label = "implements `Config` by hand",
        note = "write `#[derive(Config)]` on it instead; see `cotangent::errors::C06`"
    )]
    pub trait DerivedConfig {}

    /// Seals the modes of inference-only kernels: no other crate can implement it for [`Train`](crate::Train).
    #[diagnostic::on_unimplemented(
        message = "an inference-only kernel cannot be reached from a training graph, so `{Self}` is none of its modes [C10]",
        label = "claims that the kernel has a gradient",
        note = "take the training path of the layer in `Train`, or give the kernel a gradient; see `cotangent::errors::C10`"
    )]
    pub trait InferenceOnly: crate::Graph {}

    impl InferenceOnly for crate::Infer {}
}
