//! A launch in the emulator: the kernel's own source, run and checked on the CPU.
//!
//! Inputs are evaluated on the host in the middle of the graph. This is safe in the two places that call it: inside a
//! custom VJP, whose forward and backward MLX never differentiates, and in inference.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::OnceLock;

use cotangent_emulator::{Buffer, Checks, Emulator, FindingKind, Launch, Run, Schedule};
use cotangent_metal::{Dtype, KernelText};
use mlx_rs::Array;

use super::mutation;
use super::orders::one_is_enough;
use super::text::{dtype, kernel_text, shape, unsigned};
use super::{DEFECT, LaunchRequest};
use crate::dtype::is_in_double;
use crate::error::Context as _;
use crate::kernel::declaration::Declaration;
use crate::{Error, Result, ffi};

/// A launch that was made in the emulator, and its results.
#[derive(Debug, Clone)]
pub struct EmulatedLaunch {
    /// The kernel, stage or backward.
    pub kernel: &'static str,
    /// The source, with its constants.
    pub text: KernelText,
    /// Inputs and sizes.
    pub launch: Launch<'static>,
    /// The bytes of each output, with whether anything reads it. Gradients that are not wanted may hold anything.
    pub outputs: Vec<(Vec<u8>, bool)>,
}

thread_local! {
    /// The launches that are made while they are recorded.
    static MADE: RefCell<Option<Vec<EmulatedLaunch>>> = const { RefCell::new(None) };
}

/// Returns what `run` returns, and the launches that it makes in the emulator on this thread, in single precision.
pub(in crate::kernel) fn with_launches<R>(run: impl FnOnce() -> R) -> (R, Vec<EmulatedLaunch>) {
    MADE.set(Some(Vec::new()));
    let result = run();
    (result, MADE.take().unwrap_or_default())
}

/// One array for each output.
///
/// # Errors
/// [`Error::Kernel`] if the text does not compile, the emulator finds a defect (a race, a read out of bounds …), or the
/// result depends on the order of threads.
pub(super) fn run(request: &LaunchRequest<'_>) -> Result<Vec<Array>> {
    let outputs = request.outputs()?;
    let extents = request.extents()?;
    let in_double = is_in_double();
    let inputs = if in_double { doubles(request.input_arrays())? } else { request.input_arrays() };
    let buffers = inputs.iter().enumerate().map(|(index, array)| {
        let dtype = dtype(request, array.dtype())?;
        if request.is_absent(index) {
            return Ok(nothing(dtype, shape(array)));
        }
        // As on a GPU, MLX makes inputs row-contiguous unless the kernel takes them as they lie.
        if !request.launch.strided {
            return Ok(Buffer::new(dtype, shape(array), ffi::array_to_bytes(array)?));
        }
        let ffi::Strided { bytes, first, strides } = ffi::array_to_strided_bytes(array)?;
        Ok(Buffer { dtype, shape: shape(array), strides: Some(strides), bytes: bytes.into(), first })
    });
    let launch = Launch {
        grid: unsigned(extents.grid),
        threadgroup: unsigned(extents.threads),
        inputs: buffers.collect::<Result<_>>()?,
        output_shapes: outputs
            .iter()
            .map(|output| output.shape.iter().map(|extent| *extent as usize).collect())
            .collect(),
        // Where derivatives are measured, the same launch was already watched in single precision.
        checks: if in_double { Checks::Off } else { Checks::On },
        ..Launch::default()
    };
    let kernel = kernel_text(request, &inputs)?;
    let emulator = emulator(request.declaration).map_err(|error| request.error(error.to_string()))?;
    let run = run_clean(request, emulator, &kernel, &launch)?;
    MADE.with_borrow_mut(|made| {
        let Some(made) = made.as_mut().filter(|_| !in_double) else { return };
        let outputs = run.outputs.iter().enumerate().map(|(n, bytes)| (bytes.clone(), request.is_needed(n))).collect();
        let inputs =
            launch.inputs.iter().map(|buffer| Buffer { bytes: buffer.bytes.to_vec().into(), ..buffer.clone() });
        let launch = Launch { inputs: inputs.collect(), output_shapes: launch.output_shapes.clone(), ..launch };
        made.push(EmulatedLaunch { kernel: request.name(), text: kernel.clone(), launch, outputs });
    });
    if !request.launch.nondeterministic && !in_double && !one_is_enough() {
        // A GPU promises no order, so the result must not depend on one.
        let reversed = Launch { schedule: Schedule::Reversed, ..launch };
        let again = run_clean(request, emulator, &kernel, &reversed)?;
        let differs = |index: &usize| request.is_needed(*index) && run.outputs[*index] != again.outputs[*index];
        if let Some(index) = (0..outputs.len()).find(differs) {
            let port = Some(request.output_names()[index]);
            let message = "its result depends on the order in which threads run; order them with barriers, or declare the \
                           kernel `nondeterministic`";
            return Err(Error::Kernel { kernel: request.name(), port, message: message.to_owned() });
        }
    }
    let arrays = outputs
        .iter()
        .zip(&run.outputs)
        .map(|(output, bytes)| ffi::array_from_bytes(bytes, output.dtype, &output.shape));
    Ok(arrays.collect())
}

