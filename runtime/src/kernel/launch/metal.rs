//! A launch on an Apple GPU, through MLX's `metal_kernel`.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use cotangent_metal::headers::TILE_METAL;
use mlx_rs::Array;
use mlx_rs::fast::{MetalKernel, MetalKernelApplyOptions, MetalKernelOptions, MetalKernelOutput, TemplateArg};

use super::{LaunchRequest, TemplateValue};
use crate::error::Context as _;
use crate::{Dtype, Result};

/// One array for each output, not yet evaluated.
pub(super) fn run(request: &LaunchRequest<'_>) -> Result<Vec<Array>> {
    let name = request.name();
    let extents = request.extents()?;
    let options = MetalKernelOptions {
        header: header(request),
        ensure_row_contiguous: !request.launch.strided,
        atomic_outputs: request.launch.atomic,
    };
    let inputs = request.input_arrays();
    let kernel = MetalKernel::new(
        &distinct_name(request, &inputs),
        &request.input_names(),
        &request.output_names(),
        &request.placed_text(),
        options,
    );
    let outputs: Vec<_> =
        request.outputs()?.into_iter().map(|o| MetalKernelOutput { shape: o.shape, dtype: o.dtype }).collect();
    let inputs: Vec<&Array> = inputs.iter().collect();
    let template_args = request.template_arguments().into_iter().map(|(name, value)| {
        let value = match value {
            TemplateValue::Dtype(dtype) => TemplateArg::Dtype(dtype.to_mlx()),
            TemplateValue::Int(value) => TemplateArg::Int(value),
            TemplateValue::Bool(value) => TemplateArg::Bool(value),
        };
        (name, value)
    });
    let options = MetalKernelApplyOptions {
        template_args: template_args.collect(),
        init_value: request.launch.init,
        verbose: false,
    };
    let kernel = kernel.during(name)?;
    // SAFETY: shapes, dtypes and extents are those the kernel declares, checked against this call; that its text stays
    // inside them and writes every output is what the emulator checks for every declared case.
    unsafe { kernel.apply(&inputs, &outputs, extents.grid, extents.threads, options) }.during(name)
}

/// MLX's bound between inputs in `constant` and in `device` memory, in elements.
const SMALL: usize = 8;

/// Returns the kernel's name with a hash of its module and of what decides the signature that MLX makes for it: the dtype
/// of each input, whether it is a scalar, and whether it is small. MLX caches one source per name, template values apart.
/// Two sources of one name, such as those of a full and of a short last batch, would replace each other in the cache and
/// be compiled at every switch.
fn distinct_name(request: &LaunchRequest<'_>, inputs: &[Array]) -> String {
    let mut hasher = DefaultHasher::new();
    request.declaration.signature.module.hash(&mut hasher);
    for input in inputs {
        (Dtype::from_mlx(input.dtype()), input.ndim() == 0, input.size() < SMALL).hash(&mut hasher);
    }
    format!("{}_{:016x}", request.name(), hasher.finish())
}

/// Returns the header of the kernel. It contains `tile`, which Metal does not have, if the source uses it.
fn header(request: &LaunchRequest<'_>) -> String {
    let own = request.launch.headers.concat();
    if request.launch.metal.contains("tile") || own.contains("tile") { format!("{TILE_METAL}{own}") } else { own }
}

#[cfg(test)]
mod tests {
    use super::super::cuda::tests::{TRANSLATED, call};
    use super::*;

    #[test]
    fn a_name_is_shared_exactly_by_launches_of_one_signature() {
        let name =
            |sizes, dtype| call(&TRANSLATED, sizes, dtype, false, |request, inputs, _| distinct_name(request, inputs));
        let first = name((2, 64), Dtype::F32);
        assert!(first.starts_with("scaled_"), "{first}");
        assert_eq!(first, name((700, 64), Dtype::F32), "sizes are no part of a signature");
        assert_ne!(first, name((1, 7), Dtype::F32), "a small input is in `constant` memory");
        assert_ne!(first, name((2, 64), Dtype::F16), "an input of another dtype");
    }
}
