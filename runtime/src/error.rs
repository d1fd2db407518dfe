//! The one error type of the crate.

use std::fmt;

/// The result of every fallible function of the crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error: what was found, what was expected, and where.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation got operands whose shapes do not fit.
    #[error("`{operation}`: found {found}, expected {expected}")]
    Shape {
        /// The name of the operation.
        operation: &'static str,
        /// The shapes found.
        found: String,
        /// The shapes that would have fitted.
        expected: String,
    },
    /// An operation got operands of the wrong element type.
    #[error("`{operation}`: found {found}, expected {expected}")]
    Dtype {
        /// The name of the operation.
        operation: &'static str,
        /// The dtypes found.
        found: String,
        /// The dtypes that would have fitted.
        expected: String,
    },
    /// An index points outside the axis that it indexes; MLX would read out of bounds without an error.
    #[error("`{operation}`: index {index} is outside 0..{length}")]
    IndexOutOfRange {
        /// The name of the operation.
        operation: &'static str,
        /// The offending index.
        index: i64,
        /// The length of the indexed axis.
        length: i64,
    },
    /// Two training graphs met in one operation: the gradient of one would silently be zero.
    #[error(
        "`{operation}`: its operands belong to different training graphs{}, so one of them would get no gradient; \
         pass the tensor as an argument instead of keeping it outside [C06]", Between(.sources)
    )]
    MixedTraces {
        /// The name of the operation.
        operation: &'static str,
        /// A parameter that each of the two was computed from, in backticks, where that is known.
        sources: Box<[Option<String>; 2]>,
    },
    /// A driver was given, or got back, something that would train wrongly without an error.
    #[error("`{operation}`: {message} [{code}]")]
    Refused {
        /// The name of the driver or operation.
        operation: &'static str,
        /// The message: what was found, in which parameter or part, and the remedy.
        message: String,
        /// The code of the failure, such as `C20`.
        code: &'static str,
    },
    /// A kernel was called or declared wrongly.
    #[error("kernel `{kernel}`{}: {message}", PortSuffix(.port))]
    Kernel {
        /// The kernel's name.
        kernel: &'static str,
        /// The port at fault, if it is one.
        port: Option<&'static str>,
        /// The message: what was found and what was expected.
        message: String,
    },
    /// The backend has no counterpart of a kernel source at the sizes of this call; if the kernel has a fallback, that
    /// runs instead.
    #[error("kernel `{kernel}` cannot run on the {backend} backend at these sizes: {message}")]
    Untranslated {
        /// The kernel's name.
        kernel: &'static str,
        /// The backend.
        backend: crate::Backend,
        /// The feature that has no counterpart.
        message: String,
    },
    /// A gradient does not fit its primal.
    #[error("backward of `{function}`: {message}")]
    Gradient {
        /// The function whose backward returned it.
        function: &'static str,
        /// The message: what was found and what was expected.
        message: String,
    },
    /// A parameter is missing, extra, or of the wrong shape.
    #[error("parameter `{name}`: {message}")]
    Parameter {
        /// The parameter's full name.
        name: String,
        /// The message: what was found and what was expected.
        message: String,
    },
    /// The machine or the environment cannot do what was asked for.
    #[error("{0}")]
    Backend(String),
    /// MLX refused an operation.
    #[error("`{operation}`: MLX: {message}")]
    Mlx {
        /// The name of the operation.
        operation: &'static str,
        /// MLX's message, without the path of its source file.
        message: String,
    },
    /// A caller's own condition.
    #[error("{0}")]
    Other(String),
}

struct PortSuffix<'a>(&'a Option<&'static str>);

impl fmt::Display for PortSuffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(port) => write!(f, ", port `{port}`"),
            None => Ok(()),
        }
    }
}

/// The known parameters from which operands of two graphs were computed.
struct Between<'a>(&'a [Option<String>; 2]);

impl fmt::Display for Between<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [Some(left), Some(right)] => write!(f, " (one was computed from {left}, the other from {right})"),
            [Some(known), None] | [None, Some(known)] => write!(f, " (one was computed from {known})"),
            [None, None] => Ok(()),
        }
    }
}

/// Attaches the operation's name to MLX's errors.
pub(crate) trait Context<T> {
    /// Names the operation that failed.
    fn during(self, operation: &'static str) -> Result<T>;
}

impl<T> Context<T> for std::result::Result<T, mlx_rs::error::Exception> {
    fn during(self, operation: &'static str) -> Result<T> {
        self.map_err(|exception| mlx_error(operation, exception.what()))
    }
}

/// MLX ends its messages with ` at <path of its build machine>:<line>`; that helps no reader.
pub(crate) fn mlx_error(operation: &'static str, message: &str) -> Error {
    let message = match message.rfind(" at /") {
        Some(at) if message[at..].rsplit(':').next().is_some_and(|line| line.trim().parse::<u32>().is_ok()) => {
            &message[..at]
        }
        _ => message,
    };
    Error::Mlx { operation, message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_path_in_mlx_messages_is_dropped() {
        for (raw, shown) in [
            ("[matmul] bad shapes at /tmp/x/ops.cpp:12", "`matmul`: MLX: [matmul] bad shapes"),
            ("[matmul] look at /this", "`matmul`: MLX: [matmul] look at /this"),
            ("plain", "`matmul`: MLX: plain"),
        ] {
            assert_eq!(mlx_error("matmul", raw).to_string(), shown);
        }
    }

    #[test]
    fn kernel_errors_name_the_port_when_there_is_one() {
        let with = Error::Kernel { kernel: "mrope", port: Some("x"), message: "no".into() };
        let without = Error::Kernel { kernel: "mrope", port: None, message: "no".into() };
        assert_eq!(with.to_string(), "kernel `mrope`, port `x`: no");
        assert_eq!(without.to_string(), "kernel `mrope`: no");
    }
}
