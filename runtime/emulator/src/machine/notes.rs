//! Turns addresses and verdicts into entries of the journal, in words.

use super::context::{ATOMIC, WRITES};
use super::journal::{Entry, Place};
use super::placement::Placement;
use super::shadow::{Touch, Verdict};
use super::worker::Worker;
use crate::{Action, FindingKind};

/// The owner of an address.
pub(super) struct Object {
    /// Number for the journal.
    number: u32,
    pub(super) name: String,
    element_bytes: usize,
    /// Offset of the access.
    offset: i64,
    bytes: usize,
    device: bool,
}

impl Object {
    pub(super) fn element(&self) -> i64 {
        self.offset.div_euclid(self.element_bytes.max(1) as i64)
    }

    fn elements(&self) -> usize {
        self.bytes / self.element_bytes.max(1)
    }

    fn memory(&self) -> &'static str {
        if self.device { "device" } else { "threadgroup" }
    }
}

pub(super) fn action(kind: u32) -> Action {
    match (kind & ATOMIC != 0, kind & WRITES != 0) {
        (true, _) => Action::Atomic,
        (_, true) => Action::Write,
        _ => Action::Read,
    }
}

/// The buffer or array next to an address.
pub(super) fn object(worker: &Worker<'_>, address: usize) -> Option<Object> {
    if let Some((number, offset)) = worker.dispatch.arena.nearest(address) {
        let buffer = &worker.dispatch.arena.buffers[number];
        return Some(Object {
            number: number as u32 + 1,
            name: buffer.name.clone(),
            element_bytes: buffer.dtype.size(),
            offset,
            bytes: buffer.bytes,
            device: true,
        });
    }
    let memory = worker.memory.borrow();
    let (array, offset) = memory.contains(address).then(|| memory.nearest(address)).flatten()?;
    Some(Object {
        number: 0x1000 + (array.begin / 256) as u32,
        name: array.name(),
        element_bytes: array.element_bytes,
        offset,
        bytes: array.bytes,
        device: false,
    })
}

pub(super) fn note_out_of_bounds(worker: &Worker<'_>, index: u32, address: usize, bytes: usize, kind: u32, pc: usize) {
    let object = object(worker, address);
    let (at, group, action) = (worker.code(pc), worker.group.get(), action(kind));
    let number = object.as_ref().map_or(0, |o| o.number);
    worker.note(index, (FindingKind::OutOfBounds, at), Place::Nowhere, number, || {
        let inside = object.as_ref().is_some_and(|o| o.offset >= 0 && o.offset as usize + bytes <= o.bytes);
        let (message, advice) = match &object {
            Some(o) if inside => (
                format!("a write to the input `{}`, element {}", o.name, o.element()),
                "write to an output: inputs are read-only".to_owned(),
            ),
            Some(o) => (
                format!(
                    "a {action} of {bytes} bytes at element {} of `{}`, which has {} elements in {} memory",
                    o.element(),
                    o.name,
                    o.elements(),
                    o.memory()
                ),
                "guard the access with the size, or correct the index; the access was not carried out".to_owned(),
            ),
            None => (
                format!("a {action} of {bytes} bytes far from every buffer"),
                "follow the pointer's arithmetic: it leads out of all buffers; the access was not carried out"
                    .to_owned(),
            ),
        };
        Entry {
            kind: FindingKind::OutOfBounds,
            element: object.as_ref().map(Object::element),
            subject: object.map(|o| o.name),
            side: Some((action, at, (group, index))),
            other: None,
            message,
            advice,
            count: 1,
        }
    });
}

/// A read between the rows of an input: `gap` is counted from its element of index 0.
pub(super) fn note_gap(
    worker: &Worker<'_>,
    index: u32,
    pc: usize,
    (buffer, name): (usize, &str),
    gap: i64,
    placement: &Placement,
) {
    let (at, group) = (worker.code(pc), worker.group.get());
    worker.note(index, (FindingKind::OutOfBounds, at), Place::Nowhere, buffer as u32 + 1, || Entry {
        kind: FindingKind::OutOfBounds,
        subject: Some(name.to_owned()),
        element: Some(gap),
        side: Some((Action::Read, at, (group, index))),
        other: None,
        message: format!("place {gap} of `{name}` lies between its elements: no index of {placement} leads there"),
        advice: format!("compute the place from `{name}_strides`, or guard the index with the shape"),
        count: 1,
    });
}

