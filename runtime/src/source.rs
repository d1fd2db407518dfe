//! The parameter that a tensor was computed from, which messages about the tensor name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// The name of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source(u32);

/// Every name that was met, once.
#[derive(Default)]
struct Names {
    numbers: BTreeMap<String, u32>,
    names: Vec<String>,
}

static NAMES: Mutex<Names> = Mutex::new(Names { numbers: BTreeMap::new(), names: Vec::new() });

impl Source {
    /// The parameter of this full name; a tree that is one tensor has none.
    pub(crate) fn named(name: &str) -> Option<Self> {
        if name.is_empty() {
            return None;
        }
        let mut known = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = known.numbers.get(name) {
            return Some(Source(*number));
        }
        let number = u32::try_from(known.names.len()).ok()?;
        known.names.push(name.to_owned());
        known.numbers.insert(name.to_owned(), number);
        Some(Source(number))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        let name = known.names.get(self.0 as usize).map_or("", String::as_str);
        write!(f, "`{name}`")
    }
}
