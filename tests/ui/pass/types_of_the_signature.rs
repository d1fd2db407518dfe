//! What a kernel takes and returns and the bound of its mode are known where the kernel is, whatever its visibility.

use cotangent::{Graph, Infer, Mask, Result, Tensor, differentiable};

#[differentiable(fallback = by_operations, cases = [(N = 7)])]
fn split(x: In![f32; N], y: Out![f32; N], z: Out![f32; N]) {
    Ok(Outputs { y: x.clone(), z: x.square()? })
}

fn by_operations<M: Graph>(x: &Tensor<M>) -> Result<SplitOutputs<M>> {
    Ok(SplitOutputs { y: x.clone(), z: x.square()? })
}

mod layers {
    use cotangent::kernel::InferenceMode;

    pub mod attention {
        use cotangent::differentiable;

        #[differentiable(inference_only = "it reads a cache", cases = [(N = 7)])]
        pub(super) fn near(
            x: In![f32; N],
            a: In![f32; N],
            b: In![f32; N],
            c: Option<In![f32; N]>,
            y: Out![f32; N],
            z: Out![f32; N],
        ) {
            let y = x.add(a)?.add(b)?;
            Ok(Outputs { y: if let Some(c) = c { y.add(c)? } else { y }, z: x.square()? })
        }

        #[differentiable(inference_only = "it reads a cache", cases = [(N = 7)])]
        pub(in super::super::layers) fn far(x: In![f32; N], y: Out![f32; N], z: Out![f32; N]) {
            Ok(Outputs { y: x.clone(), z: x.square()? })
        }
    }

    #[expect(private_bounds, reason = "the bounds are as visible as their kernels")]
    pub(super) fn both<M: InferenceMode<attention::near> + InferenceMode<attention::far>>(
        x: &cotangent::Tensor<M>,
    ) -> cotangent::Result<cotangent::Tensor<M>> {
        let inputs = attention::NearInputs { x, a: x, b: x, c: None };
        let attention::NearOutputs { y, .. } = attention::near(inputs)?;
        y.add(&attention::far(x)?.z)
    }
}

fn inside_a_function<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    #[differentiable(fallback = parts, cases = [(N = 7)])]
    fn part(x: In![f32; N], inputs: In![f32; N], W: In![f32; N], keep: In![bool; N], y: Out![f32; N], z: Out![f32; N]) {
        let PartOutputs { y, z } = parts(PartInputs { x, inputs, W, keep })?;
        Ok(Outputs { y, z })
    }

    fn parts<M: Graph>(named: PartInputs<'_, M>) -> Result<PartOutputs<M>> {
        let PartInputs { x, inputs, W: w, keep } = named;
        Ok(PartOutputs { y: x.multiply(w)?.select(keep, 0.0)?, z: inputs.square()? })
    }

    let keep = Mask::from_slice(&[true], &[1])?;
    let PartOutputs { y, z } = part(PartInputs { x, inputs: x, W: x, keep: &keep })?;
    y.add(&z)
}

/// Made by a macro, with constants and indices alone.
macro_rules! chosen {
    ($name:ident, $inputs:ident) => {
        #[differentiable(inference_only = "a choice", cases = [(N = 7)])]
        pub fn $name(
    #[nodiff] table: In![f32; N],
    #[values(0..N)] first: In![i32; 3],
    #[values(0..N)] second: In![i32; 3],
    keep: In![bool; 3],
    y: Out![f32; 3],
        ) {
            let $inputs { table, first, second, keep } = $inputs { table, first, second, keep };
            let table = table.to_tensor();
            Ok(Outputs { y: table.take_rows(first)?.add(&table.take_rows(second)?)?.select(keep, 0.0)? })
        }
    };
}
chosen!(chosen, ChosenInputs);

pub fn main() {
    let _ = (split::<Infer>, layers::both::<Infer>, inside_a_function::<Infer>);
}
