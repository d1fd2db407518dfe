//! The same kernel text for CUDA: what MLX's `cuda_kernel` takes as header and source.

use crate::text::{Argument, arguments, breaks_on_cuda, cuda_parts};
use crate::{Dtype, Error, KernelText};

/// A kernel for MLX's `cuda_kernel`. Pass names of inputs and outputs as for Metal, and no template arguments: they are
/// in the text already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaText {
    /// Everything in front of the generated function: types, functions, the kernel itself.
    pub header: String,
    /// The function's body: one call.
    pub source: String,
}

/// What all CUDA kernels share, in order.
const SHIM: [&str; 5] = [
    include_str!("../shim/cuda_begin.h"),
    include_str!("../shim/types.h"),
    include_str!("../shim/math.h"),
    include_str!("../shim/cuda.h"),
    include_str!("../shim/mlx.h"),
];

/// Translates a kernel for inputs of these shapes and a launch of this size (`grid` in threads, as for Metal).
///
/// # Errors
/// If the text asks for what CUDA has no counterpart of (raw `simdgroup_matrix`), or threads meet in a launch whose
/// threadgroups are ragged: CUDA starts whole blocks of whole warps.
pub fn cuda_text(
    kernel: &KernelText,
    input_shapes: &[&[usize]],
    grid: [u32; 3],
    threadgroup: [u32; 3],
) -> Result<CudaText, Error> {
    if let Some(refused) = breaks_on_cuda(kernel) {
        return Err(refused);
    }
    let arguments = arguments(kernel, input_shapes);
    let parts = cuda_parts(kernel, &arguments, metal_type)?;
    let refuse = |what: String| Error::Launch { kernel: kernel.name.clone(), what };
    let threads: u32 = threadgroup.iter().product();
    let ragged =
        (0..3).any(|d| threadgroup[d] == 0 || !grid[d].is_multiple_of(threadgroup[d])) || !threads.is_multiple_of(32);
    if ragged && parts.threads_meet {
        return Err(refuse(format!(
            "grid {grid:?} in threadgroups of {threadgroup:?} leaves ragged threadgroups or simdgroups, in which threads meet; \
             CUDA has whole ones only"
        )));
    }
    if threads > 1024 || threadgroup[2] > 64 || threadgroup.contains(&0) {
        return Err(refuse(format!("CUDA has no threadgroup of {threadgroup:?}")));
    }

    let mut header: String = SHIM.concat();
    let name = identifier(&kernel.name);
    // Inside the namespace `metal`, whose names hide CUDA's own `half`, `float4`, `max`.
    header += &format!("namespace metal {{ namespace kernel_{name} {{\n{}\n}} }}\n", parts.text);

    let values: Vec<String> = arguments.iter().map(|a| value(kernel, a, grid)).collect();
    let mut source = String::new();
    if ragged {
        source += &format!(
            "{{ metal::uint3 at_ = metal::attribute_thread_position_in_grid();\n  if (at_.x >= {}u || at_.y >= {}u || at_.z >= \
             {}u) return; }}\n",
            grid[0], grid[1], grid[2]
        );
    }
    source += &format!("metal::kernel_{name}::metal_kernel_body{}({});\n", parts.instance, values.join(", "));
    Ok(CudaText { header, source })
}

/// The argument as an expression of MLX's parameters: all inputs are pointers there, shapes are arrays by value.
fn value(kernel: &KernelText, argument: &Argument<'_>, grid: [u32; 3]) -> String {
    match argument {
        Argument::Input { port, scalar, .. } => {
            format!("{}(const {}*){}", if *scalar { "*" } else { "" }, metal_type(port.dtype), port.name)
        }
        Argument::Shape { port, .. } => format!("(const int*){}_shape.data()", port.name),
        Argument::Strides { port, .. } => format!("(const long*){}_strides.data()", port.name),
        Argument::Ndim { port, .. } => format!("{}_ndim", port.name),
        Argument::Output { port, .. } if kernel.atomic_outputs => {
            format!("(metal::atomic<{}>*){}", metal_type(port.dtype), port.name)
        }
        Argument::Output { port, .. } => format!("({}*){}", metal_type(port.dtype), port.name),
        // A ragged grid cannot be told from blocks.
        Argument::Attribute { name: "threads_per_grid" | "grid_size", .. } => {
            format!("metal::uint3({}u, {}u, {}u)", grid[0], grid[1], grid[2])
        }
        Argument::Attribute { name, .. } => format!("metal::attribute_{name}()"),
    }
}

fn metal_type(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 => "metal::half",
        Dtype::Bf16 => "metal::bfloat",
        Dtype::I8 => "signed char",
        Dtype::U8 => "unsigned char",
        Dtype::I16 => "short",
        Dtype::U16 => "unsigned short",
        Dtype::U32 => "unsigned int",
        Dtype::I64 => "long",
        Dtype::U64 => "unsigned long",
        other => other.metal(),
    }
}

fn identifier(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
