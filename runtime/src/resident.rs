//! Small operands of operations and launches, in the memory of an NVIDIA GPU.
//!
//! MLX keeps arrays of up to eight bytes, and everything that the host writes, in memory of the host. A simdgroup that
//! reads a scalar there waits for the bus, and a hundred thousand of them wait for each other. The result of an
//! operation lies in the GPU's memory if it is larger than eight bytes. So each scalar is broadcast to a longer array
//! on the device once and cached; readers get a view of its first element.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use half::{bf16, f16};
use mlx_rs::Array;

use crate::error::Context as _;
use crate::kernel::ScalarValue;
use crate::{Backend, Dtype, Result, backend};

/// More than eight bytes of any dtype.
const REPETITIONS: i32 = 16;

/// A model has a dozen values; one that changes from step to step must not fill the memory.
const KEPT: usize = 1024;

/// Dtype and bits.
type Key = (Dtype, [u32; 3]);

static RESIDENTS: Mutex<Option<Residents>> = Mutex::new(None);

/// `value` in a float dtype as an array without axes: in the GPU's memory where there is an NVIDIA GPU.
///
/// # Errors
/// What MLX returns.
pub(crate) fn float(value: f32, dtype: Dtype) -> Result<Array> {
    // Any other dtype becomes float32: the operation that gets both dtypes refuses them.
    let dtype = if dtype.is_float() { dtype } else { Dtype::F32 };
    // The value is converted here, because a cast would be one more operation on the device.
    let small = || match dtype {
        Dtype::BF16 => Array::from_slice(&[bf16::from_f32(value)], &[]),
        Dtype::F16 => Array::from_slice(&[f16::from_f32(value)], &[]),
        _ => Array::from_f32(value),
    };
    match backend()? {
        Backend::Cuda => resident((dtype, [value.to_bits(), 0, 0]), small),
        Backend::Metal | Backend::Cpu | Backend::Emulated => Ok(small()),
    }
}

/// `value` as an array without axes, in the GPU's memory.
///
/// # Errors
/// What MLX returns.
pub(crate) fn scalar(value: ScalarValue) -> Result<Array> {
    let key = match value {
        ScalarValue::F32(value) => (Dtype::F32, [value.to_bits(), 0, 0]),
        ScalarValue::I32(value) => (Dtype::I32, [value.cast_unsigned(), 0, 0]),
        ScalarValue::U32(value) => (Dtype::U32, [value, 0, 0]),
        ScalarValue::Bool(value) => (Dtype::Bool, [value.into(), 0, 0]),
    };
    resident(key, || value.to_array())
}

/// Three extents as an array, in the GPU's memory.
///
/// # Errors
/// What MLX returns.
pub(crate) fn extents((x, y, z): (i32, i32, i32)) -> Result<Array> {
    let extents = [x, y, z];
    resident((Dtype::I32, extents.map(i32::cast_unsigned)), || Array::from_slice(&extents, &[3]))
}

fn resident(key: Key, small: impl FnOnce() -> Array) -> Result<Array> {
    let mut residents = RESIDENTS.lock().unwrap_or_else(PoisonError::into_inner);
    residents.get_or_insert_default().find(key, small)
}

#[derive(Default)]
struct Residents(HashMap<Key, Array>);

impl Residents {
    /// Returns what `small` makes of `key`, if it was not made before.
    fn find(&mut self, key: Key, small: impl FnOnce() -> Array) -> Result<Array> {
        if let Some(array) = self.0.get(&key) {
            return Ok(array.clone());
        }
        let small = small();
        if self.0.len() == KEPT {
            return Ok(small);
        }
        let operation = "resident";
        let shape = small.shape().to_vec();
        let strides = vec![1_i64; shape.len()];
        let repeated = [&[REPETITIONS], &shape[..]].concat();
        let wide = mlx_rs::ops::broadcast_to(small, &repeated).and_then(|wide| wide.contiguous()).during(operation)?;
        let array = mlx_rs::ops::as_strided(&wide, &shape[..], &strides[..], 0).during(operation)?;
        // The array is evaluated at once, so that no graph holds the computation.
        array.eval().during(operation)?;
        self.0.insert(key, array.clone());
        Ok(array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::array_to_bytes;

    #[test]
    fn a_launch_gets_the_value_itself() {
        let values = [
            ScalarValue::F32(1e-6),
            ScalarValue::F32(-0.0),
            ScalarValue::F32(0.0),
            ScalarValue::I32(-3),
            ScalarValue::U32(u32::MAX),
            ScalarValue::I32(0),
            ScalarValue::Bool(true),
        ];
        let same = |found: Array, expected: Array| {
            assert_eq!((found.dtype(), found.shape()), (expected.dtype(), expected.shape()));
            assert_eq!(array_to_bytes(&found).unwrap(), array_to_bytes(&expected).unwrap());
        };
        for value in values {
            same(scalar(value).unwrap(), value.to_array());
        }
        same(extents((7, 1, 3)).unwrap(), Array::from_slice(&[7, 1, 3], &[3]));
    }

    #[test]
    fn a_value_is_made_once_and_no_more_than_fit_are_kept() {
        let mut residents = Residents::default();
        let mut made = 0;
        let mut find = |value: u32| {
            let small = || {
                made += 1;
                Array::from_slice(&[value], &[])
            };
            let found = residents.find((Dtype::U32, [value, 0, 0]), small).unwrap();
            assert_eq!(found.item_exact::<u32>(), value);
            (made, residents.0.len())
        };
        let kept = KEPT as u32;
        assert_eq!(find(0), (1, 1));
        assert_eq!(find(0), (1, 1));
        for value in 1..kept {
            find(value);
        }
        assert_eq!(find(kept), (KEPT + 1, KEPT));
        assert_eq!(find(5), (KEPT + 1, KEPT));
    }
}
