//! Ctrl-C: the first asks for an end, the second enforces it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::SIGINT;
use signal_hook::flag;

/// The exit code of a program that Ctrl-C ended: 128 and the number of SIGINT.
pub const EXIT_CODE: u8 = 130;

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on the first Ctrl-C only makes [`asked`] true; the second ends the process at once: without the clean-up of
/// libraries at exit, which is not made for threads that still compute.
///
/// # Errors
/// If the system does not let the process handle signals.
pub fn install() -> io::Result<()> {
    let asked = ASKED.get_or_init(Arc::default);
    // Called in this order: the first signal finds the flag down.
    flag::register_conditional_shutdown(SIGINT, i32::from(EXIT_CODE), Arc::clone(asked))?;
    flag::register(SIGINT, Arc::clone(asked))?;
    Ok(())
}

/// Whether Ctrl-C was pressed since [`install`].
pub fn asked() -> bool {
    ASKED.get().is_some_and(|asked| asked.load(Ordering::SeqCst))
}
