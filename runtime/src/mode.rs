//! The modes of a tensor: planned, stored, training, inferring.

use std::marker::PhantomData;

use mlx_rs::Array;

use crate::planned::Plan;
use crate::tensor::Value;

mod sealed {
    pub trait Sealed {}
}

/// The mode of a tensor, which says what may be done with it. The trait is sealed: [`Planned`], [`Stored`], [`Train`],
/// [`Infer`].
pub trait Mode: sealed::Sealed + Sized + 'static {
    /// The content of a tensor of this mode: an array, or the plan of one.
    #[doc(hidden)]
    type Value: Value;
    /// Decides whether tensors of this mode may cross threads: unevaluated MLX arrays may not.
    #[doc(hidden)]
    type Thread: Default + Clone + 'static;
    /// The mode's name in messages.
    const NAME: &'static str;
}

/// A mode whose tensors hold an array, computed or not: all but [`Planned`].
pub trait Held: Mode<Value = Array> {}

impl<M: Mode<Value = Array>> Held for M {}

/// A mode in which operations build a graph: [`Train`] or [`Infer`].
#[diagnostic::on_unimplemented(
    message = "nothing is computed with tensors of mode `{Self}`",
    label = "computes outside a graph",
    note = "weights and results are `Stored`: a session takes them into a graph and results out of it",
    note = "a gradient is such a result, so there is no gradient of a gradient (second order)"
)]
pub trait Graph: Held {
    /// Whether gradients may be asked of this graph.
    const TRAINING: bool;
}

/// A mode whose tensors have values: [`Stored`].
#[diagnostic::on_unimplemented(
    message = "a value cannot be read inside a graph of mode `{Self}` [C07]",
    label = "reads a value that is not there yet",
    note = "reading it would make a constant of it, and its gradient would be silently wrong",
    note = "return the tensor from the function that the driver runs, and read it outside; see `cotangent::errors::C07`"
)]
pub trait Readable: Held {}

impl Readable for Stored {}

/// Parameters that are known by shape and dtype alone: the tree of a model before its weights are loaded.
#[derive(Debug, Clone, Copy)]
pub enum Planned {}

/// Evaluated weights and results: to load, save, read and send, but not to compute with.
#[derive(Debug, Clone, Copy)]
pub enum Stored {}

/// A training graph: operations are recorded for the backward pass, values cannot be read.
#[derive(Debug, Clone, Copy)]
pub enum Train {}

/// A graph without gradients.
#[derive(Debug, Clone, Copy)]
pub enum Infer {}

impl sealed::Sealed for Planned {}
impl sealed::Sealed for Stored {}
impl sealed::Sealed for Train {}
impl sealed::Sealed for Infer {}

impl Mode for Planned {
    type Value = Plan;
    type Thread = ();
    const NAME: &'static str = "Planned";
}

impl Mode for Stored {
    type Value = Array;
    type Thread = ();
    const NAME: &'static str = "Stored";
}

impl Mode for Train {
    type Value = Array;
    type Thread = PhantomData<*const ()>;
    const NAME: &'static str = "Train";
}

impl Mode for Infer {
    type Value = Array;
    type Thread = PhantomData<*const ()>;
    const NAME: &'static str = "Infer";
}

impl Graph for Train {
    const TRAINING: bool = true;
}

impl Graph for Infer {
    const TRAINING: bool = false;
}
