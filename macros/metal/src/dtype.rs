//! Element types of buffers.

use std::fmt;
use std::str::FromStr;

/// The element type of a buffer, in MLX's naming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// One byte, 0 or 1.
    Bool,
    /// Signed, 8 bits.
    I8,
    /// Signed, 16 bits.
    I16,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// IEEE 754 binary16, Metal's `half`.
    F16,
    /// The upper half of a binary32, Metal's `bfloat`.
    BF16,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64, which Metal does not have: a kernel with a port or template type of it is compiled with
    /// `float` as `double`.
    F64,
}

impl Dtype {
    /// Every element type.
    pub const ALL: [Dtype; 13] = [
        Dtype::Bool,
        Dtype::I8,
        Dtype::I16,
        Dtype::I32,
        Dtype::I64,
        Dtype::U8,
        Dtype::U16,
        Dtype::U32,
        Dtype::U64,
        Dtype::F16,
        Dtype::BF16,
        Dtype::F32,
        Dtype::F64,
    ];

    /// Size of one element in bytes.
    pub fn size(self) -> usize {
        match self {
            Dtype::Bool | Dtype::I8 | Dtype::U8 => 1,
            Dtype::I16 | Dtype::U16 | Dtype::F16 | Dtype::BF16 => 2,
            Dtype::I32 | Dtype::U32 | Dtype::F32 => 4,
            Dtype::I64 | Dtype::U64 | Dtype::F64 => 8,
        }
    }

    /// The type's name in Metal, as MLX writes it into a kernel's signature; of `F64`, in C++.
    pub fn metal(self) -> &'static str {
        match self {
            Dtype::Bool => "bool",
            Dtype::I8 => "int8_t",
            Dtype::I16 => "int16_t",
            Dtype::I32 => "int",
            Dtype::I64 => "int64_t",
            Dtype::U8 => "uint8_t",
            Dtype::U16 => "uint16_t",
            Dtype::U32 => "uint",
            Dtype::U64 => "uint64_t",
            Dtype::F16 => "half",
            Dtype::BF16 => "bfloat",
            Dtype::F32 => "float",
            Dtype::F64 => "double",
        }
    }

    /// The name used in files and messages: `f32`, `bf16`, `i32`, `bool` …
    pub fn name(self) -> &'static str {
        match self {
            Dtype::Bool => "bool",
            Dtype::I8 => "i8",
            Dtype::I16 => "i16",
            Dtype::I32 => "i32",
            Dtype::I64 => "i64",
            Dtype::U8 => "u8",
            Dtype::U16 => "u16",
            Dtype::U32 => "u32",
            Dtype::U64 => "u64",
            Dtype::F16 => "f16",
            Dtype::BF16 => "bf16",
            Dtype::F32 => "f32",
            Dtype::F64 => "f64",
        }
    }

    /// Returns whether elements can be NaN.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64)
    }

    /// Returns whether the element that starts `bytes` is NaN; false for integers and for a cut-off element.
    pub fn is_nan(self, bytes: &[u8]) -> bool {
        match (self, bytes) {
            (Dtype::F64, [_, _, _, _, _, _, _, _, ..]) => self.decode(&bytes[..8])[0].is_nan(),
            (Dtype::F32, [a, b, c, d, ..]) => f32::from_le_bytes([*a, *b, *c, *d]).is_nan(),
            (Dtype::F16, [a, b, ..]) => u16::from_le_bytes([*a, *b]) & 0x7fff > 0x7c00,
            (Dtype::BF16, [a, b, ..]) => u16::from_le_bytes([*a, *b]) & 0x7fff > 0x7f80,
            _ => false,
        }
    }

    /// `value` as one element, rounded to nearest even; integers saturate.
    pub fn encode(self, value: f64) -> Vec<u8> {
        match self {
            Dtype::Bool => vec![u8::from(value != 0.0)],
            Dtype::I8 => (value as i8).to_le_bytes().to_vec(),
            Dtype::I16 => (value as i16).to_le_bytes().to_vec(),
            Dtype::I32 => (value as i32).to_le_bytes().to_vec(),
            Dtype::I64 => (value as i64).to_le_bytes().to_vec(),
            Dtype::U8 => vec![value as u8],
            Dtype::U16 => (value as u16).to_le_bytes().to_vec(),
            Dtype::U32 => (value as u32).to_le_bytes().to_vec(),
            Dtype::U64 => (value as u64).to_le_bytes().to_vec(),
            Dtype::F16 => half::f16::from_f64(value).to_le_bytes().to_vec(),
            Dtype::BF16 => half::bf16::from_f64(value).to_le_bytes().to_vec(),
            Dtype::F32 => (value as f32).to_le_bytes().to_vec(),
            Dtype::F64 => value.to_le_bytes().to_vec(),
        }
    }

    /// All whole elements of `bytes` as numbers; 64-bit integers beyond 2^53 lose their last bits.
    pub fn decode(self, bytes: &[u8]) -> Vec<f64> {
        let element = |b: &[u8]| -> f64 {
            let mut wide = [0u8; 8];
            wide[..b.len()].copy_from_slice(b);
            let bits = u64::from_le_bytes(wide);
            match self {
                Dtype::Bool | Dtype::U8 | Dtype::U16 | Dtype::U32 | Dtype::U64 => bits as f64,
                Dtype::I8 => f64::from(bits as i8),
                Dtype::I16 => f64::from(bits as i16),
                Dtype::I32 => f64::from(bits as i32),
                Dtype::I64 => bits as i64 as f64,
                Dtype::F16 => half::f16::from_bits(bits as u16).to_f64(),
                Dtype::BF16 => half::bf16::from_bits(bits as u16).to_f64(),
                Dtype::F32 => f64::from(f32::from_bits(bits as u32)),
                Dtype::F64 => f64::from_bits(bits),
            }
        };
        bytes.chunks_exact(self.size()).map(element).collect()
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dtype {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Dtype::ALL.into_iter().find(|d| d.name() == text || d.metal() == text).ok_or_else(|| {
            format!("`{text}` is no element type: write one of {}", Dtype::ALL.map(Dtype::name).join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_survives_encoding_where_it_is_representable() {
        for dtype in Dtype::ALL {
            for value in [0.0, 1.0] {
                assert_eq!(dtype.decode(&dtype.encode(value)), [value], "{dtype}");
            }
            assert_eq!(dtype.encode(1.0).len(), dtype.size());
            assert_eq!(dtype.name().parse(), Ok(dtype));
        }
    }

    #[test]
    fn nan_is_recognised_in_floats_only() {
        for dtype in Dtype::ALL {
            assert_eq!(dtype.is_nan(&dtype.encode(f64::NAN)), dtype.is_float(), "{dtype}");
            assert!(!dtype.is_nan(&dtype.encode(f64::INFINITY)), "{dtype}");
        }
    }
}
