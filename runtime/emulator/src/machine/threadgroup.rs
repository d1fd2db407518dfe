//! Runs one threadgroup: threads as coroutines that stop where threads meet.

use corosensei::{Coroutine, CoroutineResult};

use super::context::{Attributes, Lane, MEM_DEVICE, MEM_THREADGROUP, Meeting, Stop};
use super::dispatch::Geometry;
use super::journal::{Entry, Place};
use super::order::Order;
use super::stacks::LaneStack;
use super::worker::{Epochs, Release, Worker};
use crate::{Action, FindingKind};

/// Turns of a loop that it costs a thread to meet others, beside half as many as there are threads.
const TURNS_OF_A_MEETING: u32 = 32;

/// The number of times that a thread lets others go first at an atomic operation, so that two that wait for each other
/// do so here too.
const YIELDS: u32 = 32;

type Thread = Coroutine<(), (), (), LaneStack>;

impl Epochs {
    fn advance(&mut self, flags: u32) {
        self.device = self.device.wrapping_add(u16::from(flags & MEM_DEVICE != 0));
        self.threadgroup = self.threadgroup.wrapping_add(u16::from(flags & MEM_THREADGROUP != 0));
        self.any = self.any.wrapping_add(1);
    }
}

impl Worker<'_> {
    /// Runs the threadgroup with this number to its end.
    pub fn run_threadgroup(&self, number: u64) {
        let geometry = self.dispatch.geometry;
        let position = geometry.position(number);
        let size = geometry.size_at(position);
        let count: usize = size.iter().map(|&n| n as usize).product();
        self.group.set(number as u32);
        self.threads.set(count);
        self.trapped.set(false);
        self.epochs.set(Epochs::default());
        self.simdgroups.borrow_mut().iter_mut().for_each(|s| s.epochs = Epochs::default());

        let turns = self.first_turns();
        let mut threads: Vec<Thread> = (0..count).map(|i| self.start(i, position, size, turns)).collect();
        let mut order = Order::new(self.dispatch.schedule, number);
        let mut simdgroups = Vec::new();
        let mut lanes = Vec::new();
        loop {
            let mut yielded = false;
            order.fill(count.div_ceil(32), &mut simdgroups);
            for &simdgroup in &simdgroups {
                let first = usize::from(simdgroup) * 32;
                let width = (count - first).min(32);
                loop {
                    self.yielded.set(false);
                    order.fill(width, &mut lanes);
                    for &lane in &lanes {
                        self.resume(first + usize::from(lane), &mut threads);
                    }
                    if self.yielded.get() {
                        yielded = true;
                        break;
                    }
                    if !self.meet(usize::from(simdgroup), first, width) {
                        break;
                    }
                }
            }
            if !yielded && !self.pass_barrier() {
                break;
            }
        }
        for mut thread in threads {
            if !thread.done() {
                // SAFETY: it was stopped inside a hook, at a point where neither the hook nor the kernel owns anything.
                unsafe { thread.force_reset() };
            }
        }
    }

    /// A thread at its beginning.
    fn start(&self, i: usize, group: [u32; 3], size: [u32; 3], turns: u32) -> Thread {
        let geometry = &self.dispatch.geometry;
        let full = geometry.threads_per_threadgroup() as u32;
        let index = i as u32;
        let position = Geometry::thread_position(size, index);
        let in_grid: [u32; 3] = std::array::from_fn(|d| group[d] * geometry.threadgroup[d] + position[d]);
        self.attributes[i].set(Attributes {
            thread_position_in_grid: in_grid.into(),
            thread_position_in_threadgroup: position.into(),
            threadgroup_position_in_grid: group.into(),
            threads_per_grid: geometry.grid.into(),
            threads_per_threadgroup: size.into(),
            dispatch_threads_per_threadgroup: geometry.threadgroup.into(),
            threadgroups_per_grid: geometry.threadgroups().into(),
            grid_origin: [0; 3].into(),
            thread_index_in_threadgroup: index,
            thread_index_in_simdgroup: index % 32,
            simdgroup_index_in_threadgroup: index / 32,
            simdgroups_per_threadgroup: (self.threads.get() as u32).div_ceil(32),
            dispatch_simdgroups_per_threadgroup: full.div_ceil(32),
            thread_index_in_quadgroup: index % 4,
            quadgroup_index_in_threadgroup: index / 4,
            quadgroups_per_threadgroup: (self.threads.get() as u32).div_ceil(4),
            dispatch_quadgroups_per_threadgroup: full.div_ceil(4),
            threads_per_simdgroup: 32,
        });
        let lane = self.lane(i);
        // SAFETY: the context was written when the worker began, and its thread does not run.
        unsafe {
            (*lane).stop = Stop::Ready;
            (*lane).pending = None;
            (*lane).atomics = 0;
            (*lane).shared.turns = turns;
            (*lane).shared.path = 0;
            (*lane).saw_nan = false;
            (*lane).cause = None;
            (*lane).staying = (0, 0);
            (*lane).yields = YIELDS;
        }
        self.forget_unset(i);
        let entry = self.dispatch.image.entry;
        let buffers = self.dispatch.buffers.as_ptr();
        let attributes = self.attributes[i].as_ptr().cast_const();
        Coroutine::with_stack(self.stacks.stack(i), move |yielder, ()| {
            // SAFETY: context, buffers and attributes outlive the coroutine; the entry takes just these.
            unsafe {
                (*lane).yielder = yielder;
                entry(buffers, attributes);
            }
        })
    }

    fn resume(&self, i: usize, threads: &mut [Thread]) {
        let lane = self.lane(i);
        // SAFETY: the thread is not running, so nothing else looks at its context.
        let ready = matches!(unsafe { (*lane).stop }, Stop::Ready);
        if !ready {
            return;
        }
        if let CoroutineResult::Return(()) = threads[i].resume(()) {
            super::hooks::look_at_pending_store(lane);
            // SAFETY: as above.
            unsafe { (*lane).stop = Stop::Finished };
        }
    }

    fn stop_of(&self, i: usize) -> Stop {
        // SAFETY: no thread runs while the worker itself does.
        unsafe { (*self.lane(i)).stop }
    }

    fn release(&self, i: usize, token: u32) {
        let lane: *mut Lane = self.lane(i);
        // The longer a meeting of all threads takes, the fewer meetings are allowed.
        let turns = TURNS_OF_A_MEETING + self.threads.get() as u32 / 2;
        // SAFETY: as in `stop_of`.
        unsafe {
            (*lane).stop = Stop::Ready;
            (*lane).release = token;
            (*lane).atomics = 0;
            (*lane).shared.turns = (*lane).shared.turns.saturating_sub(turns);
        }
    }

    /// Lets lanes of a simdgroup go on that have met. False if all that are left wait for the threadgroup.
    fn meet(&self, simdgroup: usize, first: usize, width: usize) -> bool {
        self.simdgroups.borrow_mut()[simdgroup].releases.clear();
        self.undone.set(0);
        if self.all_meet(simdgroup, first, width) {
            return true;
        }
        let all = first..first + width;
        let quad_of = |i: usize| i / 4 * 4..(i / 4 * 4 + 4).min(all.end);
        let mut progress = false;
        for quad in all.clone().step_by(4).map(quad_of) {
            if let Stop::Collective { meeting, width: 4, .. } = self.stop_of(quad.start)
                && quad.clone().all(|i| self.waits_at(i, meeting))
            {
                self.let_go(simdgroup, quad, meeting);
                progress = true;
            }
        }
        if progress {
            return true;
        }
        let meeting_of = |i: usize| match self.stop_of(i) {
            Stop::Collective { meeting, .. } | Stop::Barrier { meeting, simdgroup_only: true, .. } => Some(meeting),
            _ => None,
        };
        let Some(meeting) = all.clone().filter_map(meeting_of).min() else { return false };
        // If not all lanes are here, those at the earliest place go on alone.
        let first_here = all.clone().find(|&i| self.waits_at(i, meeting)).unwrap_or(first);
        let quad = matches!(self.stop_of(first_here), Stop::Collective { width: 4, .. });
        let range = if quad { quad_of(first_here) } else { all };
        if !range.clone().all(|i| self.waits_at(i, meeting)) {
            self.note_divergence(range.clone(), meeting, quad);
        }
        self.let_go(simdgroup, range, meeting);
        true
    }

    /// Runs the operation in the usual case, in which all lanes of the simdgroup wait at it, and returns whether it did.
    fn all_meet(&self, simdgroup: usize, first: usize, width: usize) -> bool {
        let Stop::Collective { combine, meeting: wanted, width: 32, .. } = self.stop_of(first) else { return false };
        let mut operands = [std::ptr::null_mut(); 32];
        for (lane, place) in operands.iter_mut().enumerate().take(width) {
            // SAFETY: as in `stop_of`. A copy of the whole would cost more than all else here.
            match unsafe { &(*self.lane(first + lane)).stop } {
                Stop::Collective { operand, meeting, .. } if *meeting == wanted => *place = *operand,
                _ => return false,
            }
        }
        (first..first + width).for_each(|i| self.release(i, 0));
        let present = u32::MAX >> (32 - width);
        self.simdgroups.borrow_mut()[simdgroup].releases.push(Release { combine, operands, present });
        self.undone.set(1);
        true
    }

    fn waits_at(&self, i: usize, wanted: Meeting) -> bool {
        match self.stop_of(i) {
            Stop::Collective { meeting, .. } | Stop::Barrier { meeting, simdgroup_only: true, .. } => meeting == wanted,
            _ => false,
        }
    }

    /// Lets the lanes of `range` go on that wait at one place.
    fn let_go(&self, simdgroup: usize, range: std::ops::Range<usize>, wanted: Meeting) {
        let token = self.simdgroups.borrow()[simdgroup].releases.len() as u32;
        let mut release: Option<Release> = None;
        let mut barrier = None;
        for i in range {
            match self.stop_of(i) {
                Stop::Collective { operand, combine, meeting, .. } if meeting == wanted => {
                    let release =
                        release.get_or_insert(Release { combine, operands: [std::ptr::null_mut(); 32], present: 0 });
                    release.operands[i % 32] = operand;
                    release.present |= 1 << (i % 32);
                    self.release(i, token);
                }
                Stop::Barrier { meeting, flags, simdgroup_only: true } if meeting == wanted => {
                    barrier = Some(flags);
                    self.release(i, token);
                }
                _ => {}
            }
        }
        if let Some(flags) = barrier {
            self.simdgroups.borrow_mut()[simdgroup].epochs.advance(flags);
        }
        self.undone.set(self.undone.get() | u32::from(release.is_some()) << token);
        self.simdgroups.borrow_mut()[simdgroup].releases.extend(release);
    }

    fn note_divergence(&self, range: std::ops::Range<usize>, meeting: Meeting, quad: bool) {
        let here: Vec<usize> = range.clone().filter(|&i| self.waits_at(i, meeting)).collect();
        let allowed = matches!(self.stop_of(here[0]), Stop::Collective { may_diverge: true, .. });
        let at = Place::site(meeting.site);
        if allowed || self.trapped.get() || self.journal.borrow().has_at(FindingKind::AbsentLane, at) {
            return;
        }
        let (name, group) = (self.dispatch.image.site(meeting.site).name.clone(), self.group.get());
        let missing = range.clone().find(|&i| !self.waits_at(i, meeting)).unwrap_or(here[0]);
        let other_place = self.place_of_stop(missing);
        let gone = other_place == Place::Nowhere;
        let whole = if quad { "quadgroup" } else { "simdgroup" };
        let message = format!(
            "`{name}` is reached by {} of {} lanes of a {whole}; others {}",
            here.len(),
            range.len(),
            whereabouts(at, other_place, "elsewhere")
        );
        let advice = match gone {
            true => format!("keep all lanes until after `{name}`: guard loads and stores instead of returning early"),
            false => format!("move `{name}` out of the branch or loop that lanes leave at different times"),
        };
        let entry = Entry {
            kind: FindingKind::DivergentSimd,
            subject: Some(name),
            element: None,
            side: Some((Action::Synchronise, at, (group, here[0] as u32))),
            other: Some((Action::Synchronise, other_place, (group, missing as u32))),
            message,
            advice,
            count: 1,
        };
        self.note(here[0] as u32, (FindingKind::DivergentSimd, at), Place::Nowhere, 0, || entry);
    }

    fn place_of_stop(&self, i: usize) -> Place {
        match self.stop_of(i) {
            Stop::Collective { meeting, .. } | Stop::Barrier { meeting, .. } => Place::site(meeting.site),
            _ => Place::Nowhere,
        }
    }

    /// Lets all threads go on that wait at a barrier. False if no thread is left.
    fn pass_barrier(&self) -> bool {
        let waiting: Vec<(usize, Meeting, u32)> = (0..self.threads.get())
            .filter_map(|i| match self.stop_of(i) {
                Stop::Barrier { meeting, flags, .. } => Some((i, meeting, flags)),
                _ => None,
            })
            .collect();
        let Some(&(first, wanted, _)) = waiting.iter().min_by_key(|(_, meeting, _)| *meeting) else { return false };
        let waits = |i: usize| matches!(self.stop_of(i), Stop::Barrier { meeting, .. } if meeting == wanted);
        let elsewhere = (0..self.threads.get()).find(|&i| !waits(i));
        if let (Some(missing), false) = (elsewhere, self.trapped.get()) {
            let (here, at) = (waiting.iter().filter(|(_, m, _)| *m == wanted).count(), Place::site(wanted.site));
            let (group, total) = (self.group.get(), self.threads.get());
            let other = self.place_of_stop(missing);
            self.note(first as u32, (FindingKind::DivergentBarrier, at), other, 0, || Entry {
                kind: FindingKind::DivergentBarrier,
                subject: Some("threadgroup_barrier".into()),
                element: None,
                side: Some((Action::Synchronise, at, (group, first as u32))),
                other: Some((Action::Synchronise, other, (group, missing as u32))),
                message: format!(
                    "a threadgroup barrier is reached by {here} of {total} threads; others {}",
                    whereabouts(at, other, "at another barrier")
                ),
                advice:
                    "let every thread of the threadgroup reach the same barriers: move it out of the branch, and guard \
                         loads and stores instead of returning early"
                        .into(),
                count: 1,
            });
        }
        let flags = waiting.iter().fold(!0, |all, (_, _, flags)| all & flags);
        let mut epochs = self.epochs.get();
        epochs.advance(flags);
        self.epochs.set(epochs);
        for (i, ..) in waiting {
            self.release(i, 0);
        }
        true
    }
}

/// Returns where those are that are missing at a place.
fn whereabouts(at: Place, other: Place, elsewhere: &str) -> String {
    match other {
        Place::Nowhere => "have returned".into(),
        _ if other == at => "reach it through another call, and wait there".into(),
        _ => format!("wait {elsewhere}"),
    }
}
