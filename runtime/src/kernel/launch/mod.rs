//! Runs one launch: assembles the source and passes it to the backend.

mod cuda;
mod cuda_modules;
mod cuda_source;
#[cfg(feature = "emulator")]
pub(super) mod emulated;
mod metal;
pub(super) mod nvrtc;
mod orders;
mod text;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use cotangent_metal::limits::{MAX_THREADGROUP_BYTES, MAX_THREADS};
use cotangent_metal::{CudaText, KernelText};
use mlx_rs::{Array, Dtype};

use super::binding::Symbols;
use super::declaration::{Declaration, Launch};
use super::mutation;
use super::signature::{ConstantKind, Expression, Port, PortRole, Signature};
use super::value::{Content, PortValue, ScalarValue};
use crate::{Backend, Error, Result};

pub(super) use self::orders::in_one_order;

/// The beginning of an error that the emulator's findings caused.
pub(super) const DEFECT: &str = "the emulator found a defect";

/// A launch with everything it needs.
pub(super) struct LaunchRequest<'a> {
    pub(super) declaration: &'static Declaration,
    pub(super) launch: &'static Launch,
    pub(super) inputs: &'a [&'a Array],
    /// Whether each input only holds the place of an optional port that the call leaves out.
    pub(super) absent: &'a [bool],
    pub(super) symbols: &'a Symbols,
    pub(super) scalars: &'a [ScalarValue],
    /// Whether residuals will be read.
    pub(super) saves: bool,
    /// Whether each gradient is wanted, in the order of the inputs.
    pub(super) wants: &'a [bool],
}

/// A value of a template parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum TemplateValue {
    Dtype(crate::Dtype),
    Int(i32),
    Bool(bool),
}

/// The shape and dtype of one output of a launch.
struct Output {
    shape: Vec<i32>,
    dtype: Dtype,
}

/// Sizes of a launch.
#[derive(Debug, PartialEq, Eq)]
struct Extents {
    grid: (i32, i32, i32),
    threads: (i32, i32, i32),
}

