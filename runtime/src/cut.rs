//! Records of the places at which a training graph stops a gradient on purpose.

use std::cell::RefCell;
use std::fmt;
use std::panic::Location;

use mlx_rs::Array;

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::mode::Graph;
use crate::session::Session;
use crate::tensor::{Origin, Tensor};

/// A place at which a training graph stops a gradient, or has one that nothing checks, because its author said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The kind of operation that stopped the gradient.
    pub kind: CutKind,
    /// The author's reason, where one was given.
    pub reason: String,
    /// The file and line of the source that asked for it.
    pub place: (&'static str, u32),
    /// The part of the model that the driver was in, such as `layers.3`; empty outside [`train_stack`](crate::train_stack).
    pub part: String,
    /// The shape of what was cut.
    pub shape: Vec<i32>,
    /// The dtype of what was cut.
    pub dtype: Dtype,
    /// Whether a parameter that trains had a part in what was cut; if not, nothing was lost.
    pub needed_gradient: bool,
}

/// The kinds of operation that stop a gradient or leave it unchecked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum CutKind {
    /// [`Tensor::detach`].
    Detach,
    /// An operation whose result is discrete, of something that a parameter has a part in: [`Tensor::argmax`],
    /// [`Tensor::greater`], [`Tensor::floor`], [`Tensor::is_finite`].
    Discrete,
    /// [`Indices::to_constant`](crate::Indices::to_constant).
    IndicesAsData,
    /// [`Constant::from_stored`](crate::Constant::from_stored) inside a training graph, or of a tensor that trains there.
    StoredAsData,
    /// An output whose cotangent the kernel's backward leaves out: `ignores(..)`.
    IgnoredOutput,
    /// A kernel whose gradient no generated test checks: `untested = ".."`.
    Untested,
    /// A gradient that is not the derivative, on purpose: `#[differs(..)]`.
    DifferingGradient,
    /// An input whose values are checked in a range only, because there are no others: `#[values(.., only = ..)]`.
    Domain,
}

impl fmt::Display for CutKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CutKind::Detach => "detach",
            CutKind::Discrete => "discrete",
            CutKind::IndicesAsData => "indices as data",
            CutKind::StoredAsData => "stored tensor as data",
            CutKind::IgnoredOutput => "ignored output",
            CutKind::Untested => "untested kernel",
            CutKind::DifferingGradient => "differing gradient",
            CutKind::Domain => "domain",
        })
    }
}

/// The records of the innermost recording of this thread.
#[derive(Default)]
struct Recording {
    cuts: Vec<Cut>,
    part: String,
    /// Bodies that run without gradients, and recomputations, cut nothing.
    paused: usize,
}

thread_local! {
    // A training graph never leaves its thread, so recordings of different threads cannot mix.
    static RECORDING: RefCell<Option<Recording>> = const { RefCell::new(None) };
}

fn with_recording(change: impl FnOnce(&mut Recording)) {
    RECORDING.with_borrow_mut(|recording| recording.as_mut().map(change));
}

impl Session {
    /// Runs `drive`, which runs drivers, and returns with its result every cut that their training graphs met, in the
    /// order in which they were met.
    ///
    /// A driver that runs a block twice meets its cuts twice: once without a gradient, once with it.
    pub fn record_cuts<T>(&mut self, drive: impl FnOnce(&mut Session) -> T) -> (T, Vec<Cut>) {
        /// Puts the outer recording back, also when `drive` panics.
        struct Restore(Option<Recording>);
        impl Drop for Restore {
            fn drop(&mut self) {
                RECORDING.set(self.0.take());
            }
        }
        let outer = Restore(RECORDING.replace(Some(Recording::default())));
        let result = drive(self);
        let recording = RECORDING.take().unwrap_or_default();
        drop(outer);
        // What an inner recording finds belongs to the outer one as well.
        with_recording(|outer| outer.cuts.extend(recording.cuts.iter().cloned()));
        (result, recording.cuts)
    }
}

/// Names the part of the model that a driver runs until this is dropped.
pub(crate) struct Part(String);

impl Part {
    pub(crate) fn enter(name: &str) -> Self {
        let mut outer = String::new();
        with_recording(|recording| outer = std::mem::replace(&mut recording.part, name.to_owned()));
        Part(outer)
    }

    /// Goes on to another part.
    pub(crate) fn change(&mut self, name: &str) {
        with_recording(|recording| name.clone_into(&mut recording.part));
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        with_recording(|recording| recording.part = std::mem::take(&mut self.0));
    }
}

/// A pause of the recording of cuts, which ends when this is dropped.
pub(crate) struct Pause(());

impl Pause {
    pub(crate) fn new() -> Self {
        with_recording(|recording| recording.paused += 1);
        Pause(())
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        with_recording(|recording| recording.paused = recording.paused.saturating_sub(1));
    }
}

/// Checks that somebody said why `operation` may cut a gradient.
///
/// # Errors
/// [`Error::Refused`] for an empty reason.
#[track_caller]
pub(crate) fn require_reason(operation: &'static str, reason: &str) -> Result<()> {
    if !reason.trim().is_empty() {
        return Ok(());
    }
    let place = Location::caller();
    Err(Error::Refused {
        operation,
        message: format!(
            "found an empty reason at {}:{}, expected why no gradient is wanted there: the audit shows it",
            place.file(),
            place.line()
        ),
        code: "C09",
    })
}

/// Notes that `of` was cut, if its graph trains and somebody records.
#[track_caller]
pub(crate) fn note<M: Graph>(kind: CutKind, reason: &str, of: &Tensor<M>) {
    note_of::<M>(kind, reason, of.array(), of.origin());
}

/// Records a cut as [`note`] does, for an array of this origin.
#[track_caller]
pub(crate) fn note_of<M: Graph>(kind: CutKind, reason: &str, array: &Array, origin: Origin) {
    // A discrete result of something without a gradient, such as a position, cuts nothing.
    let is_cut = origin.needs_gradient || kind != CutKind::Discrete;
    if M::TRAINING && is_cut {
        let place = Location::caller();
        note_at((place.file(), place.line()), kind, reason, array, origin.needs_gradient);
    }
}

/// Records a cut at `place` as [`note`] does, for any array.
pub(crate) fn note_at(place: (&'static str, u32), kind: CutKind, reason: &str, array: &Array, needed_gradient: bool) {
    with_recording(|recording| {
        if recording.paused == 0 {
            recording.cuts.push(Cut {
                kind,
                reason: reason.to_owned(),
                place,
                part: recording.part.clone(),
                shape: array.shape().to_vec(),
                dtype: Dtype::from_mlx(array.dtype()),
                needed_gradient,
            });
        }
    });
}
