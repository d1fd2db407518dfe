//! The choice between a kernel and its fallback, for measurements that compare the two.

use std::cell::Cell;

/// The implementation that runs where both can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preference {
    /// The choice of the declaration: the kernel, except on the backends of its `fallback_on`.
    #[default]
    Declared,
    /// The kernel.
    Kernel,
    /// The fallback. A pair of bodies composed of operations is not replaced by its fallback.
    Fallback,
}

thread_local! {
    static PREFERENCE: Cell<Preference> = const { Cell::new(Preference::Declared) };
}

/// Calls `function` with kernels called in it, on this thread, running as `preference` says.
pub fn with_preference<R>(preference: Preference, function: impl FnOnce() -> R) -> R {
    /// Puts the former preference back, also after a panic.
    struct Restore(Preference);
    impl Drop for Restore {
        fn drop(&mut self) {
            PREFERENCE.set(self.0);
        }
    }
    let _restore = Restore(PREFERENCE.replace(preference));
    function()
}

/// Returns whether the fallback of a kernel that can run is to run instead.
pub(super) fn prefers_fallback(is_portable: bool, is_declared: bool) -> bool {
    match PREFERENCE.get() {
        Preference::Declared => is_declared,
        Preference::Kernel => false,
        Preference::Fallback => !is_portable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_holds_inside_and_ends_with_the_call() {
        assert!(prefers_fallback(false, true) && !prefers_fallback(false, false));
        with_preference(Preference::Kernel, || {
            assert!(!prefers_fallback(false, true));
            with_preference(Preference::Fallback, || {
                assert!(prefers_fallback(false, false));
                assert!(!prefers_fallback(true, true), "a portable pair is how the fallback runs");
            });
            assert!(!prefers_fallback(false, true));
        });
        assert!(prefers_fallback(false, true));
    }
}
