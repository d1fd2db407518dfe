//! A linear layer of packed codes: it is the layer of the matrix that they stand for, in both directions.

use crate::cases::{Operator, random};
use cotangent::{CodeFormat, CodeMode, Dtype, Error, Frozen, Graph, Packed, Result, Tensor};
use cotangent_kernels::{adapted_linear, packed_linear};

/// x, and an adapter's two matrices.
#[derive(Clone)]
struct Layer {
    matrix: Packed,
    is_packed: bool,
}

impl Operator for Layer {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let decoded = || Ok::<_, Error>(self.matrix.decode(Dtype::F32)?.to_tensor::<M>());
        Ok(vec![match (inputs, self.is_packed) {
            ([x], true) => packed_linear(x, &self.matrix, None)?,
            ([x], false) => x.linear(&decoded()?)?,
            ([x, a, b], true) => packed_linear(x, &self.matrix, Some(([a, b], 0.7)))?,
            ([x, a, b], false) => adapted_linear(x, &decoded()?, a, b, 0.7)?,
            _ => unreachable!(),
        }])
    }
}

fn packed(format: CodeFormat, rows: i32, columns: i32) -> Packed {
    let mut parts = random(4, &[rows, columns], 1.0).quantize(format).unwrap().into_iter().map(Frozen::new);
    let (words, scales, biases) = (parts.next().unwrap(), parts.next().unwrap(), parts.next());
    Packed::new(&words, &scales, biases.as_ref(), format, Dtype::F32).unwrap()
}

#[test]
fn codes_of_every_format_are_the_matrix_they_stand_for() {
    let affine = |group, bits| CodeFormat::new(CodeMode::Affine, Some(group), Some(bits)).unwrap();
    let floats = |mode| CodeFormat::new(mode, None, None).unwrap();
    let formats = [2, 3, 4, 5, 6, 8].map(|bits| affine(32, bits)).into_iter();
    let formats = formats.chain([affine(64, 5), affine(128, 3)]);
    let formats = formats.chain([CodeMode::Mxfp4, CodeMode::Mxfp8, CodeMode::Nvfp4].map(floats));
    let inputs = [random(1, &[2, 3, 128], 1.0), random(2, &[128, 2], 1.0), random(3, &[2, 24], 1.0)];
    let cotangent = [random(5, &[2, 3, 24], 1.0)];
    for format in formats {
        let of = |is_packed| Layer { matrix: packed(format, 24, 128), is_packed };
        for inputs in [&inputs[..1], &inputs] {
            crate::cases::assert_gradients(&of(true), &of(false), inputs, &cotangent, 3e-6);
        }
    }
}

#[test]
fn leaves_that_do_not_fit_are_refused() {
    let leaf = |shape: &[i32], dtype| Frozen::new(Tensor::zeros(shape, dtype).unwrap());
    let [four, mxfp4] = [CodeMode::Affine, CodeMode::Mxfp4].map(|mode| CodeFormat::new(mode, None, Some(4)).unwrap());
    let refused = |words, scales, biases: Option<_>, format| {
        Packed::new(&words, &scales, biases.as_ref(), format, Dtype::F32).unwrap_err().to_string()
    };
    let (u32s, f32s, bytes) = (Dtype::U32, Dtype::F32, Dtype::U8);
    let scales = || leaf(&[4, 2], f32s);
    assert!(refused(leaf(&[4, 8], u32s), scales(), Some(scales()), four).contains("words [4, 8]"));
    assert!(refused(leaf(&[4, 16], u32s), scales(), None, four).contains("biases None"));
    assert!(refused(leaf(&[4, 16], f32s), scales(), Some(scales()), four).contains("float32"));
    assert!(refused(leaf(&[4, 16], u32s), scales(), None, mxfp4).contains("codes of 4 bits in groups of 32 (mxfp4)"));
    assert!(refused(leaf(&[4, 8], u32s), leaf(&[4, 2], bytes), Some(scales()), mxfp4).contains("biases Some"));
}
