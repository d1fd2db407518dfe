//! The numbers that codes stand for: the kernel gives them the bits that MLX gives them on a CPU.

use crate::cases::{assert_same_in_the_emulator, random};
use cotangent::{CodeFormat, CodeMode, Dtype, Frozen, Infer, Packed, Result, Session, Tensor};
use cotangent_kernels::decoded_matrix;

/// The matrix in a dtype: by the kernel where that runs, or by MLX.
fn decode(
    _: &Tensor<Infer>,
    _: &Tensor<Infer>,
    (matrix, dtype, is_own): &(Packed, Dtype, bool),
) -> Result<Tensor<Infer>> {
    if *is_own { decoded_matrix(matrix, *dtype) } else { Ok(matrix.decode(*dtype)?.to_tensor()) }
}

#[test]
fn decoded_matrices_have_the_bits_of_mlx() {
    let mut session = Session::new().unwrap();
    let nothing = Tensor::zeros(&[1], Dtype::F32).unwrap();
    for (shape, group, bits) in [
        (&[5, 384][..], 128, 8),
        (&[7, 64], 64, 8),
        (&[9, 32], 32, 8),
        (&[5, 384], 128, 4),
        (&[67, 128], 64, 4),
        (&[3, 96], 32, 4),
        (&[3, 256], 128, 2),
        (&[2, 3, 64], 32, 2),
    ] {
        let format = CodeFormat::new(CodeMode::Affine, Some(group), Some(bits)).unwrap();
        let parts: Vec<_> = random(4, shape, 1.0).quantize(format).unwrap().into_iter().map(Frozen::new).collect();
        let matrix = Packed::new(&parts[0], &parts[1], parts.get(2), format, Dtype::F32).unwrap();
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            let mut of = |is_own: bool| {
                let host = (matrix.clone(), dtype, is_own);
                let decoded = session.infer(&nothing, &nothing, &host, decode).unwrap();
                assert_eq!((decoded.shape(), decoded.dtype()), (shape, dtype));
                decoded.to_bytes().unwrap()
            };
            assert!(of(true) == of(false), "{format}, {shape:?}, {dtype}");
        }
    }
}

#[test]
fn the_same_holds_in_the_emulator() {
    assert_same_in_the_emulator(module_path!(), &[]);
}
