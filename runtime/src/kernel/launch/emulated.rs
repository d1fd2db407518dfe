//! A launch in the emulator: the kernel's own text, run and checked on the CPU.
//!
//! Inputs are evaluated on the host in the middle of the graph. That is safe where this is reached from: inside a custom
//! VJP, whose forward and backward MLX never differentiates, and in inference.

use cotangent_emulator::{Buffer, Dtype, Emulator, KernelText, Launch, Port, Run, Schedule, Source, TemplateValue};
use mlx_rs::Array;

use super::Request;
use crate::{Error, Result, ffi};

/// One array for each output.
///
/// # Errors
/// [`Error::Kernel`] if the text does not compile, the emulator finds a defect (a race, a read out of bounds …), or the
/// result depends on the order of threads.
pub(super) fn run(request: &Request<'_>) -> Result<Vec<Array>> {
    let outputs = request.outputs()?;
    let extents = request.extents()?;
    let inputs = request.input_arrays();
    let contents = inputs.iter().map(ffi::array_to_bytes).collect::<Result<Vec<_>>>()?;
    let buffers = inputs.iter().zip(&contents).map(|(array, bytes)| {
        let shape: Vec<usize> = array.shape().iter().map(|extent| *extent as usize).collect();
        Ok(Buffer::new(dtype(request, array.dtype())?, shape, bytes.as_slice()))
    });
    let launch = Launch {
        grid: unsigned(extents.grid),
        threadgroup: unsigned(extents.threads),
        inputs: buffers.collect::<Result<_>>()?,
        output_shapes: outputs
            .iter()
            .map(|output| output.shape.iter().map(|extent| *extent as usize).collect())
            .collect(),
        ..Launch::default()
    };
    let kernel = kernel_text(request, &inputs)?;
    let emulator = Emulator::global().map_err(|error| request.error(error.to_string()))?;
    let run = run_clean(request, emulator, &kernel, &launch)?;
    if !request.launch.nondeterministic {
        // A GPU promises no order, so the result must not depend on one.
        let reversed = Launch { schedule: Schedule::Reversed, ..launch };
        let again = run_clean(request, emulator, &kernel, &reversed)?;
        if let Some(index) = (0..outputs.len()).find(|index| run.outputs[*index] != again.outputs[*index]) {
            let port = Some(request.output_names()[index]);
            let message = "its result depends on the order in which threads run; order them with barriers, or declare the \
                           kernel `nondeterministic`";
            return Err(Error::Kernel { kernel: request.name(), port, message: message.to_owned() });
        }
    }
    let arrays = outputs
        .iter()
        .zip(&run.outputs)
        .map(|(output, bytes)| ffi::array_from_bytes(bytes, crate::Dtype::from_mlx(output.dtype), &output.shape));
    Ok(arrays.collect())
}

fn run_clean(request: &Request<'_>, emulator: &Emulator, kernel: &KernelText, launch: &Launch<'_>) -> Result<Run> {
    let run = emulator.run(kernel, launch).map_err(|error| request.error(error.to_string()))?;
    if run.is_clean() {
        return Ok(run);
    }
    let findings: Vec<String> = run.findings.iter().map(ToString::to_string).collect();
    Err(request.error(format!("the emulator found a defect\n{}", findings.join("\n"))))
}

fn kernel_text(request: &Request<'_>, inputs: &[Array]) -> Result<KernelText> {
    let input_ports = request.input_names().into_iter().zip(inputs);
    let outputs = request.outputs()?;
    let output_ports = request.output_names().into_iter().zip(&outputs);
    let template = request.template_arguments().into_iter().map(|(name, value)| {
        let value = match value {
            super::TemplateValue::Dtype(found) => TemplateValue::Dtype(dtype(request, found)?),
            super::TemplateValue::Int(value) => TemplateValue::Int(value),
            super::TemplateValue::Bool(value) => TemplateValue::Bool(value),
        };
        Ok((name, value))
    });
    Ok(KernelText {
        name: request.name().to_owned(),
        header: Source { text: request.launch.headers.concat(), ..Source::default() },
        body: Source {
            text: format!("{}\n{}", request.dimension_definitions(), request.launch.metal),
            file: request.declaration.file.to_owned(),
            // The definitions take the line before the text.
            line: request.launch.line.saturating_sub(1),
        },
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

fn unsigned((x, y, z): (i32, i32, i32)) -> [u32; 3] {
    [x, y, z].map(|extent| extent.unsigned_abs())
}

fn dtype(request: &Request<'_>, dtype: mlx_rs::Dtype) -> Result<Dtype> {
    Ok(match dtype {
        mlx_rs::Dtype::Bool => Dtype::Bool,
        mlx_rs::Dtype::Uint8 => Dtype::U8,
        mlx_rs::Dtype::Uint32 => Dtype::U32,
        mlx_rs::Dtype::Int32 => Dtype::I32,
        mlx_rs::Dtype::Int64 => Dtype::I64,
        mlx_rs::Dtype::Float16 => Dtype::F16,
        mlx_rs::Dtype::Bfloat16 => Dtype::Bf16,
        mlx_rs::Dtype::Float32 => Dtype::F32,
        other => {
            let message = format!("found {other:?}, which kernels of this crate do not have");
            return Err(Error::Kernel { kernel: request.name(), port: None, message });
        }
    })
}
