//! The faults that the kernel itself notices, by the compiler's checks of arithmetic, arrays and alignment or by code
//! of the shim.

use std::ffi::{CStr, c_char};

use super::context::Lane;
use super::hooks::{trap, worker};
use super::journal::{Entry, Place};
use super::notes::note_nan;
use crate::{Action, Checks, FindingKind};

/// The number of additions in a row that do not change a sum, from which on there is a note.
const STAYING: u32 = 16;

/// The fault that compiled code without a source reports of its private arrays.
const PRIVATE_BOUNDS: u32 = 32;

/// A place in the text as the compiler describes it, with the type that is indexed there.
#[repr(C)]
struct Described {
    file: *const c_char,
    line: u32,
    column: u32,
    indexed: *const u8,
}

impl Described {
    /// File and line.
    fn place(&self) -> Option<(String, u32)> {
        // SAFETY: a string literal of the image, or null.
        let file = (!self.file.is_null()).then(|| unsafe { CStr::from_ptr(self.file) })?;
        Some((file.to_string_lossy().into_owned(), self.line))
    }

    /// Returns how many elements the array has: its type's name is `'float [4]'` or `'float [4][2]'`, behind four
    /// bytes.
    fn length(&self) -> Option<u64> {
        // SAFETY: a description of a type in the image.
        let name = (!self.indexed.is_null()).then(|| unsafe { CStr::from_ptr(self.indexed.add(4).cast()) })?;
        name.to_string_lossy().split(['[', ']']).nth(1)?.parse().ok()
    }
}

