//! A worker: one thread of the system that runs threadgroups, one after the other.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::sync::atomic::Ordering;

use super::context::{Attributes, Combine, Lane, Private, Shared, Stop, context_address};
use super::dispatch::Dispatch;
use super::faults;
use super::hooks;
use super::journal::{Entry, Journal, Place};
use super::memory::ThreadgroupMemory;
use super::shadow::Moment;
use super::stacks::{StackPool, Stacks};
use crate::FindingKind;

/// Turns of loops left to threads once one of the launch has made all that it may.
const TURNS_ONCE_SPENT: u32 = 1 << 10;

/// Barriers passed so far, by memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Epochs {
    pub device: u16,
    pub threadgroup: u16,
    pub any: u16,
}

/// A collective that all its lanes have reached. The first lane to go on computes the results of all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Release {
    pub combine: Combine,
    pub operands: [*mut c_void; 32],
    pub present: u32,
}

/// A simdgroup of the threadgroup that runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Simdgroup {
    pub epochs: Epochs,
    pub releases: Vec<Release>,
}

/// The state with which one thread of the system runs threadgroups. Hooks reach it while it runs them, so its fields
/// are cells.
pub(crate) struct Worker<'d> {
    pub dispatch: &'d Dispatch<'d>,
    pub stacks: Stacks,
    pub attributes: Vec<Cell<Attributes>>,
    pub memory: RefCell<ThreadgroupMemory>,
    pub journal: RefCell<Journal>,
    /// The number of the threadgroup that runs.
    pub group: Cell<u32>,
    /// Threads in it.
    pub threads: Cell<usize>,
    pub epochs: Cell<Epochs>,
    pub simdgroups: RefCell<Vec<Simdgroup>>,
    /// The releases of the running simdgroup that still need to be computed, a bit each.
    pub undone: Cell<u32>,
    /// A thread of the simdgroup that runs has let others go first, and can go on.
    pub yielded: Cell<bool>,
    /// A thread of this threadgroup was stopped for good, so missing threads are not reported.
    pub trapped: Cell<bool>,
}

impl<'d> Worker<'d> {
    pub fn new(dispatch: &'d Dispatch<'d>, pool: &StackPool) -> Self {
        let threads = dispatch.geometry.threads_per_threadgroup();
        Worker {
            dispatch,
            stacks: pool.take(threads),
            attributes: vec![Cell::default(); threads],
            memory: RefCell::new(ThreadgroupMemory::new()),
            journal: RefCell::default(),
            group: Cell::new(0),
            threads: Cell::new(0),
            epochs: Cell::default(),
            simdgroups: RefCell::new(vec![Simdgroup::default(); threads.div_ceil(32)]),
            undone: Cell::new(0),
            yielded: Cell::new(false),
            trapped: Cell::new(false),
        }
    }

    /// Runs threadgroups until none is left.
    pub fn run_all(&self) {
        for i in 0..self.dispatch.geometry.threads_per_threadgroup() {
            let lane = self.new_lane(i);
            // SAFETY: inside stack `i`, above where its coroutine will begin, and aligned.
            unsafe { self.lane(i).write(lane) };
        }
        while let Some(number) = self.dispatch.next_threadgroup() {
            self.run_threadgroup(number);
            if self.dispatch.parallel && !self.journal.borrow().is_empty() {
                self.dispatch.abandoned.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Forgets which bytes of a thread's stack nothing has set.
    pub fn forget_unset(&self, i: usize) {
        let lane = self.lane(i);
        // SAFETY: a context that this worker has written, of a thread that does not run.
        let (begin, end) = unsafe { ((*lane).shared.unset_begin, (*lane).shared.unset_end) };
        if begin < end {
            self.stacks.forget_unset(i, begin, end);
            // SAFETY: as above.
            unsafe { ((*lane).shared.unset_begin, (*lane).shared.unset_end) = (usize::MAX, 0) };
        }
    }

    /// Ends the worker, and returns the journal of what was seen.
    pub fn finish(self, pool: &StackPool) -> Journal {
        (0..self.dispatch.geometry.threads_per_threadgroup()).for_each(|i| self.forget_unset(i));
        pool.give_back(self.stacks);
        self.journal.into_inner()
    }

    /// The context of thread `i`.
    pub fn lane(&self, i: usize) -> *mut Lane {
        context_address(self.stacks.start(i)) as *mut Lane
    }

    fn new_lane(&self, i: usize) -> Lane {
        let arena = self.dispatch.arena;
        Lane {
            shared: Shared {
                device_begin: arena.address() as *const u8,
                device_bytes: arena.bytes() as u64,
                extents: arena.extents.as_ptr(),
                extent_of_page: arena.extent_of_page.as_ptr(),
                access: hooks::access,
                collective: hooks::collective,
                barrier: hooks::barrier,
                threadgroup_array: hooks::threadgroup_array,
                fault: faults::fault,
                endless: hooks::endless,
                lane: i as u32 % 32,
                turns: 0,
                path: 0,
                unset_begin: usize::MAX,
                unset_end: 0,
                privates: [Private { at: 0, bytes: 0, name: std::ptr::null() }; 8],
            },
            worker: std::ptr::from_ref(self).cast(),
            yielder: std::ptr::null(),
            stop: Stop::Ready,
            pending: None,
            index: i as u32,
            release: 0,
            atomics: 0,
            saw_nan: false,
            cause: None,
            staying: (0, 0),
            yields: 0,
        }
    }

    /// Leaves the threads of this threadgroup few turns: one of them makes no progress, and the others would wait for ever.
    pub fn spend_turns(&self) {
        for i in 0..self.threads.get() {
            let lane = self.lane(i);
            // SAFETY: a context that this worker has written; its field is no part of any reference.
            unsafe { (*lane).shared.turns = (*lane).shared.turns.min(TURNS_ONCE_SPENT) };
        }
    }

    /// The turns of a thread that begins.
    pub fn first_turns(&self) -> u32 {
        let known = self.journal.borrow().has(FindingKind::NoProgress);
        if known { TURNS_ONCE_SPENT.min(self.dispatch.turns) } else { self.dispatch.turns }
    }

    /// The moment of thread `index` for device or threadgroup memory.
    pub fn moment(&self, index: u32, device: bool) -> Moment {
        let own = self.simdgroups.borrow()[index as usize / 32].epochs;
        let all = self.epochs.get();
        let (epoch, simdgroup_epoch) =
            if device { (all.device, own.device) } else { (all.threadgroup, own.threadgroup) };
        let barriers = all.any.wrapping_add(own.any);
        Moment { group: self.group.get() + 1, index: index as u16, epoch, simdgroup_epoch, barriers }
    }

    /// Notes something seen at `at` when thread `index` did it; `object` tells apart what else would be the same. What a
    /// thread does after its first finding follows from it, and is not reported.
    pub fn note(
        &self,
        index: u32,
        (kind, at): (FindingKind, Place),
        other: Place,
        object: u32,
        entry: impl FnOnce() -> Entry,
    ) {
        if kind.is_note() {
            return self.journal.borrow_mut().add(kind, at, other, object, entry);
        }
        let lane = self.lane(index as usize);
        // SAFETY: a context that this worker has written; its field is no part of any reference.
        let cause = unsafe { (*lane).cause.get_or_insert((kind, at)) };
        if *cause == (kind, at) {
            self.journal.borrow_mut().add(kind, at, other, object, entry);
        }
    }

    /// A return address as an offset into the image.
    pub fn code(&self, pc: usize) -> Place {
        Place::Code(pc.wrapping_sub(self.dispatch.image.begin))
    }
}
