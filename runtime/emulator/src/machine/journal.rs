//! The journal of what was seen, before places become lines.

use std::collections::BTreeMap;

use crate::{Action, FindingKind};
use cotangent_metal::translate::MACROS;

/// A place in the compiled kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A place outside the text.
    Nowhere,
    /// A return address, as an offset into the image.
    Code(usize),
    /// The number of a barrier or simdgroup operation.
    Site(u32),
}

impl Place {
    /// Returns the place of a site. All uses of a macro share it.
    pub fn site(number: u32) -> Self {
        Place::Site(number % MACROS)
    }
}

/// A thread: the number of its threadgroup and its index in it.
pub(crate) type ThreadNumber = (u32, u32);

/// Something seen, once or often.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub kind: FindingKind,
    pub subject: Option<String>,
    pub element: Option<i64>,
    pub side: Option<(Action, Place, ThreadNumber)>,
    pub other: Option<(Action, Place, ThreadNumber)>,
    pub message: String,
    pub advice: String,
    pub count: u64,
}

/// The entries of one worker; the same entry at the same place is kept once.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: BTreeMap<(FindingKind, Place, Place, u32), Entry>,
}

impl Journal {
    /// Adds what `entry` describes, unless the same kind of thing was seen there with the same object; then counts it.
    pub fn add(&mut self, kind: FindingKind, at: Place, other: Place, object: u32, entry: impl FnOnce() -> Entry) {
        self.entries.entry((kind, at, other, object)).and_modify(|e| e.count += 1).or_insert_with(entry);
    }

    /// Forgets what was seen of this kind at this place.
    pub fn forget(&mut self, kind: FindingKind, at: Place) {
        self.entries.retain(|(k, place, ..), _| (*k, *place) != (kind, at));
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns whether anything of this kind was seen.
    pub fn has(&self, kind: FindingKind) -> bool {
        self.entries.keys().any(|(k, ..)| *k == kind)
    }

    /// Returns whether this was seen at this place.
    pub fn has_at(&self, kind: FindingKind, at: Place) -> bool {
        self.entries.keys().any(|(k, place, ..)| (*k, *place) == (kind, at))
    }

    pub fn into_entries(self) -> impl Iterator<Item = Entry> {
        self.entries.into_values()
    }
}
