//! The structures that Rust and the compiled kernel share. `shim/host.h` declares the same.

use std::ffi::{c_char, c_void};

use corosensei::Yielder;

use super::journal::Place;
use super::worker::Worker;
use crate::FindingKind;

/// Every stack begins at a multiple of its size, so that any stack address leads to the thread's context.
pub(crate) const STACK_SHIFT: usize = 18;
pub(crate) const STACK_BYTES: usize = 1 << STACK_SHIFT;
/// Contexts of neighbouring stacks lie at different offsets: at equal ones they would fight for the same cache lines.
const COLOURS: usize = 64;
const COLOUR_BYTES: usize = 832;
const TOP_BYTES: usize = 640;
/// The bytes at the bottom of each stack that hold a bit for each of its bytes: whether the byte belongs to a variable
/// that nothing has set.
pub(crate) const UNSET_BYTES: usize = STACK_BYTES / 8;

/// Buffers are aligned to pages of this many bytes, so that a page belongs to one buffer at most.
pub(crate) const PAGE_SHIFT: usize = 16;
pub(crate) const PAGE: usize = 1 << PAGE_SHIFT;

/// Bits of an access's kind.
pub(crate) const WRITES: u32 = 1;
pub(crate) const ATOMIC: u32 = 2;
pub(crate) const UPDATES: u32 = 4;

/// The width of a collective, and whether lanes may be missing without a finding.
pub(crate) const WIDTH_MASK: u32 = 0xff;
pub(crate) const DIVERGENCE_ALLOWED: u32 = 0x100;

/// `simdgroup_barrier` and `threadgroup_barrier` flags.
pub(crate) const MEM_DEVICE: u32 = 1;
pub(crate) const MEM_THREADGROUP: u32 = 2;

/// Computes the results of all lanes of a collective from their operands; absent lanes are null and not in the mask.
pub(crate) type Combine = unsafe extern "C" fn(*const *mut c_void, u32);

/// A buffer of device memory as the kernel's fast path sees it; offsets into the arena.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extent {
    pub begin: u64,
    pub end: u64,
    /// A flag that is not zero if reads inside need no further check.
    pub read_freely: u64,
}

/// The part of a thread's context that compiled code knows.
#[repr(C)]
pub(crate) struct Shared {
    pub device_begin: *const u8,
    pub device_bytes: u64,
    pub extents: *const Extent,
    pub extent_of_page: *const u16,
    pub access: unsafe extern "C" fn(*mut Lane, *const u8, u64, u32, *const u8),
    pub collective: unsafe extern "C" fn(*mut Lane, *mut c_void, Combine, u32, u32),
    pub barrier: unsafe extern "C" fn(*mut Lane, u32, u32, u32),
    pub threadgroup_array: unsafe extern "C" fn(*mut Lane, u32, u64, u64, u32, *const c_char) -> *mut c_void,
    pub fault: unsafe extern "C" fn(*mut Lane, u32, i64, i64, u32, *const u8),
    pub endless: unsafe extern "C" fn(*mut Lane, *const u8),
    pub lane: u32,
    /// Turns of loops that are left to it.
    pub turns: u32,
    /// The calls of helpers that the thread is in.
    pub path: u32,
    /// The addresses of its stack between which there may be bytes that nothing has set.
    pub unset_begin: usize,
    pub unset_end: usize,
    /// Variables without a value, each in the place that its address gives it.
    pub privates: [Private; 8],
}

/// A private variable that was declared without a value.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Private {
    pub at: usize,
    pub bytes: usize,
    /// A string of the image.
    pub name: *const c_char,
}

impl Shared {
    /// The variable at an address, if it is still known.
    pub fn private_at(&self, address: usize) -> Option<Private> {
        self.privates.into_iter().find(|p| !p.name.is_null() && address.wrapping_sub(p.at) < p.bytes)
    }
}

/// A place at which threads meet: an operation in the source, and the calls of helpers that led there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Meeting {
    pub site: u32,
    pub path: u32,
}

/// The reason why a thread does not run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// The thread can run.
    Ready,
    /// The thread waits for its simdgroup or quadgroup.
    Collective { operand: *mut c_void, combine: Combine, meeting: Meeting, width: u32, may_diverge: bool },
    /// The thread waits at a barrier.
    Barrier { meeting: Meeting, flags: u32, simdgroup_only: bool },
    /// The thread was about to do something that must not happen; it is never resumed.
    Trapped,
    /// The thread has returned.
    Finished,
}

/// The latest store of a thread, looked at when it has happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingStore {
    pub address: usize,
    pub bytes: usize,
    pub pc: usize,
    /// Whether a read has been announced since.
    pub read_since: bool,
}

/// A thread's context, in its own stack.
#[repr(C)]
pub(crate) struct Lane {
    pub shared: Shared,
    pub worker: *const Worker<'static>,
    pub yielder: *const Yielder<(), ()>,
    pub stop: Stop,
    pub pending: Option<PendingStore>,
    /// Index in the threadgroup.
    pub index: u32,
    /// The number of the simdgroup's finished collective that the thread takes its result from.
    pub release: u32,
    /// Atomic operations since it last waited.
    pub atomics: u32,
    /// Whether the thread has met a NaN before, so that later ones are not reported.
    pub saw_nan: bool,
    /// The bits of a sum that did not change when it last added, and how often it did not.
    pub staying: (u32, u32),
    /// The number of times that the thread still lets others go first at an atomic operation.
    pub yields: u32,
    /// The first thing that was found wrong with it.
    pub cause: Option<(FindingKind, Place)>,
}

const _: () = assert!(size_of::<Lane>() <= TOP_BYTES);

/// Returns where the context of the stack that starts at `stack` lies; the stack itself begins there and grows down.
pub(crate) fn context_address(stack: usize) -> usize {
    let number = stack >> STACK_SHIFT;
    stack + STACK_BYTES - TOP_BYTES - (number % COLOURS) * COLOUR_BYTES
}

/// `uint3`
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Uint3 {
    xyz: [u32; 3],
    unused: u32,
}

impl From<[u32; 3]> for Uint3 {
    fn from(xyz: [u32; 3]) -> Self {
        Uint3 { xyz, unused: 0 }
    }
}

/// The values of Metal's attributes for one thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attributes {
    pub thread_position_in_grid: Uint3,
    pub thread_position_in_threadgroup: Uint3,
    pub threadgroup_position_in_grid: Uint3,
    pub threads_per_grid: Uint3,
    pub threads_per_threadgroup: Uint3,
    pub dispatch_threads_per_threadgroup: Uint3,
    pub threadgroups_per_grid: Uint3,
    pub grid_origin: Uint3,
    pub thread_index_in_threadgroup: u32,
    pub thread_index_in_simdgroup: u32,
    pub simdgroup_index_in_threadgroup: u32,
    pub simdgroups_per_threadgroup: u32,
    pub dispatch_simdgroups_per_threadgroup: u32,
    pub thread_index_in_quadgroup: u32,
    pub quadgroup_index_in_threadgroup: u32,
    pub quadgroups_per_threadgroup: u32,
    pub dispatch_quadgroups_per_threadgroup: u32,
    pub threads_per_simdgroup: u32,
}
