//! A kernel's CUDA source as a whole program, as MLX assembles it.

use crate::headers::shared_by_cuda;
use crate::{CudaText, Dtype, GRID_INPUT, KernelText};

/// Stand-ins for what MLX's own headers declare and a kernel's parameters need.
const PRELUDE: &str = "struct __half { unsigned short x; };
struct __nv_bfloat16 { unsigned short x; };
template <class T> struct Array { T at[10]; __device__ const T* data() const { return at; } };
";

/// A text and the kernel it was made of.
#[derive(Clone, Debug)]
pub struct CudaUnit<'a> {
    /// The kernel.
    pub kernel: &'a KernelText,
    /// The shapes of the kernel's inputs.
    pub input_shapes: Vec<&'a [usize]>,
    /// The kernel source for CUDA.
    pub text: &'a CudaText,
}

impl CudaUnit<'_> {
    /// Several units in one program, by their numbers: what all share is read once. The function of unit 3 is `entry_3`.
    pub fn source_of_all(units: &[CudaUnit<'_>], batch: &[usize]) -> String {
        let shared = shared_by_cuda();
        let mut source = format!("{PRELUDE}{shared}");
        for &unit in batch {
            let header = &units[unit].text.header;
            source += header.strip_prefix(&shared).unwrap_or(header);
        }
        for &unit in batch {
            source += &units[unit].function(&format!("entry_{unit}"));
        }
        source
    }

    /// Returns the program that MLX's `cuda_kernel` makes of it, without MLX's own headers; `entry` is the function's
    /// name.
    pub fn source(&self, entry: &str) -> String {
        format!("{PRELUDE}{}\n{}", self.text.header, self.function(entry))
    }

    fn function(&self, entry: &str) -> String {
        let (kernel, text) = (self.kernel, self.text);
        let mut parameters = Vec::new();
        for (port, shape) in kernel.inputs.iter().zip(&self.input_shapes) {
            parameters.push(format!("const {}* {}", cuda_type(port.dtype), port.name));
            if !shape.is_empty() {
                for (suffix, declared) in
                    [("shape", "const Array<int>"), ("strides", "const Array<long>"), ("ndim", "const int")]
                {
                    let name = format!("{}_{suffix}", port.name);
                    if text.source.contains(&name) {
                        parameters.push(format!("{declared} {name}"));
                    }
                }
            }
        }
        if text.reads_grid {
            parameters.push(format!("const int* {GRID_INPUT}"));
        }
        parameters.extend(kernel.outputs.iter().map(|port| format!("{}* {}", cuda_type(port.dtype), port.name)));
        format!("extern \"C\" __global__ void {entry}({}) {{\n{}\n}}\n", parameters.join(", "), text.source)
    }
}

/// The units of one program, at most.
const BATCH: usize = 8;

/// Parts the numbers in `new` into programs. Two texts of one kernel would define the same names, so each gets its own.
pub fn batches(units: &[CudaUnit<'_>], new: &[usize]) -> Vec<Vec<usize>> {
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for &unit in new {
        let name = &units[unit].kernel.name;
        let fits = |batch: &&mut Vec<usize>| {
            batch.len() < BATCH && batch.iter().all(|&other| units[other].kernel.name != *name)
        };
        match batches.iter_mut().find(fits) {
            Some(batch) => batch.push(unit),
            None => batches.push(vec![unit]),
        }
    }
    batches
}

/// The type that MLX declares for a buffer.
fn cuda_type(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 => "__half",
        Dtype::BF16 => "__nv_bfloat16",
        Dtype::F32 => "float",
        Dtype::F64 => "double",
        Dtype::Bool => "bool",
        Dtype::I32 => "int",
        Dtype::U32 => "unsigned int",
        Dtype::I8 => "signed char",
        Dtype::U8 => "unsigned char",
        Dtype::I16 => "short",
        Dtype::U16 => "unsigned short",
        Dtype::I64 => "long",
        Dtype::U64 => "unsigned long",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CudaGrid, cuda_text};

    #[test]
    fn a_program_holds_one_text_of_a_kernel_and_what_all_share_once() {
        let kernel = |name: &str| KernelText::new(name, "y[thread_position_in_grid.x] = 1;").output("y", Dtype::F32);
        let kernels: Vec<KernelText> = ["a", "b", "a", "c"].map(kernel).into();
        let text =
            |kernel| cuda_text(kernel, &[], CudaGrid { ragged: false }).unwrap_or_else(|error| panic!("{error}"));
        let texts: Vec<CudaText> = kernels.iter().map(text).collect();
        let units: Vec<CudaUnit<'_>> = kernels
            .iter()
            .zip(&texts)
            .map(|(kernel, text)| CudaUnit { kernel, input_shapes: Vec::new(), text })
            .collect();
        assert_eq!(batches(&units, &[0, 1, 2, 3]), [vec![0, 1, 3], vec![2]]);
        let source = CudaUnit::source_of_all(&units, &[0, 1, 3]);
        assert_eq!(source.matches("struct simd_vote {").count(), 1);
        for name in ["kernel_a {", "kernel_b {", "kernel_c {", "void entry_0(", "void entry_3("] {
            assert!(source.contains(name), "{name}");
        }
    }
}
