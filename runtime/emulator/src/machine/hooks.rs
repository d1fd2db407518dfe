//! The hooks that compiled kernels call: on every access that is not obviously harmless, and where threads meet. They
//! run on a thread's own stack. No value with a destructor may live across [`suspend`], because a stopped thread never
//! returns to it.

use std::ffi::{c_char, c_void};
use std::sync::atomic::Ordering;

use super::context::{
    ATOMIC, Combine, DIVERGENCE_ALLOWED, Lane, Meeting, PendingStore, Stop, UPDATES, WIDTH_MASK, WRITES,
};
use super::journal::{Entry, Place};
use super::notes::{note_endless, note_gap, note_nan, note_out_of_bounds, note_verdict, object};
use super::shadow::{Touch, Verdict};
use super::worker::Worker;
use crate::{Checks, Dtype, FindingKind};

/// Metal's limit on threadgroup memory, in bytes.
const THREADGROUP_MEMORY: usize = cotangent_metal::limits::MAX_THREADGROUP_BYTES as usize;
/// Turns of a loop that one atomic operation counts for.
const TURNS_OF_AN_ATOMIC: u32 = 16;
/// Atomic operations without waiting from which on a thread that does not end is said to wait for others.
const SPINNING: u32 = 1 << 10;

/// Goes back to the worker, and returns when the worker continues the thread.
///
/// # Safety
/// `lane` is the context of the running thread.
unsafe fn suspend(lane: *mut Lane, stop: Stop) {
    // SAFETY: the caller's promise; the yielder lives as long as the thread.
    unsafe {
        (*lane).stop = stop;
        (*(*lane).yielder).suspend(());
    }
}

/// Stops the thread for good.
///
/// # Safety
/// As for [`suspend`].
pub(super) unsafe fn trap(lane: *mut Lane) -> ! {
    // SAFETY: the caller's promise.
    unsafe {
        (*(*lane).worker).trapped.set(true);
        (*(*lane).worker).dispatch.stopped.store(true, Ordering::Relaxed);
        loop {
            suspend(lane, Stop::Trapped);
        }
    }
}

/// The worker that runs the thread.
///
/// # Safety
/// `lane` is a context that a worker has written.
pub(super) unsafe fn worker<'w>(lane: *mut Lane) -> &'w Worker<'static> {
    // SAFETY: the worker outlives its threads.
    unsafe { &*(*lane).worker }
}

