//! The defects that the emulator finds in a kernel.

use std::fmt;

use crate::Location;

/// The kinds of defects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FindingKind {
    /// Two threads touch one element, one of them writes, and nothing orders them.
    DataRace,
    /// An access outside every buffer, or outside the buffer or array it was meant for.
    OutOfBounds,
    /// A read of memory, or of a private variable, that nothing has written.
    UninitialisedRead,
    /// Elements of an output that no thread wrote.
    UnwrittenOutput,
    /// A threadgroup barrier that only some threads of the threadgroup reach.
    DivergentBarrier,
    /// A simdgroup or quadgroup operation that only some lanes reach.
    DivergentSimd,
    /// A value taken from a lane that is not there.
    AbsentLane,
    /// The first NaN that does not come from the inputs.
    NanBorn,
    /// Arithmetic without a defined result: integer division by zero, signed overflow, a float that becomes an integer which
    /// cannot hold it.
    UndefinedArithmetic,
    /// An index, or a distance that a pointer moves, whose unsigned arithmetic has wrapped around.
    WrappedIndex,
    /// A loop that does not end, or a thread that waits for another one without a barrier, so that neither may go on.
    NoProgress,
    /// A pointer to a type that its memory is not aligned for.
    Misaligned,
    /// Memory that two buffers share is read after it was written.
    SharedMemory,
    /// An input with strides of its own, in a kernel that reads it as if it lay row by row.
    IgnoredStrides,
    /// More threads, memory or buffers than Metal allows.
    Limit,
    /// A finite float that becomes infinite in `half`. A note: it may be meant.
    BecomesInfinite,
    /// A sum in `half` or `bfloat` that no longer changes. A note, as above.
    SumStays,
}

impl FindingKind {
    /// Returns whether what was seen may be meant: notes do not make a run unclean.
    pub fn is_note(self) -> bool {
        matches!(self, FindingKind::BecomesInfinite | FindingKind::SumStays)
    }

    /// The kind in words.
    pub fn title(self) -> &'static str {
        match self {
            FindingKind::DataRace => "data race",
            FindingKind::OutOfBounds => "out of bounds",
            FindingKind::UninitialisedRead => "read of uninitialised memory",
            FindingKind::UnwrittenOutput => "output never written",
            FindingKind::DivergentBarrier => "divergent barrier",
            FindingKind::DivergentSimd => "divergent simdgroup operation",
            FindingKind::AbsentLane => "value from an absent lane",
            FindingKind::NanBorn => "first NaN",
            FindingKind::UndefinedArithmetic => "undefined arithmetic",
            FindingKind::WrappedIndex => "wrapped index",
            FindingKind::NoProgress => "no progress",
            FindingKind::Misaligned => "misaligned access",
            FindingKind::SharedMemory => "memory shared by buffers",
            FindingKind::IgnoredStrides => "strides ignored",
            FindingKind::BecomesInfinite => "becomes infinite",
            FindingKind::SumStays => "sum no longer changes",
            FindingKind::Limit => "beyond Metal's limits",
        }
    }
}

/// A thread of the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Thread {
    /// `threadgroup_position_in_grid`
    pub threadgroup: [u32; 3],
    /// `thread_position_in_threadgroup`
    pub position: [u32; 3],
    /// `thread_index_in_threadgroup`
    pub index: u32,
}

impl Thread {
    /// `simdgroup_index_in_threadgroup`
    pub fn simdgroup(&self) -> u32 {
        self.index / 32
    }

    /// `thread_index_in_simdgroup`
    pub fn lane(&self) -> u32 {
        self.index % 32
    }
}

impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.position;
        let [a, b, c] = self.threadgroup;
        write!(f, "thread ({x}, {y}, {z}) of threadgroup ({a}, {b}, {c})")
    }
}

/// The action of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// A load.
    Read,
    /// A store.
    Write,
    /// Any atomic operation.
    Atomic,
    /// A barrier, or a simdgroup or quadgroup operation.
    Synchronise,
    /// A further turn of a loop.
    Loop,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Read => "read",
            Action::Write => "write",
            Action::Atomic => "atomic operation",
            Action::Synchronise => "synchronisation",
            Action::Loop => "loop",
        })
    }
}

/// One thread's part in a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// The thread's action.
    pub action: Action,
    /// The place in the source; `None` if the compiler left no trace of it.
    pub at: Option<Location>,
    /// The thread that did it.
    pub thread: Thread,
}

/// A defect, as it was first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The kind of defect.
    pub kind: FindingKind,
    /// The port, threadgroup array or operation concerned.
    pub subject: Option<String>,
    /// The element of `subject`, counted in its own element type; negative in front of its start.
    pub element: Option<i64>,
    /// The place in the source of a defect that no thread caused; otherwise `side` has the place.
    pub place: Option<Location>,
    /// The access in which the defect was seen.
    pub side: Option<Side>,
    /// The thread it collided with.
    pub other: Option<Side>,
    /// The finding in one sentence.
    pub message: String,
    /// The remedy in one sentence that starts with a verb.
    pub advice: String,
    /// The number of times that the same defect was seen at the same place.
    pub count: u64,
}

impl Finding {
    /// Returns the place in the source at which the defect was seen.
    pub fn at(&self) -> Option<&Location> {
        self.place.as_ref().or_else(|| self.side.as_ref().and_then(|s| s.at.as_ref()))
    }

    /// Returns the place in the source of the other thread in a collision.
    pub fn other_at(&self) -> Option<&Location> {
        self.other.as_ref().and_then(|s| s.at.as_ref())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.title(), self.message)?;
        if let Some(place) = &self.place {
            write!(f, "\n    at {place}")?;
        }
        for (label, side) in [("at", &self.side), ("and", &self.other)] {
            if let Some(side) = side {
                let at = side.at.as_ref().map_or_else(|| "unknown place".into(), Location::to_string);
                write!(f, "\n  {label:>4} {at}: {} by {}", side.action, side.thread)?;
            }
        }
        write!(f, "\n  help: {}", self.advice)?;
        if self.count > 1 {
            write!(f, "\n  seen {} times", self.count)?;
        }
        Ok(())
    }
}
