//! A launch on an Apple GPU, through MLX's `metal_kernel`.

use cotangent_emulator::TILE_METAL;
use mlx_rs::Array;
use mlx_rs::fast::{MetalKernel, MetalKernelApplyOptions, MetalKernelOptions, MetalKernelOutput, TemplateArg};

use super::{Request, TemplateValue};
use crate::Result;
use crate::error::Context as _;

/// One array for each output, not yet evaluated.
pub(super) fn run(request: &Request<'_>) -> Result<Vec<Array>> {
    let name = request.name();
    let extents = request.extents()?;
    let options = MetalKernelOptions {
        header: header(request),
        ensure_row_contiguous: !request.launch.strided,
        atomic_outputs: request.launch.atomic,
    };
    let kernel =
        MetalKernel::new(name, &request.input_names(), &request.output_names(), &request.placed_text(), options);
    let outputs: Vec<_> =
        request.outputs()?.into_iter().map(|o| MetalKernelOutput { shape: o.shape, dtype: o.dtype }).collect();
    let inputs = request.input_arrays();
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

/// What goes before the kernel: our `tile`, which Metal does not have, where the text speaks of it.
fn header(request: &Request<'_>) -> String {
    let own = request.launch.headers.concat();
    if request.launch.metal.contains("tile") || own.contains("tile") { format!("{TILE_METAL}{own}") } else { own }
}
