//! Translates a kernel's source to CUDA: the header and the source that MLX's `cuda_kernel` takes.

use crate::headers::{PACK, shared_by_cuda};
use crate::translate::{Argument, arguments, breaks_on_cuda, cuda_parts, packs};
use crate::{Dtype, Error, KernelText, content_key};

/// A kernel for MLX's `cuda_kernel`. Pass names of inputs and outputs as for Metal, and no template arguments: they are
/// in the text already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaText {
    /// Everything in front of the generated function: types, functions, the kernel itself.
    pub header: String,
    /// The function's body: one call.
    pub source: String,
    /// Whether the source reads [`GRID_INPUT`].
    pub reads_grid: bool,
}

/// The name of one more input, after all others, for sources that ask for it: the grid's three extents in threads, as
/// `i32`. CUDA counts whole blocks only, and a source that contained the numbers would be compiled again for each
/// batch.
pub const GRID_INPUT: &str = "threads_of_grid_";

impl CudaText {
    /// The name of the kernel with a number that no other source has. MLX keeps compiled kernels by their names alone,
    /// also on disk, so two sources of one name would be one kernel.
    pub fn name(&self, kernel: &str) -> String {
        format!("{}_{:032x}", identifier(kernel), content_key([self.header.as_str(), &self.source]))
    }
}

/// The sizes of a launch on CUDA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CudaGrid {
    /// Whether some blocks or warps have threads outside the grid: CUDA starts whole ones. A source depends on its
    /// launch's sizes only through this.
    pub ragged: bool,
}

/// CUDA's limits of a launch: threads of a block in all and along z, blocks along y and z.
const BLOCK_THREADS: u64 = 1024;
const BLOCK_DEPTH: u32 = 64;
const BLOCKS: u32 = 65_535;

impl CudaGrid {
    /// Creates the grid of `grid` threads, as for Metal, in threadgroups of `threadgroup`.
    ///
    /// # Errors
    /// What the launch has too much of, in words: CUDA's limits are tighter than Metal's.
    pub fn new(grid: [u32; 3], threadgroup: [u32; 3]) -> Result<Self, String> {
        let threads: u64 = threadgroup.iter().map(|&extent| u64::from(extent)).product();
        if threads == 0 || threads > BLOCK_THREADS {
            return Err(format!("a threadgroup of {threads} threads, where CUDA takes 1 to {BLOCK_THREADS}"));
        }
        if threadgroup[2] > BLOCK_DEPTH {
            return Err(format!("a threadgroup of {} threads along z, where CUDA takes {BLOCK_DEPTH}", threadgroup[2]));
        }
        for (axis, name) in [(1, "y"), (2, "z")] {
            let blocks = grid[axis].div_ceil(threadgroup[axis]);
            if blocks > BLOCKS {
                return Err(format!("{blocks} threadgroups along {name}, where CUDA takes {BLOCKS}"));
            }
        }
        let whole = grid.iter().zip(threadgroup).all(|(extent, by)| extent.is_multiple_of(by));
        Ok(CudaGrid { ragged: !whole || !threads.is_multiple_of(32) })
    }
}

/// Translates a kernel for inputs of these shapes, of which only the numbers of dimensions matter, and a launch of these
/// sizes.
///
/// # Errors
/// If the text asks for what CUDA has no counterpart of (raw `simdgroup_matrix`), or threads meet in a launch whose
/// threadgroups are ragged: CUDA starts whole blocks of whole warps.
pub fn cuda_text(kernel: &KernelText, input_shapes: &[&[usize]], grid: CudaGrid) -> Result<CudaText, Error> {
    if let Some(refused) = breaks_on_cuda(kernel) {
        return Err(refused);
    }
    let arguments = arguments(kernel, input_shapes);
    let parts = cuda_parts(kernel, &arguments, metal_type)?;
    if grid.ragged && parts.threads_meet {
        let what = "its grid leaves threadgroups or simdgroups ragged, in which threads meet; CUDA has whole ones only";
        return Err(Error::Launch { kernel: kernel.name.clone(), what: what.to_owned() });
    }

    let mut header = shared_by_cuda();
    if packs(kernel) {
        header += PACK;
    }
    let name = identifier(&kernel.name);
    // The source goes into the namespace `metal`, whose names hide CUDA's own `half`, `float4`, `max`.
    header += &format!("namespace metal {{ namespace kernel_{name} {{\n{}\n}} }}\n", parts.text);

    let values: Vec<String> = arguments.iter().map(|argument| value(kernel, argument)).collect();
    let mut source = String::new();
    if grid.ragged {
        source += &format!(
            "{{ metal::uint3 at_ = metal::attribute_thread_position_in_grid(), end_ = {GRID};\n  if (at_.x >= end_.x || \
             at_.y >= end_.y || at_.z >= end_.z) return; }}\n"
        );
    }
    source += &format!("metal::kernel_{name}::metal_kernel_body{}({});\n", parts.instance, values.join(", "));
    let reads_grid = source.contains(GRID_INPUT);
    Ok(CudaText { header, source, reads_grid })
}

/// The grid, from the input that brings it.
const GRID: &str = "metal::uint3(threads_of_grid_[0], threads_of_grid_[1], threads_of_grid_[2])";

/// The argument as an expression of MLX's parameters: all inputs are pointers there, shapes are arrays by value.
fn value(kernel: &KernelText, argument: &Argument<'_>) -> String {
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
        // CUDA launches whole blocks, so the size of a ragged grid is not known here.
        Argument::Attribute { name: "threads_per_grid" | "grid_size", .. } => GRID.to_owned(),
        Argument::Attribute { name, .. } => format!("metal::attribute_{name}()"),
    }
}

fn metal_type(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 => "metal::half",
        Dtype::BF16 => "metal::bfloat",
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
