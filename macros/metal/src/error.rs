//! The error of a kernel that cannot be translated.

use crate::Location;

/// The reason why a kernel cannot be translated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The source uses something that the target does not have, or that Metal does not have.
    #[error("{at}: {what}\n  help: {help}")]
    Unsupported {
        /// The place in the source.
        at: Location,
        /// The feature that was found.
        what: String,
        /// The remedy.
        help: String,
    },

    /// The launch does not fit the kernel.
    #[error("kernel `{kernel}`: {what}")]
    Launch {
        /// The kernel's name.
        kernel: String,
        /// The message: what was found and what was expected.
        what: String,
    },
}
