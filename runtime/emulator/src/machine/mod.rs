//! The machine that runs a compiled kernel: threads as coroutines, simdgroups, threadgroups, memory that is watched.

mod context;
mod dispatch;
mod faults;
mod hooks;
mod journal;
mod memory;
mod notes;
mod order;
mod placement;
mod shadow;
mod stacks;
mod threadgroup;
mod worker;

pub(crate) use context::Attributes;
pub(crate) use dispatch::{Dispatch, Geometry};
pub(crate) use journal::{Entry, Place};
pub(crate) use memory::{Arena, Contents};
pub(crate) use placement::Placement;
pub(crate) use stacks::StackPool;
