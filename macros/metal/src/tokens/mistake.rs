//! What no compiler of Metal accepts, or accepts as something else than it looks like.

use super::token::Place;

/// A mistake in a source that shows without its declaration.
#[derive(Debug, Clone)]
pub struct Mistake {
    /// The place of the mistake.
    pub place: Place,
    /// What is wrong, as a message says it.
    pub found: String,
    /// What to write instead; it starts with a verb.
    pub help: String,
    /// Whether a macro or function of a header could make it right.
    pub is_open: bool,
}

impl Mistake {
    /// A mistake whatever headers declare.
    pub(super) fn new(place: Place, found: impl Into<String>, help: impl Into<String>) -> Self {
        Self { place, found: found.into(), help: help.into(), is_open: false }
    }

    /// A mistake unless a header declares something of that name.
    pub(super) fn without_headers(place: Place, found: impl Into<String>, help: impl Into<String>) -> Self {
        Self { is_open: true, ..Self::new(place, found, help) }
    }
}