/// Something that the kernel itself noticed. `reason` counts as in `shim/host.h`.
///
/// # Safety
/// Called by the running kernel with its own context.
pub(crate) unsafe extern "C" fn fault(lane: *mut Lane, reason: u32, found: i64, limit: i64, site: u32, pc: *const u8) {
    // SAFETY: the caller's promise.
    let (worker, index, saw_nan) = unsafe { (worker(lane), (*lane).index, (*lane).saw_nan) };
    let group = worker.group.get();
    let at = if pc.is_null() { Place::site(site) } else { worker.code(pc as usize) };
    let checked = worker.dispatch.checks == Checks::On;
    let note = |kind, action, subject: Option<String>, message: String, advice: &str| {
        worker.note(index, (kind, at), Place::Nowhere, 0, || Entry {
            kind,
            subject,
            element: None,
            side: Some((action, at, (group, index))),
            other: None,
            message,
            advice: advice.into(),
            count: 1,
        });
    };
    match reason {
        0 => note(
            FindingKind::OutOfBounds,
            Action::Read,
            None,
            format!("component {found} of a vector of {limit}"),
            "keep the index below the vector's length",
        ),
        1 => {
            // SAFETY: the compiler's description of the place, in the image.
            let described = unsafe { &*(limit as *const Described) };
            let name = described.place().and_then(|(file, line)| worker.dispatch.image.array_at(&file, line));
            let array = name.as_ref().map_or_else(|| "a private array".to_owned(), |name| format!("`{name}`"));
            let length = described.length().map_or_else(String::new, |length| format!(", which has {length} elements"));
            note(
                FindingKind::OutOfBounds,
                Action::Read,
                name,
                format!("index {found} of {array}{length}"),
                "keep the index below the array's length; the thread was stopped in front of it",
            );
        }
        2 => note(
            FindingKind::UndefinedArithmetic,
            Action::Read,
            None,
            match found {
                0 => "an integer is divided by zero".into(),
                _ => "the smallest integer is divided by -1, which no integer holds".into(),
            },
            "guard the division; the thread was stopped in front of it",
        ),
        3 => note(
            FindingKind::WrappedIndex,
            Action::Read,
            None,
            format!("an index is computed in 32 bits, where {found} becomes {limit}"),
            "compute it in 64 bits: make one of the factors a `ulong` or `size_t`",
        ),
        4 => {
            // The finding is that a value is taken from a lane that is absent, so the divergence is not reported as
            // well.
            worker.journal.borrow_mut().forget(FindingKind::DivergentSimd, at);
            // SAFETY: as above.
            unsafe { (*lane).cause = (*lane).cause.filter(|cause| *cause != (FindingKind::DivergentSimd, at)) };
            let name = worker.dispatch.image.site(site).name.clone();
            let message = format!("`{name}` takes a value from lane {found}, which takes no part in it");
            note(
                FindingKind::AbsentLane,
                Action::Synchronise,
                Some(name),
                message,
                "take values from lanes that reach the same operation: check the lane's number and the size of the last simdgroup",
            );
        }
        5 if checked && !saw_nan => {
            note_nan(worker, index, at, None);
            // SAFETY: as above.
            unsafe { (*lane).saw_nan = true };
        }
        6 => note(
            FindingKind::UndefinedArithmetic,
            Action::Read,
            None,
            "signed arithmetic overflows, which leaves the result undefined".into(),
            "compute in `long` or in `uint`, or keep the operands small",
        ),
        7 => note(
            FindingKind::Misaligned,
            Action::Read,
            None,
            format!(
                "memory is taken for a type that lies at multiples of {limit} bytes, and begins {} behind one",
                found.rem_euclid(limit.max(1))
            ),
            "begin at a multiple, read element by element, or use a `packed_` vector; the access was not carried out",
        ),
        // Without checks nothing has watched the writes.
        8 if checked => {
            // SAFETY: as above; no reference to the context is kept.
            let private = unsafe { (*lane).shared.private_at(found as usize) };
            // SAFETY: a string literal of the image.
            let name = private.map(|p| unsafe { CStr::from_ptr(p.name) }.to_string_lossy().into_owned());
            let variable = name
                .as_ref()
                .map_or_else(|| "a private variable".to_owned(), |name| format!("the private variable `{name}`"));
            let message = format!(
                "{variable} is read, but nothing has set {} before",
                if private.is_some_and(|p| p.bytes > 8) { "this part of it" } else { "it" }
            );
            note(
                FindingKind::UninitialisedRead,
                Action::Read,
                name,
                message,
                "give it a value where it is declared, or on every path to this read",
            );
            // SAFETY: as above. A NaN that follows is not reported.
            unsafe { (*lane).saw_nan = true };
        }
        9 => note(
            FindingKind::BecomesInfinite,
            Action::Read,
            None,
            "a finite float is beyond the largest `half`, 65504, and becomes infinite".into(),
            "keep the value in float, or scale it",
        ),
        10 => {
            // SAFETY: as above.
            let (bits, times) = unsafe { (*lane).staying };
            let times = if bits == found as u32 { times + 1 } else { 1 };
            // SAFETY: as above.
            unsafe { (*lane).staying = (found as u32, times) };
            if times == STAYING {
                let message =
                    format!("a sum in 16 bits stays what it is, though {STAYING} values that are not zero were added");
                note(FindingKind::SumStays, Action::Read, None, message, "sum in float and convert the result");
            }
        }
        11 => {
            let value =
                if limit == 64 { f64::from_bits(found as u64) } else { f64::from(f32::from_bits(found as u32)) };
            note(
                FindingKind::UndefinedArithmetic,
                Action::Read,
                None,
                format!("the float {value} becomes an integer that cannot hold it, which leaves the result undefined"),
                "clamp it to what the integer holds, or take a wider type",
            );
        }
        PRIVATE_BOUNDS => note(
            FindingKind::OutOfBounds,
            Action::Read,
            None,
            "an access outside of a private array or variable".into(),
            "keep the index below the array's length; the thread was stopped in front of it",
        ),
        _ => {}
    }
    if reason <= 2 || reason == 7 || reason == PRIVATE_BOUNDS {
        // SAFETY: as above; the closure and strings above are gone.
        unsafe { trap(lane) };
    }
}
