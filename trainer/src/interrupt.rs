//! Ctrl-C, `kill` and a closed terminal: the first signal asks for an end, the second enforces it.

use std::io;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

/// A terminal that closes signals the program twice, itself and through the shell: so close together, both are
/// one.
const ONE_HANGUP: Duration = Duration::from_millis(300);

static STATE: Mutex<State> = Mutex::new(State { asked: None, holds: 0, enforced: None });

struct State {
    /// The signal that asked for an end, and when.
    asked: Option<(i32, Instant)>,
    /// The number of [`Hold`]s.
    holds: usize,
    /// The signal that enforces the end once nothing holds it up.
    enforced: Option<i32>,
}

/// Handles signals from now on: the first SIGINT, SIGTERM or SIGHUP only makes [`asked`] true. The second ends the
/// process at once, without the clean-up of libraries at exit, which is not made for threads that still compute. A
/// SIGHUP that is ignored, as under `nohup`, stays ignored.
///
/// # Errors
/// If the system does not let the process handle signals.
pub fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    if INSTALLED.set(()).is_err() {
        return Ok(());
    }
    let mut signals = vec![SIGINT, SIGTERM];
    if !cotangent::ignores_hangup() {
        signals.push(SIGHUP);
    }
    let mut signals = Signals::new(signals)?;
    thread::Builder::new().name("signals".into()).spawn(move || signals.forever().for_each(receive))?;
    Ok(())
}

/// Returns whether a signal asked for an end since [`install`].
pub fn asked() -> bool {
    state().asked.is_some()
}

/// The exit code of a program that a signal ended: 128 and the number of the one that asked first.
pub fn exit_code() -> Option<u8> {
    state().asked.map(|(signal, _)| (128 + signal) as u8)
}

/// While it lives, the end that a second signal enforces waits for it; a third does not.
#[derive(Debug)]
pub struct Hold(());

/// Holds up an enforced end.
pub fn hold() -> Hold {
    state().holds += 1;
    Hold(())
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = state();
        state.holds -= 1;
        if let (0, Some(signal)) = (state.holds, state.enforced) {
            low_level::exit(128 + signal);
        }
    }
}

fn receive(signal: i32) {
    let mut state = state();
    match state.asked {
        None => state.asked = Some((signal, Instant::now())),
        Some((SIGHUP, when)) if signal == SIGHUP && when.elapsed() < ONE_HANGUP => {}
        Some(_) if state.holds > 0 && state.enforced.is_none() => state.enforced = Some(signal),
        Some(_) => low_level::exit(128 + signal),
    }
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}