pub(super) fn note_verdict(worker: &Worker<'_>, index: u32, address: usize, verdict: Verdict, kind: u32, touch: Touch) {
    let Some(object) = object(worker, address) else { return };
    let (at, group, action) = (Place::Code(touch.pc as usize), worker.group.get(), action(kind));
    if let Some((other_action, other)) = verdict.race {
        let other_at = Place::Code(other.pc as usize);
        worker.note(index, (FindingKind::DataRace, at), other_at, object.number, || {
            let flag = if object.device { "mem_device" } else { "mem_threadgroup" };
            let same_group = other.moment.group == touch.moment.group;
            let same_simdgroup = same_group && other.moment.index / 32 == touch.moment.index / 32;
            let advice = if !same_group {
                "let each threadgroup write elements of its own, or use atomics on both sides: nothing orders threadgroups \
                 of one launch"
                    .to_owned()
            } else if other.atomic != touch.atomic {
                format!("use atomics on both sides, or put `threadgroup_barrier(mem_flags::{flag})` between them")
            } else if other.moment.barriers != touch.moment.barriers {
                format!("add `mem_flags::{flag}` to a barrier that both threads pass: the one between them does not order this memory for them")
            } else if same_simdgroup {
                format!("put `simdgroup_barrier(mem_flags::{flag})` or `threadgroup_barrier(mem_flags::{flag})` between them")
            } else {
                format!("put `threadgroup_barrier(mem_flags::{flag})` between them")
            };
            // Two threads write in one statement: each writes a row that may reach into the next one's.
            let rows = other_at == at && action == Action::Write && other_action == Action::Write;
            let advice = match rows {
                true => format!("let each thread write elements of its own: check the extent of what it writes, and the stride; if both are meant, {advice}"),
                false => advice,
            };
            Entry {
                kind: FindingKind::DataRace,
                subject: Some(object.name.clone()),
                element: Some(object.element()),
                side: Some((action, at, (group, index))),
                other: Some((other_action, other_at, (other.moment.group - 1, u32::from(other.moment.index)))),
                message: format!(
                    "element {} of `{}` in {} memory is touched by two threads{}, and nothing orders the {other_action} and the {action}",
                    object.element(),
                    object.name,
                    object.memory(),
                    if same_group { "" } else { " of different threadgroups" },
                ),
                advice,
                count: 1,
            }
        });
    }
    if verdict.reads_back {
        note_shared(worker, index, &object, (action, touch));
    }
    if verdict.uninitialised {
        worker.note(index, (FindingKind::UninitialisedRead, at), Place::Nowhere, object.number, || Entry {
            kind: FindingKind::UninitialisedRead,
            subject: Some(object.name.clone()),
            element: Some(object.element()),
            side: Some((action, at, (group, index))),
            other: None,
            message: format!(
                "element {} of `{}` is read before anything was written there",
                object.element(),
                object.name
            ),
            advice: match object.device {
                true => format!("store to `{}` before reading it, or give the kernel an `init_value`", object.name),
                false => format!(
                    "store to every element of `{}` that is read, in this threadgroup, and pass a barrier",
                    object.name
                ),
            },
            count: 1,
        });
    }
}

/// Notes that memory which is bound twice is read after it was written.
fn note_shared(worker: &Worker<'_>, index: u32, object: &Object, (action, touch): (Action, Touch)) {
    let (at, group) = (Place::Code(touch.pc as usize), worker.group.get());
    worker.note(index, (FindingKind::SharedMemory, at), Place::Nowhere, object.number, || Entry {
        kind: FindingKind::SharedMemory,
        subject: Some(object.name.clone()),
        element: Some(object.element()),
        side: Some((action, at, (group, index))),
        other: None,
        message: format!(
            "element {} of `{}`, which are one memory, is read after it was written: Metal's compiler takes each buffer for \
             memory of its own, and may read before it writes",
            object.element(),
            object.name
        ),
        advice: "bind a copy, or read each element before any is written".into(),
        count: 1,
    });
}

/// Notes an endless loop. Only the first one is named: the threads that follow have fewer turns, which is not a defect
/// of theirs.
pub(super) fn note_endless(worker: &Worker<'_>, index: u32, pc: usize, spinning: bool) {
    let (at, group, turns) = (worker.code(pc), worker.group.get(), worker.dispatch.turns);
    let known = worker.journal.borrow().has(FindingKind::NoProgress);
    if known && !worker.journal.borrow().has_at(FindingKind::NoProgress, at) {
        return;
    }
    let (message, advice) = match spinning {
        true => (
            "a thread repeats atomic operations in this loop, and waits for a thread that does not go on".to_owned(),
            "meet other threads at a barrier instead of spinning or taking locks: Metal does not promise that other \
             threads run meanwhile",
        ),
        false => (
            format!("a thread has made {turns} turns of loops, the last of this one, and does not end"),
            "correct the loop's condition or what it counts; `Launch::turns` allows more",
        ),
    };
    worker.note(index, (FindingKind::NoProgress, at), Place::Nowhere, 0, || Entry {
        kind: FindingKind::NoProgress,
        subject: None,
        element: None,
        side: Some((if spinning { Action::Atomic } else { Action::Loop }, at, (group, index))),
        other: None,
        message,
        advice: advice.into(),
        count: 1,
    });
}

pub(super) fn note_nan(worker: &Worker<'_>, index: u32, at: Place, stored: Option<(&str, i64)>) {
    if worker.journal.borrow().has(FindingKind::NanBorn) {
        return;
    }
    let group = worker.group.get();
    worker.note(index, (FindingKind::NanBorn, at), Place::Nowhere, 0, || Entry {
        kind: FindingKind::NanBorn,
        subject: stored.map(|(name, _)| name.to_owned()),
        element: stored.map(|(_, element)| element),
        side: Some((if stored.is_some() { Action::Write } else { Action::Synchronise }, at, (group, index))),
        other: None,
        message: match stored {
            Some((name, element)) => {
                format!("element {element} of `{name}` becomes NaN, though this thread has read no NaN")
            }
            None => "a lane gives a NaN to a simdgroup operation, though it has read no NaN".into(),
        },
        advice: "look for 0/0, inf - inf, the root or logarithm of a negative number".into(),
        count: 1,
    });
}
