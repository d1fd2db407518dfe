//! Tensors between the device and the host, where files are read and written.

use cotangent::{Dtype, Error, Result, Stored, Tensor};
use cotangent_models::checkpoint::{Dtype as HostDtype, HostTensor};

/// The values of a tensor of floats, on the host.
///
/// # Errors
/// If the tensor holds no floats, or its values cannot be computed.
pub fn to_host(tensor: &Tensor<Stored>) -> Result<HostTensor> {
    let dtype = match tensor.dtype() {
        Dtype::BF16 => HostDtype::BF16,
        Dtype::F16 => HostDtype::F16,
        Dtype::F32 => HostDtype::F32,
        other => return Err(Error::Other(format!("found a tensor of {other}, expected floats"))),
    };
    let shape = tensor.shape().iter().map(|extent| extent.unsigned_abs() as usize).collect();
    Ok(HostTensor { dtype, shape, bytes: tensor.to_bytes()? })
}

/// The same values on the device, in the same dtype.
///
/// # Errors
/// If they are no floats, or an extent is too large.
pub fn from_host(host: &HostTensor) -> Result<Tensor<Stored>> {
    let dtype = match host.dtype {
        HostDtype::BF16 => Dtype::BF16,
        HostDtype::F16 => Dtype::F16,
        HostDtype::F32 => Dtype::F32,
        other => return Err(Error::Other(format!("found a tensor of {other}, expected F32, BF16 or F16"))),
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
    }
}
