//! The identity of evaluated tensors. Neither names nor memory identify them, because views may share memory.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

/// The identity of a tensor: its parameter, and its value. A clone shares both with its original. An optimizer's step
/// or a cast makes another value of the same parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    value: NonZeroU64,
    parameter: NonZeroU64,
}

fn next() -> NonZeroU64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NonZeroU64::new(NEXT.fetch_add(1, Ordering::Relaxed)).expect("fewer tensors than 64 bits count")
}

impl Identity {
    /// A tensor that nothing is known of.
    pub(crate) fn fresh() -> Self {
        let value = next();
        Identity { value, parameter: value }
    }

    /// Another value of the same parameter.
    pub(crate) fn stepped(self) -> Self {
        Identity { value: next(), ..self }
    }

    /// Returns whether both are values of one parameter.
    pub(crate) fn is_of_same_parameter(self, other: Identity) -> bool {
        self.parameter == other.parameter
    }
}
