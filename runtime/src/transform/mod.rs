//! Gradients: of functions of arrays inside the crate, of functions of parameters outside.

mod audit;
mod carried;
mod checkpoint;
mod custom_vjp;
mod gradient;
mod gradients;
mod names;
mod part;
mod stack;
mod stages;
mod tail;

pub use audit::{Audit, AuditedParameter, GradientState, audit_stack};
pub use checkpoint::checkpoint;
pub use custom_vjp::{
    Backward, CustomVjp, Forward, NamedBackward, NamedForward, OptionalBackward, OptionalForward, VjpCase, custom_vjp,
    named, named_if_any,
};
pub use gradient::{Trainable, evaluate, value_and_grad};
pub use gradients::Gradients;
pub use stack::{Keep, Stack, evaluate_stack, train_stack};
pub use stages::StackStages;

pub(crate) use custom_vjp::custom_vjp_arrays;
pub(crate) use gradient::{TrainableLeaves, vjp_arrays};
pub(crate) use names::check_one_tensor_a_name;
