//! Carries errors and panics of callbacks around the C++ frames they must not cross.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Once;

use crate::error::{Error, Result, mlx_error};

use super::process::make_room_for_graphs;

/// The reason why a callback failed.
enum Failure {
    Error(Error),
    Panic(Box<dyn Any + Send>),
}

thread_local! {
    /// The first failure of a callback on this thread, until the call into MLX that ran it returns.
    static FAILURE: Cell<Option<Failure>> = const { Cell::new(None) };
    /// MLX's newest message on this thread.
    static MESSAGE: RefCell<Option<String>> = const { RefCell::new(None) };
}

unsafe extern "C" {
    /// mlx-rs' own handler. It is not part of its interface, so the manifest has the exact version, and there is a test.
    fn default_mlx_error_handler(message: *const c_char, data: *mut c_void);
}

/// Keeps the message for this crate, and passes it on to mlx-rs.
extern "C" fn handle_error(message: *const c_char, data: *mut c_void) {
    // SAFETY: MLX passes a NUL-terminated string that lives for the duration of the call.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    // This fails only while the thread is being torn down.
    let _ = MESSAGE.try_with(|slot| *slot.borrow_mut() = Some(text));
    // SAFETY: the same arguments, to the handler that would have got them.
    unsafe { default_mlx_error_handler(message, data) }
}

static INITIALISED: Once = Once::new();

/// Returns whether MLX was used in this process.
pub(crate) fn is_initialised() -> bool {
    INITIALISED.is_completed()
}

/// Must precede every raw call: without a handler, MLX's C layer prints an error and ends the process.
pub(crate) fn initialise() {
    INITIALISED.call_once(|| {
        make_room_for_graphs();
        // mlx-rs installs its handler in its first fallible call, which must come before this crate's handler.
        let _ = mlx_rs::Device::try_default();
        // SAFETY: the handler is a plain function and needs no data.
        unsafe { mlx_sys::mlx_set_error_handler(Some(handle_error), std::ptr::null_mut(), None) };
    });
}

/// MLX's newest message on this thread, as an error of `operation`.
pub(crate) fn last_message(operation: &'static str) -> Error {
    let message = MESSAGE.with(|slot| slot.borrow_mut().take());
    mlx_error(operation, message.as_deref().unwrap_or("no message"))
}

/// Runs the Rust part of a callback. `None` means that it failed, and that [`settle`] knows why.
pub(super) fn contain<T>(body: impl FnOnce() -> Result<T>) -> Option<T> {
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => return Some(value),
        Ok(Err(error)) => Failure::Error(error),
        Err(payload) => Failure::Panic(payload),
    };
    let first = FAILURE.take().unwrap_or(failure);
    FAILURE.set(Some(first));
    None
}

/// Turns the status of a call that may have run callbacks into their real error, or resumes their panic.
pub(crate) fn settle(operation: &'static str, status: i32) -> Result<()> {
    if status == 0 {
        return Ok(());
    }
    let message = last_message(operation);
    match FAILURE.take() {
        Some(Failure::Panic(payload)) => resume_unwind(payload),
        Some(Failure::Error(error)) => Err(error),
        None => Err(message),
    }
}