/// A read or write, atomic or not.
///
/// # Safety
/// Called by the running kernel with its own context.
pub(crate) unsafe extern "C" fn access(lane: *mut Lane, address: *const u8, bytes: u64, kind: u32, pc: *const u8) {
    // SAFETY: the caller's promise.
    let worker = unsafe { worker(lane) };
    let (address, bytes, pc) = (address as usize, bytes as usize, pc as usize);
    let (writes, atomic) = (kind & WRITES != 0, kind & ATOMIC != 0);
    // SAFETY: as above; no reference to the context is kept.
    match unsafe { &mut (*lane).pending } {
        // A copy of a struct, such as `half`, announces its write, then its read, and happens after both.
        Some(store) if !writes && !store.read_since && store.address != address => store.read_since = true,
        _ => look_at_pending_store(lane),
    }
    let reads = !writes || kind & UPDATES != 0;
    let arena = worker.dispatch.arena;
    // SAFETY: as above; no reference to the context is kept.
    let index = unsafe { (*lane).index };
    let watched = worker.dispatch.checks == Checks::On;

    if atomic {
        // SAFETY: as above.
        unsafe {
            (*lane).atomics += 1;
            (*lane).shared.turns = (*lane).shared.turns.saturating_sub(TURNS_OF_AN_ATOMIC);
            if (*lane).yields > 0 {
                (*lane).yields -= 1;
                worker.yielded.set(true);
                suspend(lane, Stop::Ready);
            }
        }
    }
    let mut touch = Touch { atomic, pc: pc.wrapping_sub(worker.dispatch.image.begin) as u32, ..Touch::default() };
    let mut verdict;
    let mut is_float = false;
    if let Some((buffer, offset)) = arena.find(address, bytes) {
        if atomic && worker.dispatch.parallel {
            // Threadgroups must take turns here, because results would depend on which core is faster.
            worker.dispatch.abandoned.store(true, Ordering::Relaxed);
        }
        let found = &arena.buffers[buffer];
        is_float = found.dtype.is_float();
        if !watched {
            return;
        }
        if !found.writable {
            if writes {
                note_out_of_bounds(worker, index, address, bytes, kind, pc);
                // SAFETY: as above.
                unsafe { trap(lane) };
            }
            if let Some(placement) = &found.placement {
                let size = found.dtype.size();
                if let Some(gap) = placement.gap(offset / size..(offset + bytes).div_ceil(size)) {
                    note_gap(worker, index, pc, (buffer, &found.name), gap, placement);
                }
            }
            verdict = Verdict::default();
        } else {
            touch.moment = worker.moment(index, true);
            verdict = arena.touch(buffer, offset, bytes, touch, reads, writes);
        }
    } else if worker.memory.borrow().contains(address) {
        if !watched {
            return;
        }
        let group = worker.group.get() + 1;
        touch.moment = worker.moment(index, false);
        let found = {
            let mut memory = worker.memory.borrow_mut();
            memory.find(address, bytes).map(|(array, offset)| {
                is_float = array.dtype.is_some_and(Dtype::is_float);
                array.touch(group, offset, bytes, touch, reads, writes)
            })
        };
        let Some(found) = found else {
            note_out_of_bounds(worker, index, address, bytes, kind, pc);
            // SAFETY: as above.
            unsafe { trap(lane) };
        };
        verdict = found;
    } else {
        let image = worker.dispatch.image;
        let constant = address >= image.begin && address + bytes <= image.end && !writes;
        // Lanes of a collective exchange values through their stacks.
        if constant || worker.stacks.contains(address) {
            return;
        }
        note_out_of_bounds(worker, index, address, bytes, kind, pc);
        // SAFETY: as above.
        unsafe { trap(lane) };
    }
    // A thread that was stopped leaves elements unwritten, and reading them is no defect of its own.
    verdict.uninitialised &= !worker.trapped.get() && !worker.dispatch.stopped.load(Ordering::Relaxed);
    if verdict != Verdict::default() {
        note_verdict(worker, index, address, verdict, kind, touch);
    }
    if is_float {
        if reads {
            // SAFETY: the access is inside a buffer, and this thread alone runs.
            let nan = verdict.uninitialised || unsafe { any_element(worker, address, bytes, Dtype::is_nan) };
            // SAFETY: as above.
            unsafe { (*lane).saw_nan |= nan };
        }
        if writes {
            // SAFETY: as above.
            unsafe { (*lane).pending = Some(PendingStore { address, bytes, pc, read_since: false }) };
        }
    }
}

/// The elements of these bytes, which belong to one buffer or array of floats.
///
/// # Safety
/// The bytes lie inside a buffer or array, and no other thread writes them.
unsafe fn any_element(worker: &Worker<'_>, address: usize, bytes: usize, wanted: fn(Dtype, &[u8]) -> bool) -> bool {
    let dtype = match worker.dispatch.arena.find(address, bytes) {
        Some((buffer, _)) => Some(worker.dispatch.arena.buffers[buffer].dtype),
        None => worker.memory.borrow_mut().find(address, bytes).and_then(|(array, _)| array.dtype),
    };
    // SAFETY: the caller's promise.
    let memory = unsafe { std::slice::from_raw_parts(address as *const u8, bytes) };
    dtype.is_some_and(|d| memory.chunks_exact(d.size()).any(|element| wanted(d, element)))
}

/// Looks at what the thread stored last: a NaN that no NaN led to is news, once a launch.
pub(crate) fn look_at_pending_store(lane: *mut Lane) {
    // SAFETY: called for a thread that runs or has just ended, by its worker; the store was inside a buffer.
    let (worker, store, index) = unsafe {
        let Some(store) = (*lane).pending.take() else { return };
        let worker = worker(lane);
        if (*lane).saw_nan || !any_element(worker, store.address, store.bytes, Dtype::is_nan) {
            return;
        }
        (*lane).saw_nan = true;
        (worker, store, (*lane).index)
    };
    let at = worker.code(store.pc);
    let Some(object) = object(worker, store.address) else { return };
    note_nan(worker, index, at, Some((object.name.as_str(), object.element())));
}

