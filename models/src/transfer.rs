//! Tensors between the device and the host, where files are read and written.

use cotangent::{Dtype, Error, Result, Stored, Tensor};

use crate::checkpoint::{Dtype as HostDtype, HostTensor};

/// Dtypes that files and the device have in common.
const DTYPES: [(Dtype, HostDtype); 5] = [
    (Dtype::F32, HostDtype::F32),
    (Dtype::BF16, HostDtype::BF16),
    (Dtype::F16, HostDtype::F16),
    (Dtype::U32, HostDtype::U32),
    (Dtype::U8, HostDtype::U8),
];

/// The values of a tensor of floats or of packed codes, on the host.
///
/// # Errors
/// If the tensor holds something else, or its values cannot be computed.
pub fn to_host(tensor: &Tensor<Stored>) -> Result<HostTensor> {
    let Some((_, dtype)) = DTYPES.into_iter().find(|(dtype, _)| *dtype == tensor.dtype()) else {
        return Err(Error::Other(format!("found a tensor of {}, expected floats or codes", tensor.dtype())));
    };
    let shape = tensor.shape().iter().map(|extent| extent.unsigned_abs() as usize).collect();
    Ok(HostTensor { dtype, shape, bytes: tensor.to_bytes()? })
}

/// Returns the same values on the device, in the same dtype.
///
/// # Errors
/// If they are neither floats nor codes, or an extent is too large.
pub fn from_host(host: &HostTensor) -> Result<Tensor<Stored>> {
    let Some((dtype, _)) = DTYPES.into_iter().find(|(_, dtype)| *dtype == host.dtype) else {
        return Err(Error::Other(format!("found a tensor of {}, expected F32, BF16, F16, U32 or U8", host.dtype)));
    };
    let too_large = |_| Error::Other(format!("found the shape {:?}, which is too large", host.shape));
    let shape: Vec<i32> =
        host.shape.iter().map(|extent| i32::try_from(*extent).map_err(too_large)).collect::<Result<_>>()?;
    Tensor::from_bytes(&host.bytes, dtype, &shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_in_their_dtype() {
        let tensor = Tensor::from_slice(&[1.5_f32, -2.0, 0.0, 3.0, 4.0, 5.0], &[2, 3]).unwrap();
        for dtype in [Dtype::F32, Dtype::BF16, Dtype::F16] {
            let there = to_host(&tensor.cast(dtype).unwrap()).unwrap();
            let back = from_host(&there).unwrap();
            assert_eq!((back.dtype(), back.shape()), (dtype, [2, 3].as_slice()));
            assert_eq!(back.to_vec::<f32>().unwrap(), tensor.to_vec::<f32>().unwrap());
        }
        let codes = HostTensor { dtype: HostDtype::U32, shape: vec![1, 2], bytes: vec![1, 2, 3, 4, 5, 6, 7, 8] };
        assert_eq!(to_host(&from_host(&codes).unwrap()).unwrap(), codes);
    }
}
