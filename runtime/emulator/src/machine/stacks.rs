//! Stacks for threads, kept between launches.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use corosensei::stack::{Stack, StackPointer};

use super::context::{STACK_BYTES, UNSET_BYTES, context_address};

/// Stacks for all threads of one threadgroup, in one piece. Only touched pages take memory.
pub(crate) struct Stacks {
    memory: NonNull<u8>,
    count: usize,
}

// SAFETY: it owns its memory.
unsafe impl Send for Stacks {}

impl Stacks {
    fn new(count: usize) -> Self {
        let layout = Self::layout(count);
        // SAFETY: the layout's size is not zero.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(layout) };
        Stacks { memory, count }
    }

    fn layout(count: usize) -> Layout {
        // This cannot fail: there are at most 1024 stacks of 256 KiB.
        Layout::from_size_align(count * STACK_BYTES, STACK_BYTES).unwrap_or(Layout::new::<u8>())
    }

    /// The address at which stack `i` starts.
    pub fn start(&self, i: usize) -> usize {
        debug_assert!(i < self.count);
        self.memory.as_ptr() as usize + i * STACK_BYTES
    }

    /// Returns whether an address lies in any of them.
    pub fn contains(&self, address: usize) -> bool {
        address.wrapping_sub(self.memory.as_ptr() as usize) < self.count * STACK_BYTES
    }

    /// Forgets which bytes of stack `i` between two addresses nothing has set.
    pub fn forget_unset(&self, i: usize, begin: usize, end: usize) {
        let start = self.start(i);
        let (from, to) = ((begin - start) / 8, (end - start).div_ceil(8).min(UNSET_BYTES));
        // SAFETY: inside the stack's first bytes, which no coroutine uses.
        unsafe { std::ptr::write_bytes((start + from) as *mut u8, 0, to - from) };
    }

    /// Stack `i` for a coroutine. One coroutine at a time may use it.
    pub fn stack(&self, i: usize) -> LaneStack {
        LaneStack { start: self.start(i) }
    }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout.
        unsafe { dealloc(self.memory.as_ptr(), Self::layout(self.count)) }
    }
}

/// One thread's stack, below its context.
pub(crate) struct LaneStack {
    start: usize,
}

// SAFETY: base and limit are aligned and 160 KiB and more apart. Instead of a guard page the compiler bounds every frame
// (`-Werror=frame-larger-than`); Metal has no recursion.
unsafe impl Stack for LaneStack {
    fn base(&self) -> StackPointer {
        NonZeroUsize::new(context_address(self.start)).unwrap_or(NonZeroUsize::MAX)
    }

    fn limit(&self) -> StackPointer {
        NonZeroUsize::new(self.start + UNSET_BYTES).unwrap_or(NonZeroUsize::MIN)
    }
}

/// Stacks that are not in use.
#[derive(Default)]
pub(crate) struct StackPool {
    idle: Mutex<Vec<Stacks>>,
}

impl StackPool {
    /// Stacks for at least `count` threads.
    pub fn take(&self, count: usize) -> Stacks {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        match idle.iter().position(|s| s.count >= count) {
            Some(i) => idle.swap_remove(i),
            None => Stacks::new(count.next_power_of_two().max(32)),
        }
    }

    /// Keeps stacks for the next launch.
    pub fn give_back(&self, stacks: Stacks) {
        const KEPT: usize = 64;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(stacks);
        }
    }
}
