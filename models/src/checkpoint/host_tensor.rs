//! A tensor in host memory.

use half::{bf16, f16};
use safetensors::Dtype;

/// A tensor in host memory, as a safetensors file stores it: row-major, little-endian.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Element type.
    pub dtype: Dtype,
    /// Extents, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements.
    pub bytes: Vec<u8>,
}

impl HostTensor {
    /// A tensor of `values`.
    ///
    /// # Panics
    /// If `shape` does not have as many elements as `values`.
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "shape {shape:?} does not fit the values");
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    /// Returns the same elements rounded to `dtype`, ties to even; `None` unless both dtypes are among F32, BF16 and
    /// F16.
    pub fn cast(self, dtype: Dtype) -> Option<Self> {
        if self.dtype == dtype {
            return Some(self);
        }
        let values = self.to_f32()?.into_iter();
        let bytes = match dtype {
            Dtype::F32 => values.flat_map(f32::to_le_bytes).collect(),
            Dtype::BF16 => values.flat_map(|value| bf16::from_f32(value).to_le_bytes()).collect(),
            Dtype::F16 => values.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect(),
            _ => return None,
        };
        Some(Self { dtype, shape: self.shape, bytes })
    }

    /// The elements as f32, without loss; `None` unless the dtype is F32, BF16 or F16.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        let pairs = || self.bytes.as_chunks::<2>().0.iter().copied();
        match self.dtype {
            Dtype::F32 => Some(self.bytes.as_chunks::<4>().0.iter().copied().map(f32::from_le_bytes).collect()),
            Dtype::BF16 => Some(pairs().map(|pair| bf16::from_le_bytes(pair).to_f32()).collect()),
            Dtype::F16 => Some(pairs().map(|pair| f16::from_le_bytes(pair).to_f32()).collect()),
            _ => None,
        }
    }
}
