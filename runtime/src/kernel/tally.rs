//! Which kernels this process ran, and for which their fallbacks: so that a test of a whole model, or a person who wonders
//! about a speed, need not guess.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How often a kernel was called, by what ran. Calls are counted as graphs are built; a compiled graph runs again without
/// being counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// The kernel's own body; for a backward or a stage as well.
    pub kernel: u64,
    /// The fallback, or its gradient.
    pub fallback: u64,
}

static CALLS: Mutex<BTreeMap<&'static str, Calls>> = Mutex::new(BTreeMap::new());

/// The calls of each kernel so far, by name.
pub fn calls() -> BTreeMap<&'static str, Calls> {
    CALLS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

pub(super) fn count(kernel: &'static str, add: impl FnOnce(&mut Calls)) {
    add(CALLS.lock().unwrap_or_else(PoisonError::into_inner).entry(kernel).or_default());
}
