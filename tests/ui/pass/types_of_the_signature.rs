//! What a kernel returns and the bound of its mode are known where the kernel is, whatever its visibility.

use cotangent::{Graph, Infer, Result, Tensor, differentiable};

#[differentiable(fallback = by_operations, cases = [(N = 7)])]
fn split(x: In![f32; N], y: Out![f32; N], z: Out![f32; N]) {
    Ok(Outputs { y: x.clone(), z: x.square()? })
}

fn by_operations<M: Graph>(x: &Tensor<M>) -> Result<SplitOutputs<M>> {
    Ok(SplitOutputs { y: x.clone(), z: x.square()? })
}

mod layers {
    pub mod attention {
        use cotangent::differentiable;

        #[differentiable(inference_only = "it reads a cache", cases = [(N = 7)])]
        pub(super) fn near(x: In![f32; N], y: Out![f32; N], z: Out![f32; N]) {
            Ok(Outputs { y: x.clone(), z: x.square()? })
        }

        #[differentiable(inference_only = "it reads a cache", cases = [(N = 7)])]
        pub(in super::super::layers) fn far(x: In![f32; N], y: Out![f32; N], z: Out![f32; N]) {
            Ok(Outputs { y: x.clone(), z: x.square()? })
        }
    }

    #[expect(private_bounds, reason = "the bounds are as visible as their kernels")]
    pub(super) fn both<M: attention::NearMode + attention::FarMode>(
        x: &cotangent::Tensor<M>,
    ) -> cotangent::Result<cotangent::Tensor<M>> {
        let attention::NearOutputs { y, .. } = attention::near(x)?;
        y.add(&attention::far(x)?.z)
    }
}

fn inside_a_function<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    #[differentiable(fallback = parts, cases = [(N = 7)])]
    fn part(x: In![f32; N], y: Out![f32; N], z: Out![f32; N]) {
        Ok(Outputs { y: x.clone(), z: x.square()? })
    }

    fn parts<M: Graph>(x: &Tensor<M>) -> Result<PartOutputs<M>> {
        Ok(PartOutputs { y: x.clone(), z: x.square()? })
    }

    let PartOutputs { y, z } = part(x)?;
    y.add(&z)
}

pub fn main() {
    let _ = (split::<Infer>, layers::both::<Infer>, inside_a_function::<Infer>);
}