/// Waits for the simdgroup or quadgroup, and has the results computed if this lane is the first to go on.
///
/// # Safety
/// Called by the running kernel with its own context.
pub(crate) unsafe extern "C" fn collective(
    lane: *mut Lane,
    operand: *mut c_void,
    combine: Combine,
    site: u32,
    width: u32,
) {
    look_at_pending_store(lane);
    let may_diverge = width & DIVERGENCE_ALLOWED != 0;
    // SAFETY: the caller's promise.
    let meeting = unsafe { Meeting { site, path: (*lane).shared.path } };
    // SAFETY: as above.
    unsafe { suspend(lane, Stop::Collective { operand, combine, meeting, width: width & WIDTH_MASK, may_diverge }) };
    // SAFETY: as above.
    let (worker, token) = unsafe { (worker(lane), (*lane).release) };
    let undone = worker.undone.get();
    if undone >> token & 1 == 0 {
        return;
    }
    worker.undone.set(undone & !(1 << token));
    // SAFETY: as above.
    let simdgroup = unsafe { (*lane).index as usize / 32 };
    let release = worker.simdgroups.borrow()[simdgroup].releases[token as usize];
    // SAFETY: all operands are of one call in the text, and so of the type that its `combine` expects, and lie in the
    // stacks of threads that wait.
    unsafe { (release.combine)(release.operands.as_ptr(), release.present) };
}

/// Waits at a barrier.
///
/// # Safety
/// Called by the running kernel with its own context.
pub(crate) unsafe extern "C" fn barrier(lane: *mut Lane, site: u32, flags: u32, simdgroup_only: u32) {
    look_at_pending_store(lane);
    // SAFETY: the caller's promise.
    let meeting = unsafe { Meeting { site, path: (*lane).shared.path } };
    // SAFETY: as above.
    unsafe { suspend(lane, Stop::Barrier { meeting, flags, simdgroup_only: simdgroup_only != 0 }) };
}

/// A thread has made all turns of loops that it may make.
///
/// # Safety
/// Called by the running kernel with its own context.
pub(crate) unsafe extern "C" fn endless(lane: *mut Lane, pc: *const u8) {
    // SAFETY: the caller's promise.
    let (worker, index, atomics) = unsafe { (worker(lane), (*lane).index, (*lane).atomics) };
    note_endless(worker, index, pc as usize, atomics >= SPINNING);
    worker.spend_turns();
    // SAFETY: as above, and nothing with a destructor lives here.
    unsafe { trap(lane) };
}

/// The address of a threadgroup array.
///
/// # Safety
/// Called by the running kernel with its own context; `name` is a string of the image.
pub(crate) unsafe extern "C" fn threadgroup_array(
    lane: *mut Lane,
    id: u32,
    bytes: u64,
    element_bytes: u64,
    dtype: u32,
    name: *const c_char,
) -> *mut c_void {
    // SAFETY: the caller's promise.
    let (worker, index) = unsafe { (worker(lane), (*lane).index) };
    let group = worker.group.get();
    let (address, used) = {
        let mut memory = worker.memory.borrow_mut();
        let dtype = Dtype::ALL.get(dtype as usize).copied();
        let address = memory.array(id as usize, group + 1, (bytes as usize, element_bytes as usize), dtype, name);
        (address, memory.used + if address.is_none() { bytes as usize } else { 0 })
    };
    // In double precision, doubles stand for floats of half their size.
    let is_double = worker.dispatch.arena.buffers.iter().any(|buffer| buffer.dtype == Dtype::F64);
    if used > THREADGROUP_MEMORY * if is_double { 2 } else { 1 } {
        worker.note(index, (FindingKind::Limit, Place::Nowhere), Place::Nowhere, 0, || Entry {
            kind: FindingKind::Limit,
            subject: None,
            element: None,
            side: None,
            other: None,
            message: format!("threadgroup arrays take {used} bytes or more; Metal allows {THREADGROUP_MEMORY}"),
            advice: "make the tile smaller, or hold less of it at a time".into(),
            count: 1,
        });
    }
    match address {
        Some(address) => address as *mut c_void,
        // SAFETY: as above.
        None => unsafe { trap(lane) },
    }
}