impl LaunchRequest<'_> {
    /// One array for each output, not yet evaluated.
    pub(super) fn run(&self) -> Result<Vec<Array>> {
        match crate::backend()? {
            Backend::Metal => {
                self.check_threadgroup_memory()?;
                metal::run(self)
            }
            Backend::Cuda => cuda::run(self),
            #[cfg(feature = "emulator")]
            Backend::Emulated => {
                self.check_threadgroup_memory()?;
                emulated::run(self)
            }
            #[cfg(not(feature = "emulator"))]
            Backend::Emulated => Err(Error::Backend(crate::backend::NO_EMULATOR.to_owned())),
            Backend::Cpu => Err(self.error("the cpu backend runs no kernel text".to_owned())),
        }
    }

    /// Returns the source that Metal and the emulator get, with the shapes of all inputs.
    pub(super) fn metal_text(&self) -> Result<(KernelText, Vec<Vec<usize>>)> {
        let inputs = self.input_arrays();
        Ok((text::kernel_text(self, &inputs)?, inputs.iter().map(text::shape).collect()))
    }

    /// Returns the source that MLX gets on CUDA.
    ///
    /// # Errors
    /// As a launch there would fail.
    pub(super) fn cuda_text(&self) -> Result<CudaText> {
        let extents = self.extents()?;
        cuda::text(self, &self.input_arrays(), cuda::grid(self, &extents)?)
    }

    fn name(&self) -> &'static str {
        self.declaration.signature.name
    }

    /// Ports and scalars, which follow them.
    fn input_names(&self) -> Vec<&'static str> {
        let signature = self.declaration.signature;
        let ports = signature.inputs.iter().map(|port| port.name);
        ports.chain(signature.scalars.iter().map(|scalar| scalar.name)).collect()
    }

    /// Returns whether the input at `index` only holds the place of a port that the call leaves out.
    fn is_absent(&self, index: usize) -> bool {
        self.absent.get(index).copied().unwrap_or(false)
    }

    /// Returns whether the output is read at `index`: gradients that are not wanted and residuals that are not kept
    /// need not be written.
    #[cfg(feature = "emulator")]
    fn is_needed(&self, index: usize) -> bool {
        let is_saved = self.declaration.signature.outputs[index].role == PortRole::Saved;
        self.wants.get(index).copied().unwrap_or(true) && (self.saves || !is_saved)
    }

    fn output_names(&self) -> Vec<&'static str> {
        self.declaration.signature.outputs.iter().map(|port| port.name).collect()
    }

    /// One array for each of [`input_names`](Self::input_names).
    fn input_arrays(&self) -> Vec<Array> {
        self.port_arrays().chain(self.scalars.iter().map(|scalar| scalar.to_array())).collect()
    }

    fn port_arrays(&self) -> impl Iterator<Item = Array> {
        self.inputs.iter().map(|array| (*array).clone())
    }

    /// One line that defines the dimensions and sizes that the text uses by name.
    fn dimension_definitions(&self) -> String {
        let mut line = String::new();
        for name in self.launch.dimensions {
            let dimension = self.declaration.signature.dimensions.iter().find(|dimension| dimension.name == *name);
            if let Some(dimension) = dimension {
                let input = self.declaration.signature.inputs[dimension.bound.input].name;
                line.push_str(&format!("const int {name} = {input}_shape[{}]; ", dimension.bound.axis));
            }
        }
        for definition in self.launch.sizes {
            line.push_str(definition);
            line.push(' ');
        }
        line
    }

    /// Returns the file of the Metal source.
    fn file(&self) -> String {
        let source = Path::new(self.declaration.file);
        let file = self.launch.file.map_or_else(|| source.to_owned(), |file| source.with_file_name(file));
        file.display().to_string()
    }

    /// Returns the Metal source behind the definitions of the dimensions that it names. A `#line` directive gives its
    /// origin, so that messages of compilers name the author's line.
    fn placed_text(&self) -> String {
        let (definitions, line, file) = (self.dimension_definitions(), self.launch.line, self.file());
        let text = mutation::text(self.declaration, self.launch);
        format!("{definitions}\n#line {line} {file:?}\n{text}\n")
    }

    fn template_arguments(&self) -> Vec<(String, TemplateValue)> {
        let signature = self.declaration.signature;
        let mut arguments = Vec::new();
        for parameter in signature.dtypes {
            if let Some(dtype) = self.symbols.dtype(parameter.name) {
                arguments.push((parameter.name.to_owned(), TemplateValue::Dtype(dtype)));
            }
        }
        for constant in signature.constants {
            let value = self.symbols.value(constant.name).and_then(|value| i32::try_from(value).ok()).unwrap_or(0);
            let argument = match constant.kind {
                ConstantKind::Bool => TemplateValue::Bool(value != 0),
                ConstantKind::Usize | ConstantKind::I32 => TemplateValue::Int(value),
            };
            arguments.push((constant.name.to_owned(), argument));
        }
        for (port, wanted) in signature.outputs.iter().zip(self.wants) {
            arguments.push((format!("WANTS_{}", port.name), TemplateValue::Bool(*wanted)));
        }
        for (index, port) in signature.inputs.iter().enumerate().filter(|(_, port)| port.optional) {
            arguments.push((format!("HAS_{}", port.name), TemplateValue::Bool(!self.is_absent(index))));
        }
        for port in signature.outputs.iter().filter(|port| port.role == PortRole::Saved) {
            arguments.push((format!("SAVES_{}", port.name), TemplateValue::Bool(self.saves)));
        }
        arguments
    }

    fn outputs(&self) -> Result<Vec<Output>> {
        let outputs = self.declaration.signature.outputs.iter().map(|port| {
            match (self.symbols.port_shape(port), self.symbols.port_dtype(port)) {
                (Some(shape), Some(dtype)) => Ok(Output { shape, dtype: dtype.to_mlx() }),
                _ => Err(Error::Kernel {
                    kernel: self.declaration.signature.name,
                    port: Some(port.name),
                    message: format!("its shape {} has no value here", port.shape_text),
                }),
            }
        });
        outputs.collect()
    }

    /// Grid and threadgroup of this call. Metal's limits are errors here; the device would only return garbage.
    fn extents(&self) -> Result<Extents> {
        let value_of = |name: &str| self.symbols.value(name);
        let evaluate = |expressions: &[Expression; 3]| {
            let [x, y, z] = expressions.map(|expression| {
                expression.evaluate(&value_of).and_then(|value| i32::try_from(value).ok()).filter(|value| *value > 0)
            });
            Some((x?, y?, z?))
        };
        let grid = evaluate(&self.launch.grid)
            .ok_or_else(|| self.error("its grid has an extent that is not between 1 and 2^31 - 1".to_owned()))?;
        let threads = evaluate(&self.launch.threads)
            .ok_or_else(|| self.error("its threadgroup has an extent that is not positive".to_owned()))?;
        let count = i64::from(threads.0) * i64::from(threads.1) * i64::from(threads.2);
        if count > MAX_THREADS {
            return Err(self.error(format!("its threadgroup has {count} threads, Metal allows {MAX_THREADS} [C14]")));
        }
        Ok(Extents { grid, threads })
    }

    /// Metal's compiler would only say that it failed.
    fn check_threadgroup_memory(&self) -> Result<()> {
        let value_of = |name: &str| {
            let bytes = |dtype: crate::Dtype| i64::try_from(dtype.size()).ok();
            self.symbols.value(name).or_else(|| self.symbols.dtype(name).and_then(bytes))
        };
        match self.launch.threadgroup_bytes.evaluate(&value_of) {
            Some(bytes) if bytes > MAX_THREADGROUP_BYTES => Err(self.error(format!(
                "it takes {bytes} bytes of threadgroup memory at these sizes, Metal allows {MAX_THREADGROUP_BYTES} [C14]"
            ))),
            _ => Ok(()),
        }
    }

    fn error(&self, message: String) -> Error {
        Error::Kernel { kernel: self.declaration.signature.name, port: None, message }
    }
}

/// Gives each optional port that a call leaves out an array to hold its place.
pub(super) fn hold_places(signature: &Signature, symbols: &Symbols, inputs: &mut [PortValue]) {
    for (port, input) in signature.inputs.iter().zip(inputs) {
        if let (Content::Absent(placeholder), Some(dtype)) = (&mut input.0, symbols.port_dtype(port)) {
            *placeholder = self::placeholder(port, dtype);
        }
    }
}

/// Returns zeros of a port's dtype and rank, so that the source has the same types as with the port. The source must
/// not read them. MLX puts arrays of fewer than eight elements into `constant` memory.
fn placeholder(port: &Port, dtype: crate::Dtype) -> Array {
    const ELEMENTS: usize = 8;
    static MADE: Mutex<BTreeMap<(crate::Dtype, usize), Array>> = Mutex::new(BTreeMap::new());
    let rank = port.shape.len();
    let make = || {
        let mut shape = vec![1; rank];
        if let Some(last) = shape.last_mut() {
            *last = ELEMENTS as i32;
        }
        let count = if shape.is_empty() { 1 } else { ELEMENTS };
        crate::ffi::array_from_bytes(&vec![0; count * dtype.size()], dtype.of_host(), &shape)
    };
    // The array is made once: a copy from the host for each call costs a GPU as much as a small kernel.
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry((dtype, rank)).or_insert_with(make).clone()
}
