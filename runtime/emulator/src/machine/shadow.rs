//! The last accesses to each element, and whether two accesses are ordered.
//!
//! Metal orders two accesses of different threads only by a barrier that both pass and that names their memory
//! (`mem_flags`): `threadgroup_barrier` for a threadgroup, `simdgroup_barrier` for a simdgroup. Nothing orders different
//! threadgroups. Each space counts its barriers; two accesses of a threadgroup are ordered if the count differs.

use crate::Action;

/// A thread at a point between barriers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    /// The threadgroup's number plus one; 0 is none.
    pub group: u32,
    /// Index in the threadgroup.
    pub index: u16,
    /// Barriers of the threadgroup so far, for this memory.
    pub epoch: u16,
    /// Barriers of the simdgroup alone so far, for this memory.
    pub simdgroup_epoch: u16,
    /// Barriers of any memory so far; tells a missing barrier from one with the wrong flags.
    pub barriers: u16,
}

impl Moment {
    fn same_thread(&self, other: &Moment) -> bool {
        self.group == other.group && self.index == other.index
    }

    fn same_simdgroup(&self, other: &Moment) -> bool {
        self.group == other.group && self.index / 32 == other.index / 32
    }

    /// Returns whether what was done at `self` is ordered before what is done at `now`.
    fn is_before(&self, now: &Moment) -> bool {
        self.same_thread(now)
            || (self.group == now.group
                && (self.epoch != now.epoch
                    || (self.same_simdgroup(now) && self.simdgroup_epoch != now.simdgroup_epoch)))
    }
}

/// One access to one cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Touch {
    pub moment: Moment,
    /// The bytes of the cell, a bit each.
    pub bytes: u8,
    pub atomic: bool,
    /// Offset into the image.
    pub pc: u32,
}

impl Touch {
    fn is_nobody(&self) -> bool {
        self.moment.group == 0
    }

    fn conflicts(&self, now: &Touch) -> bool {
        let overlap = self.bytes & now.bytes != 0;
        let both_atomic = self.atomic && now.atomic;
        overlap && !both_atomic && !self.is_nobody() && !self.moment.is_before(&now.moment)
    }
}

/// Up to two touches of different threads that nothing orders. Two are enough: a third thread that conflicts with any
/// of many conflicts with one of two, if these are, where possible, of different simdgroups.
#[derive(Clone, Copy, Debug, Default)]
struct Recent([Touch; 2]);

impl Recent {
    fn conflict(&self, now: &Touch) -> Option<Touch> {
        self.0.into_iter().find(|t| t.conflicts(now))
    }

    fn add(&mut self, mut now: Touch) {
        let mut kept = Touch::default();
        for touch in self.0 {
            if touch.is_nobody() {
                continue;
            }
            if touch.moment == now.moment {
                // A plain access replaces an atomic one of the same thread, because it conflicts with more.
                now.bytes |= touch.bytes;
                now.atomic &= touch.atomic;
            } else if !touch.moment.is_before(&now.moment)
                && (kept.is_nobody() || kept.moment.same_simdgroup(&now.moment))
            {
                kept = touch;
            }
        }
        self.0 = [now, kept];
    }

    fn forget_ordered(&mut self, now: &Moment) {
        for touch in &mut self.0 {
            if touch.moment.is_before(now) {
                *touch = Touch::default();
            }
        }
    }
}

/// The history of one cell: up to four bytes of memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cell {
    writes: Recent,
    reads: Recent,
    /// The threadgroup that owns this memory now, if it is threadgroup memory.
    owner: u32,
    initialised: u8,
}

/// The faults of an access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// An earlier, unordered access, one of the two being a write.
    pub race: Option<(Action, Touch)>,
    /// The access reads bytes that nothing has written.
    pub uninitialised: bool,
    /// The access reads bytes that this launch has written.
    pub reads_back: bool,
}

impl Cell {
    /// A cell whose bytes hold a value from the start.
    pub fn initialised() -> Self {
        Cell { initialised: 0xff, ..Cell::default() }
    }

    /// Returns whether all of `bytes` were written.
    pub fn is_written(&self, bytes: u8) -> bool {
        self.initialised & bytes == bytes
    }

    /// Forgets what another threadgroup did here: threadgroup memory starts again in each.
    pub fn claim(&mut self, group: u32) {
        if self.owner != group {
            *self = Cell { owner: group, ..Cell::default() };
        }
    }

