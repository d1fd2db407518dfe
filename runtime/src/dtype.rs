//! Element types.

use std::fmt;

/// The element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Dtype {
    /// One byte, true or false.
    Bool,
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 32 bits.
    U32,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// IEEE half precision.
    F16,
    /// The upper half of a `float32`.
    BF16,
    /// IEEE single precision.
    F32,
}

impl Dtype {
    /// Whether gradients of this element type make sense.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F16 | Dtype::BF16 | Dtype::F32)
    }

    /// Bytes an element takes.
    pub fn size(self) -> usize {
        match self {
            Dtype::Bool | Dtype::U8 => 1,
            Dtype::F16 | Dtype::BF16 => 2,
            Dtype::U32 | Dtype::I32 | Dtype::F32 => 4,
            Dtype::I64 => 8,
        }
    }

    pub(crate) fn to_mlx(self) -> mlx_rs::Dtype {
        match self {
            Dtype::Bool => mlx_rs::Dtype::Bool,
            Dtype::U8 => mlx_rs::Dtype::Uint8,
            Dtype::U32 => mlx_rs::Dtype::Uint32,
            Dtype::I32 => mlx_rs::Dtype::Int32,
            Dtype::I64 => mlx_rs::Dtype::Int64,
            Dtype::F16 => mlx_rs::Dtype::Float16,
            Dtype::BF16 => mlx_rs::Dtype::Bfloat16,
            Dtype::F32 => mlx_rs::Dtype::Float32,
        }
    }

    /// # Panics
    /// On a dtype that nothing in this crate creates (8- and 16-bit integers, f64, complex).
    pub(crate) fn from_mlx(dtype: mlx_rs::Dtype) -> Self {
        match dtype {
            mlx_rs::Dtype::Bool => Dtype::Bool,
            mlx_rs::Dtype::Uint8 => Dtype::U8,
            mlx_rs::Dtype::Uint32 => Dtype::U32,
            mlx_rs::Dtype::Int32 => Dtype::I32,
            mlx_rs::Dtype::Int64 => Dtype::I64,
            mlx_rs::Dtype::Float16 => Dtype::F16,
            mlx_rs::Dtype::Bfloat16 => Dtype::BF16,
            mlx_rs::Dtype::Float32 => Dtype::F32,
            other => unreachable!("no operation of this crate makes {other:?}"),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Dtype::Bool => "bool",
            Dtype::U8 => "uint8",
            Dtype::U32 => "uint32",
            Dtype::I32 => "int32",
            Dtype::I64 => "int64",
            Dtype::F16 => "float16",
            Dtype::BF16 => "bfloat16",
            Dtype::F32 => "float32",
        })
    }
}
