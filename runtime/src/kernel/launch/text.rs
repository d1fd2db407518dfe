//! A launch in the form of `cotangent-metal`, which the emulator runs and which is translated to CUDA.

use cotangent_metal::{Dtype, KernelText, Port, Source, TemplateValue};
use mlx_rs::Array;

use super::super::mutation;
use super::LaunchRequest;
use crate::{Error, Result};

/// Returns the kernel source with its ports and template values.
pub(super) fn kernel_text(request: &LaunchRequest<'_>, inputs: &[Array]) -> Result<KernelText> {
    let input_ports = request.input_names().into_iter().zip(inputs);
    let outputs = request.outputs()?;
    let output_ports = request.output_names().into_iter().zip(&outputs);
    let template = request.template_arguments().into_iter().map(|(name, value)| {
        let value = match value {
            super::TemplateValue::Dtype(found) => TemplateValue::Dtype(dtype(request, found.to_mlx())?),
            super::TemplateValue::Int(value) => TemplateValue::Int(value),
            super::TemplateValue::Bool(value) => TemplateValue::Bool(value),
        };
        Ok((name, value))
    });
    Ok(KernelText {
        name: request.name().to_owned(),
        header: Source { text: mutation::headers(request.declaration, request.launch), ..Source::default() },
        body: Source { text: request.placed_text(), file: request.file(), line: request.launch.line },
        inputs: input_ports
            .map(|(name, array)| Ok(Port::new(name, dtype(request, array.dtype())?)))
            .collect::<Result<_>>()?,
        outputs: output_ports
            .map(|(name, output)| Ok(Port::new(name, dtype(request, output.dtype)?)))
            .collect::<Result<_>>()?,
        template: template.collect::<Result<_>>()?,
        init_value: request.launch.init,
        atomic_outputs: request.launch.atomic,
    })
}

pub(super) fn shape(array: &Array) -> Vec<usize> {
    array.shape().iter().map(|extent| *extent as usize).collect()
}

pub(super) fn unsigned((x, y, z): (i32, i32, i32)) -> [u32; 3] {
    [x, y, z].map(|extent| extent.unsigned_abs())
}

/// The dtype of `cotangent-metal`.
pub(super) fn dtype(request: &LaunchRequest<'_>, dtype: mlx_rs::Dtype) -> Result<Dtype> {
    Ok(match dtype {
        mlx_rs::Dtype::Bool => Dtype::Bool,
        mlx_rs::Dtype::Int8 => Dtype::I8,
        mlx_rs::Dtype::Uint8 => Dtype::U8,
        mlx_rs::Dtype::Int16 => Dtype::I16,
        mlx_rs::Dtype::Uint16 => Dtype::U16,
        mlx_rs::Dtype::Int32 => Dtype::I32,
        mlx_rs::Dtype::Uint32 => Dtype::U32,
        mlx_rs::Dtype::Int64 => Dtype::I64,
        mlx_rs::Dtype::Uint64 => Dtype::U64,
        mlx_rs::Dtype::Float16 => Dtype::F16,
        mlx_rs::Dtype::Bfloat16 => Dtype::BF16,
        mlx_rs::Dtype::Float32 => Dtype::F32,
        mlx_rs::Dtype::Float64 => Dtype::F64,
        other => {
            let message = format!("found {other:?}, which kernels of this crate do not have");
            return Err(Error::Kernel { kernel: request.name(), port: None, message });
        }
    })
}