/// The emulator that runs a launch. Compiled mutants are of no use later, so they stay out of the cache of all others.
fn emulator(declaration: &'static Declaration) -> std::result::Result<&'static Emulator, cotangent_emulator::Error> {
    static MUTANTS: OnceLock<Emulator> = OnceLock::new();
    if !mutation::is_mutated(declaration) {
        return Emulator::global();
    }
    match MUTANTS.get() {
        Some(emulator) => Ok(emulator),
        None => {
            let folder = std::env::temp_dir().join("cotangent-mutants");
            Emulator::with_cache(&folder).map(|new| MUTANTS.get_or_init(|| new))
        }
    }
}

/// Whether sources can run in the emulator.
///
/// # Errors
/// Why not, in words.
pub(in crate::kernel) fn is_ready() -> std::result::Result<(), String> {
    Emulator::global().map(|_| ()).map_err(|error| error.to_string())
}

/// Returns the same values with every `float32` as `float64`: scalars, and what the host made, are still single.
fn doubles(inputs: Vec<Array>) -> Result<Vec<Array>> {
    let wide = |array: Array| match array.dtype() {
        mlx_rs::Dtype::Float32 => array.as_dtype(mlx_rs::Dtype::Float64).during("check"),
        _ => Ok(array),
    };
    inputs.into_iter().map(wide).collect()
}

/// Returns the buffer in the place of a port that the call leaves out. It has a shape and no element, so that any read
/// is found.
fn nothing(dtype: Dtype, shape: Vec<usize>) -> Buffer<'static> {
    let strides = vec![1; shape.len()];
    Buffer { dtype, shape, strides: Some(strides), bytes: Cow::Borrowed(&[]), first: 0 }
}

fn run_clean(
    request: &LaunchRequest<'_>,
    emulator: &Emulator,
    kernel: &KernelText,
    launch: &Launch<'_>,
) -> Result<Run> {
    let run = emulator.run(kernel, launch).map_err(|error| request.error(error.to_string()))?;
    let place_of = |names: Vec<&str>, subject: &str| names.iter().position(|name| *name == subject);
    let mut findings = Vec::new();
    for finding in &run.findings {
        let subject = finding.subject.as_deref().unwrap_or_default();
        if finding.kind == FindingKind::UnwrittenOutput
            && place_of(request.output_names(), subject).is_some_and(|index| !request.is_needed(index))
        {
            continue;
        }
        let mut text = finding.to_string();
        if place_of(request.input_names(), subject).is_some_and(|index| request.is_absent(index)) {
            text.push_str(&format!(
                "\n  `{subject}` is optional, and absent in this call: read it where `HAS_{subject}` holds"
            ));
        }
        findings.push(text);
    }
    if findings.is_empty() {
        return Ok(run);
    }
    Err(request.error(format!("{DEFECT}\n{}", findings.join("\n"))))
}
