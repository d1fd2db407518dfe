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
pub mod parameters;
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
pub use cotangent_macros::{Parameters, differentiable, stage};
pub use cut::{Cut, CutKind};
pub use dtype::Dtype;
pub use error::{Error, Result};
pub use mode::{Graph, Infer, Mode, Readable, Stored, Train};
pub use parameters::Parameters;
pub use process::{enter, leave};
pub use session::Session;
pub use tensor::{Element, Tensor};
pub use transform::{
    Audit, AuditedParameter, Backward, Forward, GradientState, Gradients, Keep, Stack, Trainable, audit_stack,
    checkpoint, custom_vjp, evaluate, evaluate_stack, train_stack, value_and_grad,
};

/// What the macros expand to. Not an interface: it changes with them.
#[doc(hidden)]
pub mod __private {
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
        note = "write `#[derive(Parameters)]` on it instead"
    )]
    pub trait DerivedParameters {}

    impl<M: crate::Mode> DerivedParameters for crate::Tensor<M> {}
    impl<P: DerivedParameters> DerivedParameters for Option<P> {}
    impl<P: DerivedParameters> DerivedParameters for Vec<P> {}
    impl<P: DerivedParameters> DerivedParameters for Box<P> {}
}
