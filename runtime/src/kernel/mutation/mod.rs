//! Mistakes put into a kernel that is built already, to see whether its checks notice them.

mod outcome;

use std::borrow::Cow;
use std::cell::RefCell;

use mlx_rs::Array;

use super::declaration::{Declaration, Launch};
use crate::error::Context as _;
use crate::{Dtype, Result};

pub use outcome::{Outcome, outcome};

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mutation {
    /// A Metal source that replaces the launch's own.
    Text(String),
    /// A text that replaces all headers of the launch together.
    Headers(String),
    /// A Rust body reads or computes another tensor: of the float tensors that it takes or that operations and stages give
    /// it, the one with this number, counted from 0 in each call.
    Operation {
        /// The tensor's number.
        number: usize,
        /// The value that takes the tensor's place.
        change: Change,
    },
}

/// A value that takes the place of a tensor in a mutated body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change {
    /// The negative of the tensor.
    Negated,
    /// The tensor is doubled.
    Doubled,
    /// The tensor is replaced by zeros.
    Dropped,
    /// The last tensor before it of the same shape and dtype.
    Swapped,
}

/// A tensor that a Rust body met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    shape: Vec<i32>,
    dtype: Dtype,
    /// Whether one of the same shape and dtype came before, which [`Change::Swapped`] takes.
    pub has_twin: bool,
}

struct Active {
    declaration: &'static Declaration,
    mutation: Option<Mutation>,
    /// The tensors of each call of the body that runs; outer calls first.
    calls: Vec<Option<Vec<Array>>>,
    /// The tensors of the longest call so far.
    longest: Vec<Met>,
}

thread_local! {
    static ACTIVE: RefCell<Option<Active>> = const { RefCell::new(None) };
}

/// Calls `function` with a mistake in the kernel, stage or backward `declaration` wherever this thread runs it.
pub fn with_mutation<R>(declaration: &'static Declaration, mutation: Mutation, function: impl FnOnce() -> R) -> R {
    activate(declaration, Some(mutation), function).0
}

/// Calls `function`, and returns the float tensors that the Rust body of `declaration` met in the call that met most.
pub fn met_in_body<R>(declaration: &'static Declaration, function: impl FnOnce() -> R) -> (R, Vec<Met>) {
    activate(declaration, None, function)
}

fn activate<R>(
    declaration: &'static Declaration,
    mutation: Option<Mutation>,
    function: impl FnOnce() -> R,
) -> (R, Vec<Met>) {
    /// Puts the former state back, also after a panic.
    struct Restore(Option<Active>);
    impl Drop for Restore {
        fn drop(&mut self) {
            ACTIVE.set(self.0.take());
        }
    }
    let active = Active { declaration, mutation, calls: Vec::new(), longest: Vec::new() };
    let restore = Restore(ACTIVE.replace(Some(active)));
    let result = function();
    let longest = ACTIVE.with_borrow_mut(|active| active.take().map(|active| active.longest));
    drop(restore);
    (result, longest.unwrap_or_default())
}

/// The mutation of `declaration`, as far as `choose` finds a part of it.
fn mutated(declaration: &'static Declaration, choose: impl FnOnce(&Mutation) -> Option<String>) -> Option<String> {
    ACTIVE.with_borrow(|active| {
        let active = active.as_ref().filter(|active| std::ptr::eq(active.declaration, declaration))?;
        choose(active.mutation.as_ref()?)
    })
}

/// Returns whether `declaration` has a mistake.
#[cfg(feature = "emulator")]
pub(super) fn is_mutated(declaration: &'static Declaration) -> bool {
    mutated(declaration, |_| Some(String::new())).is_some()
}

/// Returns the Metal source of a launch.
pub(super) fn text(declaration: &'static Declaration, launch: &'static Launch) -> Cow<'static, str> {
    let mutated = mutated(declaration, |mutation| match mutation {
        Mutation::Text(text) => Some(text.clone()),
        _ => None,
    });
    mutated.map_or(Cow::Borrowed(launch.metal), Cow::Owned)
}

/// The headers of a launch.
pub(super) fn headers(declaration: &'static Declaration, launch: &'static Launch) -> String {
    let mutated = mutated(declaration, |mutation| match mutation {
        Mutation::Headers(text) => Some(text.clone()),
        _ => None,
    });
    mutated.unwrap_or_else(|| launch.headers.concat())
}

/// A Rust body runs until this is dropped.
pub(super) struct InBody(bool);

impl InBody {
    pub(super) fn new(declaration: &'static Declaration) -> Self {
        InBody(ACTIVE.with_borrow_mut(|active| {
            let Some(active) = active else { return false };
            // A body that this one calls is not the mutated one.
            active.calls.push(std::ptr::eq(active.declaration, declaration).then(Vec::new));
            true
        }))
    }
}

impl Drop for InBody {
    fn drop(&mut self) {
        if !self.0 {
            return;
        }
        ACTIVE.with_borrow_mut(|active| {
            let Some(active) = active else { return };
            let Some(Some(met)) = active.calls.pop() else { return };
            if met.len() > active.longest.len() {
                let twin = |number: usize| met[..number].iter().any(|earlier| alike(earlier, &met[number]));
                let of = |(number, array): (usize, &Array)| Met {
                    shape: array.shape().to_vec(),
                    dtype: Dtype::from_mlx(array.dtype()),
                    has_twin: twin(number),
                };
                active.longest = met.iter().enumerate().map(of).collect();
            }
        });
    }
}

fn alike(left: &Array, right: &Array) -> bool {
    left.shape() == right.shape() && left.dtype() == right.dtype()
}

/// Returns the array that a body gets instead of `array`, which it takes or computed.
pub(crate) fn met(array: Array) -> Array {
    // Where nothing is mutated, this costs one look at a thread-local.
    ACTIVE.with_borrow_mut(|active| {
        let Some(Active { mutation, calls, .. }) = active else { return array };
        let Some(Some(before)) = calls.last_mut() else { return array };
        if !Dtype::from_mlx(array.dtype()).is_float() {
            return array;
        }
        let number = before.len();
        before.push(array.clone());
        match mutation {
            Some(Mutation::Operation { number: mutated, change }) if *mutated == number => {
                let twin = before[..number].iter().rev().find(|earlier| alike(earlier, &array)).cloned();
                changed(&array, *change, twin).unwrap_or(array)
            }
            _ => array,
        }
    })
}

fn changed(array: &Array, change: Change, twin: Option<Array>) -> Result<Array> {
    let operation = "mutation";
    match change {
        Change::Negated => array.negative().during(operation),
        Change::Doubled => array.add(array).during(operation),
        Change::Dropped => mlx_rs::ops::zeros_like(array).during(operation),
        Change::Swapped => Ok(twin.unwrap_or_else(|| array.clone())),
    }
}
