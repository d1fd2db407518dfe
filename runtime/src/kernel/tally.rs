//! Counts of the kernels and fallbacks that this process ran, for tests of whole models and for questions about speed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The numbers of calls of a kernel, by what ran. Calls are counted when graphs are built; a compiled graph that runs
/// again is not counted.
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
