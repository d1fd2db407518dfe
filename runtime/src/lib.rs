//! Tensors, kernels and gradients on MLX that cannot be silently wrong.
//!
//! A [`Tensor`] lives in a [`Mode`]: evaluated and readable ([`Stored`]), recording for a gradient ([`Train`]), or
//! computing without one ([`Infer`]). Only a [`Session`]'s drivers turn one into another:
//! [`Session::infer`], [`value_and_grad`], and [`train_stack`], which walks a model block by block.
//!
//! Errors of operations surface in three places: shapes, dtypes and index ranges where the operation is called,
//! gradients of kernels where the backward pass meets MLX, and MLX's own where a driver evaluates.
//!
//! A program calls [`enter`] first in `main`, and returns what [`leave`] gives: what the libraries below need at both ends.

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
mod tensor;
mod transform;

pub use backend::{Backend, backend};
pub use constant::{Constant, Indices, Mask};
pub use cotangent_macros::{Config, Parameters, differentiable, stage};
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

/// What the macros expand to. Not an interface: it changes with them.
#[doc(hidden)]
pub mod __private {
    pub use cotangent_macros::items;
    pub use inventory;

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

    // Whatever they hold: `Parameters` of what they hold is asked for where they are one.
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
        /// Of fields.
        pub own: &'static [&'static str],
        /// Of what is flattened into the tree.
        pub flattened: &'static [&'static Leaves],
    }

    impl Leaves {
        /// None that the compiler sees.
        pub const NONE: Leaves = Leaves { own: &[], flattened: &[] };

        /// Whether one of the tensors has this name.
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

        /// Whether two tensors, one of each, have one name.
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
