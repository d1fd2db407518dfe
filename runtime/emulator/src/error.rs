//! The error of a kernel that could not be run at all.

use std::io;
use std::path::PathBuf;

/// The reason why a kernel could not be run. Defects of a kernel that did run are [`Finding`](crate::Finding)s.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No C++ compiler answers.
    #[error(
        "no C++ compiler found (tried {tried})\n  help: install g++ 12 or newer, or clang++ 14 or newer, or name one in \
         COTANGENT_CXX"
    )]
    NoCompiler {
        /// The programs that were tried.
        tried: String,
    },

    /// The kernel source is not valid.
    #[error("kernel `{kernel}` does not compile\n{messages}")]
    Compile {
        /// The kernel's name.
        kernel: String,
        /// The compiler's messages, with the kernel's own files and lines.
        messages: String,
    },

    /// The kernel source uses something that the emulator does not model or that Metal does not have, or the launch
    /// does not fit the kernel.
    #[error(transparent)]
    Source(#[from] cotangent_metal::Error),

    /// A file of the cache could not be written or loaded.
    #[error("{path}: {source}\n  help: make the folder writable, or give another one to `Emulator::with_cache`")]
    Cache {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

impl Error {
    /// A launch that does not fit the kernel: what was found and what was expected.
    pub(crate) fn misfit(kernel: &str, what: String) -> Self {
        Self::Source(cotangent_metal::Error::Launch { kernel: kernel.to_owned(), what })
    }
}
