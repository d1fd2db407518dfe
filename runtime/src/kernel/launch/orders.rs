//! The orders of threads in which the emulator runs a launch: two, unless a check has seen that two give the same.

use std::cell::Cell;

thread_local! {
    static ONE_IS_ENOUGH: Cell<bool> = const { Cell::new(false) };
}

/// Runs `function`, whose launches run in one order of their threads only. They are watched for races all the same.
pub(in crate::kernel) fn in_one_order<R>(function: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ONE_IS_ENOUGH.set(self.0);
        }
    }
    let _restore = Restore(ONE_IS_ENOUGH.replace(true));
    function()
}

/// Returns whether launches run in one order of their threads on this thread.
#[cfg(feature = "emulator")]
pub(super) fn one_is_enough() -> bool {
    ONE_IS_ENOUGH.get()
}
