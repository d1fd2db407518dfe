//! A launch under way: geometry, memory, and the workers that share its threadgroups.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::journal::{Entry, Journal};
use super::memory::Arena;
use super::order::threadgroup_at;
use super::stacks::StackPool;
use super::worker::Worker;
use crate::build::Image;
use crate::{Checks, Launch, Schedule, Thread};

/// Turns of loops that a thread may make if the launch does not say so: at 20 to 50 ns each, a tenth of a second.
const TURNS: u32 = 1 << 22;

/// The sizes of a launch: how threads form threadgroups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    /// Total threads.
    pub grid: [u32; 3],
    /// Threads of a threadgroup that is not cut off at an edge.
    pub threadgroup: [u32; 3],
}

impl Geometry {
    /// MLX shrinks threadgroups to the grid.
    pub fn new(grid: [u32; 3], threadgroup: [u32; 3]) -> Self {
        Geometry { grid, threadgroup: std::array::from_fn(|d| threadgroup[d].min(grid[d])) }
    }

    pub fn threads_per_threadgroup(&self) -> usize {
        self.threadgroup.iter().map(|&n| n as usize).product()
    }

    /// Threadgroups along x, y, z.
    pub fn threadgroups(&self) -> [u32; 3] {
        std::array::from_fn(|d| self.grid[d].div_ceil(self.threadgroup[d].max(1)))
    }

    /// All threadgroups.
    pub fn total(&self) -> u64 {
        self.threadgroups().iter().map(|&n| u64::from(n)).product()
    }

    /// Position of the threadgroup with this number.
    pub fn position(&self, number: u64) -> [u32; 3] {
        let [x, y, _] = self.threadgroups().map(u64::from);
        [(number % x) as u32, (number / x % y) as u32, (number / x / y) as u32]
    }

    /// Threads of the threadgroup at a position: fewer at the edges.
    pub fn size_at(&self, position: [u32; 3]) -> [u32; 3] {
        std::array::from_fn(|d| self.threadgroup[d].min(self.grid[d] - position[d] * self.threadgroup[d]))
    }

    /// Position in a threadgroup of this size of the thread with this index.
    pub fn thread_position(size: [u32; 3], index: u32) -> [u32; 3] {
        [index % size[0], index / size[0] % size[1], index / size[0] / size[1]]
    }

    /// A thread by numbers.
    pub fn thread(&self, (group, index): (u32, u32)) -> Thread {
        let threadgroup = self.position(u64::from(group));
        let position = Self::thread_position(self.size_at(threadgroup), index);
        Thread { threadgroup, position, index }
    }
}

/// A launch under way.
pub(crate) struct Dispatch<'a> {
    pub image: &'a Image,
    pub geometry: Geometry,
    pub arena: &'a Arena,
    /// Addresses of the kernel's buffers, in the order of its arguments.
    pub buffers: Vec<*mut c_void>,
    pub schedule: Schedule,
    pub checks: Checks,
    /// Turns of loops that each thread may make.
    pub turns: u32,
    /// Whether more than one worker runs.
    pub parallel: bool,
    /// Set to make all workers stop: something was seen that one worker alone must see, in order.
    pub abandoned: AtomicBool,
    /// A thread was stopped for good, so that what it would have written is missing.
    pub stopped: AtomicBool,
    next: AtomicU64,
}

// SAFETY: the pointers lead into the arena, which may be shared.
unsafe impl Sync for Dispatch<'_> {}

impl<'a> Dispatch<'a> {
    pub fn new(
        image: &'a Image,
        geometry: Geometry,
        arena: &'a Arena,
        buffers: Vec<*mut c_void>,
        launch: &Launch<'_>,
        parallel: bool,
    ) -> Self {
        let (abandoned, stopped, next) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
        let (schedule, checks, turns) = (launch.schedule, launch.checks, launch.turns.unwrap_or(TURNS));
        Dispatch { image, geometry, arena, buffers, schedule, checks, turns, parallel, abandoned, stopped, next }
    }

    /// The number of the threadgroup to run next, for whichever worker asks.
    pub fn next_threadgroup(&self) -> Option<u64> {
        if self.abandoned.load(Ordering::Relaxed) {
            return None;
        }
        let total = self.geometry.total();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        (turn < total).then(|| threadgroup_at(self.schedule, turn, total))
    }

    /// Runs everything on `workers` threads of the system. `None` if it has to run again, on one.
    pub fn run(&self, workers: usize, pool: &StackPool) -> Option<Vec<Entry>> {
        let work = || {
            let worker = Worker::new(self, pool);
            worker.run_all();
            worker.finish(pool)
        };
        if workers <= 1 {
            return Some(work().into_entries().collect());
        }
        let journals: Vec<Journal> = std::thread::scope(|scope| {
            let running: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            running.into_iter().map(|w| w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        let clean = !self.abandoned.load(Ordering::Relaxed) && journals.iter().all(Journal::is_empty);
        clean.then(Vec::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edge_threadgroups_hold_what_is_left() {
        let geometry = Geometry::new([70, 3, 1], [32, 2, 4]);
        assert_eq!(geometry.threadgroup, [32, 2, 1]);
        assert_eq!(geometry.threadgroups(), [3, 2, 1]);
        assert_eq!(geometry.total(), 6);
        assert_eq!(geometry.position(5), [2, 1, 0]);
        assert_eq!(geometry.size_at([2, 1, 0]), [6, 1, 1]);
        assert_eq!(geometry.thread((5, 4)).position, [4, 0, 0]);
        let threads: u32 = (0..6).map(|n| geometry.size_at(geometry.position(n)).iter().product::<u32>()).sum();
        assert_eq!(threads, 210);
    }
}
