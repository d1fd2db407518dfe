//! Element types.

use std::cell::Cell;
use std::fmt;

/// The element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Dtype {
    /// One byte, true or false.
    Bool,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 8 bits.
    U8,
    /// Signed, 16 bits.
    I16,
    /// Unsigned, 16 bits.
    U16,
    /// Signed, 32 bits.
    I32,
    /// Unsigned, 32 bits.
    U32,
    /// Signed, 64 bits.
    I64,
    /// Unsigned, 64 bits.
    U64,
    /// IEEE half precision.
    F16,
    /// The upper half of a `float32`.
    BF16,
    /// IEEE single precision.
    F32,
}

thread_local! {
    /// Whether checks of this thread compute in double what is declared in single precision.
    static IN_DOUBLE: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether [`Dtype::F32`] is held as `float64` on this thread.
pub(crate) fn is_in_double() -> bool {
    IN_DOUBLE.get()
}

/// Runs `function` with [`Dtype::F32`] held as `float64`, on a backend whose arrays lie on the CPU: derivatives that are
/// measured so are right to nine digits. What the host gives stays `float32`, and MLX's promotion does the rest.
pub(crate) fn in_double<R>(function: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            IN_DOUBLE.set(self.0);
        }
    }
    let _restore = Restore(IN_DOUBLE.replace(true));
    function()
}

impl Dtype {
    /// Returns whether gradients of this element type make sense.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F16 | Dtype::BF16 | Dtype::F32)
    }

    /// The smallest and the largest integer of this type, as far as 64 signed bits go; nothing for other types.
    pub(crate) fn integers(self) -> Option<(i64, i64)> {
        Some(match self {
            Dtype::I8 => (i64::from(i8::MIN), i64::from(i8::MAX)),
            Dtype::U8 => (0, i64::from(u8::MAX)),
            Dtype::I16 => (i64::from(i16::MIN), i64::from(i16::MAX)),
            Dtype::U16 => (0, i64::from(u16::MAX)),
            Dtype::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
            Dtype::U32 => (0, i64::from(u32::MAX)),
            Dtype::I64 => (i64::MIN, i64::MAX),
            Dtype::U64 => (0, i64::MAX),
            Dtype::Bool | Dtype::F16 | Dtype::BF16 | Dtype::F32 => return None,
        })
    }

    /// Bytes an element takes.
    pub fn size(self) -> usize {
        match self {
            Dtype::Bool | Dtype::I8 | Dtype::U8 => 1,
            Dtype::I16 | Dtype::U16 | Dtype::F16 | Dtype::BF16 => 2,
            Dtype::U32 | Dtype::I32 | Dtype::F32 => 4,
            Dtype::I64 | Dtype::U64 => 8,
        }
    }

    /// Returns MLX's dtype for results, which is float64 for `F32` where computation is in double precision.
    pub(crate) fn to_mlx(self) -> mlx_rs::Dtype {
        if self == Dtype::F32 && is_in_double() { mlx_rs::Dtype::Float64 } else { self.of_host() }
    }

    /// Returns MLX's dtype for data as they lie in the memory of the host.
    pub(crate) fn of_host(self) -> mlx_rs::Dtype {
        match self {
            Dtype::Bool => mlx_rs::Dtype::Bool,
            Dtype::I8 => mlx_rs::Dtype::Int8,
            Dtype::U8 => mlx_rs::Dtype::Uint8,
            Dtype::I16 => mlx_rs::Dtype::Int16,
            Dtype::U16 => mlx_rs::Dtype::Uint16,
            Dtype::I32 => mlx_rs::Dtype::Int32,
            Dtype::U32 => mlx_rs::Dtype::Uint32,
            Dtype::I64 => mlx_rs::Dtype::Int64,
            Dtype::U64 => mlx_rs::Dtype::Uint64,
            Dtype::F16 => mlx_rs::Dtype::Float16,
            Dtype::BF16 => mlx_rs::Dtype::Bfloat16,
            Dtype::F32 => mlx_rs::Dtype::Float32,
        }
    }

    /// # Panics
    /// On a dtype that nothing in this crate creates (complex).
    pub(crate) fn from_mlx(dtype: mlx_rs::Dtype) -> Self {
        match dtype {
            mlx_rs::Dtype::Bool => Dtype::Bool,
            mlx_rs::Dtype::Int8 => Dtype::I8,
            mlx_rs::Dtype::Uint8 => Dtype::U8,
            mlx_rs::Dtype::Int16 => Dtype::I16,
            mlx_rs::Dtype::Uint16 => Dtype::U16,
            mlx_rs::Dtype::Int32 => Dtype::I32,
            mlx_rs::Dtype::Uint32 => Dtype::U32,
            mlx_rs::Dtype::Int64 => Dtype::I64,
            mlx_rs::Dtype::Uint64 => Dtype::U64,
            mlx_rs::Dtype::Float16 => Dtype::F16,
            mlx_rs::Dtype::Bfloat16 => Dtype::BF16,
            // Where kernels are checked in double precision, Float64 stands for F32.
            mlx_rs::Dtype::Float32 | mlx_rs::Dtype::Float64 => Dtype::F32,
            other => unreachable!("no operation of this crate makes {other:?}"),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Dtype::Bool => "bool",
            Dtype::I8 => "int8",
            Dtype::U8 => "uint8",
            Dtype::I16 => "int16",
            Dtype::U16 => "uint16",
            Dtype::I32 => "int32",
            Dtype::U32 => "uint32",
            Dtype::I64 => "int64",
            Dtype::U64 => "uint64",
            Dtype::F16 => "float16",
            Dtype::BF16 => "bfloat16",
            Dtype::F32 => "float32",
        })
    }
}