    /// Records an access and judges it.
    pub fn touch(&mut self, now: Touch, reads: bool, writes: bool) -> Verdict {
        let mut verdict = Verdict::default();
        let action = |touch: Touch, action: Action| (if touch.atomic { Action::Atomic } else { action }, touch);
        if reads && self.initialised & now.bytes != now.bytes {
            verdict.uninitialised = true;
        }
        verdict.reads_back = reads && self.writes.0.iter().any(|write| write.bytes & now.bytes != 0);
        verdict.race = self.writes.conflict(&now).map(|t| action(t, Action::Write));
        if writes {
            verdict.race = verdict.race.or_else(|| self.reads.conflict(&now).map(|t| action(t, Action::Read)));
            self.reads.forget_ordered(&now.moment);
            self.writes.add(now);
            self.initialised |= now.bytes;
        } else {
            self.reads.add(now);
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    enum Step {
        Read(u16),
        Write(u16),
        Atomic(u16),
        Barrier,
        SimdgroupBarrier(u16),
        OtherGroup,
    }
    use Step::*;

    fn races(steps: &[Step]) -> bool {
        let mut cell = Cell::initialised();
        let (mut group, mut epoch, mut simdgroups, mut raced) = (1, 0, [0u16; 32], false);
        for &step in steps {
            let mut touch = |index: u16, atomic, reads, writes| {
                let simdgroup_epoch = simdgroups[usize::from(index / 32)];
                let moment = Moment { group, index, epoch, simdgroup_epoch, barriers: 0 };
                raced |= cell.touch(Touch { moment, bytes: 15, atomic, pc: 0 }, reads, writes).race.is_some();
            };
            match step {
                Read(i) => touch(i, false, true, false),
                Write(i) => touch(i, false, false, true),
                Atomic(i) => touch(i, true, true, true),
                Barrier => epoch += 1,
                SimdgroupBarrier(s) => simdgroups[usize::from(s)] += 1,
                OtherGroup => group += 1,
            }
        }
        raced
    }

    #[test]
    fn order_comes_from_barriers_alone() {
        for (steps, raced) in [
            (&[Write(0), Read(0), Write(0)][..], false),
            (&[Read(0), Read(1), Read(40)], false),
            (&[Write(0), Read(1)], true),
            (&[Read(0), Write(1)], true),
            (&[Write(0), Write(1)], true),
            (&[Write(0), Barrier, Read(1), Read(0)], false),
            (&[Write(0), Barrier, Read(1), Write(0)], true),
            (&[Write(0), SimdgroupBarrier(0), Read(1)], false),
            (&[Write(0), SimdgroupBarrier(0), Read(32)], true),
            (&[Write(0), SimdgroupBarrier(1), Read(32)], true),
            (&[Read(0), Read(32), SimdgroupBarrier(0), Write(0)], true),
            (&[Read(32), Read(0), SimdgroupBarrier(0), Write(1)], true),
            (&[Read(0), Read(1), Write(1)], true),
            (&[Read(1), Read(0), Read(1), Write(1)], true),
            (&[Atomic(0), Atomic(1)], false),
            (&[Atomic(0), Read(1)], true),
            (&[Atomic(1), Atomic(0), Read(0)], true),
            (&[Atomic(0), Barrier, Read(1)], false),
            (&[Write(0), Barrier, OtherGroup, Read(0)], true),
            (&[Atomic(0), OtherGroup, Atomic(0)], false),
        ] {
            assert_eq!(races(steps), raced, "{}", steps.len());
        }
    }

    #[test]
    fn different_bytes_of_a_cell_do_not_race() {
        let mut cell = Cell::default();
        let at = |index, bytes| Touch {
            moment: Moment { group: 1, index, ..Moment::default() },
            bytes,
            atomic: false,
            pc: 0,
        };
        assert_eq!(cell.touch(at(0, 1), false, true), Verdict::default());
        assert_eq!(cell.touch(at(1, 2), false, true), Verdict::default());
        assert!(cell.touch(at(2, 2), true, false).race.is_some());
        assert!(cell.touch(at(0, 4), true, false).uninitialised);
        assert!(cell.is_written(3) && !cell.is_written(15));
    }
}
