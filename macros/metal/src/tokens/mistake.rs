//! Code that no compiler of Metal accepts, or that it accepts with another meaning than it seems to have.

use super::token::Place;

/// A mistake that can be found in a source without the kernel's declaration.
#[derive(Debug, Clone)]
pub struct Mistake {
    /// The place of the mistake.
    pub place: Place,
    /// What is wrong, as a message says it.
    pub found: String,
    /// What to write instead; it starts with a verb.
    pub help: String,
    /// Whether a macro or function of a header could make the code correct.
    pub is_open: bool,
}

impl Mistake {
    /// Returns a mistake that no header can make correct.
    pub(super) fn new(place: Place, found: impl Into<String>, help: impl Into<String>) -> Self {
        Self { place, found: found.into(), help: help.into(), is_open: false }
    }

    /// Returns a mistake that counts only in a source without headers, because a header could make the code correct.
    pub(super) fn without_headers(place: Place, found: impl Into<String>, help: impl Into<String>) -> Self {
        Self { is_open: true, ..Self::new(place, found, help) }
    }
}
