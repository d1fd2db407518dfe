//! The end of the process, without what C++ does after `main`.

use std::ffi::c_int;

unsafe extern "C" {
    /// POSIX: ends the process without running what was registered for its end.
    safe fn _exit(status: c_int) -> !;
}

pub(crate) fn end_process(code: u8) -> ! {
    _exit(c_int::from(code))
}
