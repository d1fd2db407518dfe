//! Ctrl-C: the first asks for an end, the second enforces it.

use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code of a program that Ctrl-C ended: 128 and the number of SIGINT.
pub const EXIT_CODE: u8 = 130;

static ASKED: AtomicBool = AtomicBool::new(false);

/// From now on the first Ctrl-C only makes [`asked`] true; the second ends the process at once.
///
/// # Errors
/// If the system does not let the process handle signals, or this was called before.
pub fn install() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(EXIT_CODE));
        }
    })
}

/// Whether Ctrl-C was pressed since [`install`].
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}
