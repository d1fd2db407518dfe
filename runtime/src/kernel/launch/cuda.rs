//! A launch on an NVIDIA GPU, through MLX's `cuda_kernel`: the kernel's Metal source translated, or the author's own source
//! for CUDA.
//!
//! A training step makes thousands of launches, and a translation takes milliseconds, so each is made once for all
//! launches that share a source. The source contains no sizes: shapes come with the arrays, and the grid, where the
//! source asks for it, as one more input. MLX passes every input as a pointer, small ones too.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use cotangent_metal::{CudaGrid, CudaText, GRID_INPUT, cuda_text};
use mlx_rs::Array;

use super::cuda_modules;
use super::cuda_source::{CudaSource, Input};
use super::text::{kernel_text, shape, unsigned};
use super::{Extents, LaunchRequest, TemplateValue};
use crate::ffi::{CudaKernel, CudaLaunch};
use crate::{Backend, Dtype, Error, Result, resident};

/// One array for each output, not yet evaluated.
///
/// # Errors
/// [`Error::Untranslated`] if CUDA has no counterpart of the text at these sizes; [`Error::Kernel`] beyond CUDA's limits.
pub(super) fn run(request: &LaunchRequest<'_>) -> Result<Vec<Array>> {
    let extents = request.extents()?;
    let grid = grid(request, &extents)?;
    let scalars = request.scalars.iter().map(|value| resident::scalar(*value));
    let mut inputs = request.port_arrays().map(Ok).chain(scalars).collect::<Result<Vec<_>>>()?;
    let prepared = prepared(request, &inputs, grid)?;
    if prepared.reads_grid {
        inputs.push(resident::extents(extents.grid)?);
    }
    let outputs = request.outputs()?;
    let outputs: Vec<_> = outputs.iter().map(|output| (output.shape.as_slice(), output.dtype)).collect();
    let launch =
        CudaLaunch { outputs: &outputs, grid: extents.grid, threads: extents.threads, init: request.launch.init };
    // SAFETY: shapes, dtypes and extents are those the kernel declares, checked against this call; that its text stays
    // inside them and writes every output is what the emulator checks for every declared case.
    unsafe { prepared.kernel.apply(request.name(), &inputs, &launch) }
}

/// Returns the sizes of the launch on CUDA.
pub(super) fn grid(request: &LaunchRequest<'_>, extents: &Extents) -> Result<CudaGrid> {
    CudaGrid::new(unsigned(extents.grid), unsigned(extents.threads))
        .map_err(|found| request.error(format!("its launch has {found}")))
}

/// The kernel that MLX runs repeatedly.
struct Prepared {
    kernel: CudaKernel,
    reads_grid: bool,
}

/// All that a text depends on.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    /// The address of the declaration: it lives as long as the program.
    declaration: usize,
    template: Vec<(String, TemplateValue)>,
    /// Dtype and number of dimensions.
    inputs: Vec<(Dtype, usize)>,
    grid: CudaGrid,
}

impl Key {
    fn new(request: &LaunchRequest<'_>, inputs: &[Array], grid: CudaGrid) -> Self {
        Key {
            declaration: std::ptr::from_ref(request.declaration).addr(),
            template: request.template_arguments(),
            inputs: inputs.iter().map(|array| (Dtype::from_mlx(array.dtype()), array.shape().len())).collect(),
            grid,
        }
    }
}

/// The kernel of this launch, made at its first.
fn prepared(request: &LaunchRequest<'_>, inputs: &[Array], grid: CudaGrid) -> Result<Arc<Prepared>> {
    type Known = HashMap<Key, Result<Arc<Prepared>>>;
    static KNOWN: Mutex<Option<Known>> = Mutex::new(None);
    let key = Key::new(request, inputs, grid);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    // A refusal is kept as well, so that the fallback runs without translating the source at each call.
    known.entry(key).or_insert_with(|| prepare(request, inputs, grid)).clone()
}

fn prepare(request: &LaunchRequest<'_>, inputs: &[Array], grid: CudaGrid) -> Result<Arc<Prepared>> {
    let text = text(request, inputs, grid)?;
    let mut names: Vec<String> = request.input_names().into_iter().map(str::to_owned).collect();
    if request.launch.cuda.is_some() {
        names = names.into_iter().zip(inputs).map(|(name, array)| native_input(&name, array)).collect();
    }
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    if text.reads_grid {
        names.push(GRID_INPUT);
    }
    let name = text.name(request.name());
    let outputs = request.output_names();
    let header = cuda_modules::kept_header(&name, &text.header);
    if request.launch.cuda.is_none() {
        let source = cuda_source(request, inputs, &text, (&name, &header))?;
        let shapes = inputs.iter().map(shape).collect();
        cuda_modules::compile_ahead(source.module(), source.entry(), kernel_text(request, inputs)?, shapes, &text);
    }
    let kernel =
        CudaKernel::new(request.name(), &name, (&names, &outputs), (&header, &text.source), !request.launch.strided)?;
    Ok(Arc::new(Prepared { kernel, reads_grid: text.reads_grid }))
}

/// Returns the source that MLX is given for a translated kernel.
fn cuda_source<'a>(
    request: &LaunchRequest<'_>,
    inputs: &[Array],
    text: &'a CudaText,
    (name, header): (&'a str, &'a str),
) -> Result<CudaSource<'a>> {
    let mut ports: Vec<_> = request
        .input_names()
        .into_iter()
        .zip(inputs)
        .map(|(name, array)| Input { name, dtype: Dtype::from_mlx(array.dtype()), scalar: array.shape().is_empty() })
        .collect();
    if text.reads_grid {
        ports.push(Input { name: GRID_INPUT, dtype: Dtype::I32, scalar: false });
    }
    let outputs = request.outputs()?.into_iter().map(|output| Dtype::from_mlx(output.dtype));
    let outputs = request.output_names().into_iter().zip(outputs).collect();
    Ok(CudaSource { name, header, source: &text.source, inputs: ports, outputs })
}

/// Returns the source for CUDA.
///
/// # Errors
/// [`Error::Untranslated`] if there is none at these sizes.
pub(super) fn text(request: &LaunchRequest<'_>, inputs: &[Array], grid: CudaGrid) -> Result<CudaText> {
    if let Some(native) = request.launch.cuda {
        return Ok(native_text(request, native, inputs));
    }
    let kernel = kernel_text(request, inputs)?;
    let shapes: Vec<Vec<usize>> = inputs.iter().map(shape).collect();
    let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
    cuda_text(&kernel, &shapes, grid).map_err(|error| {
        let message = match error {
            cotangent_metal::Error::Launch { what, .. } => what,
            other => other.to_string(),
        };
        Error::Untranslated { kernel: request.name(), backend: Backend::Cuda, message }
    })
}

/// Returns the author's own source with the names that its contract promises: ports as pointers, or as values where
/// they have no dimensions; scalars, dimensions and template parameters.
fn native_text(request: &LaunchRequest<'_>, text: &str, inputs: &[Array]) -> CudaText {
    let mut source = String::new();
    for (name, value) in request.template_arguments() {
        let _ = match value {
            TemplateValue::Dtype(dtype) => writeln!(source, "using {name} = {};", cuda_type(dtype)),
            TemplateValue::Int(value) => writeln!(source, "constexpr int {name} = {value};"),
            TemplateValue::Bool(value) => writeln!(source, "constexpr bool {name} = {value};"),
        };
    }
    for (name, _) in request.input_names().into_iter().zip(inputs).filter(|(_, array)| array.shape().is_empty()) {
        let _ = writeln!(source, "const auto {name} = *{name}_pointer_;");
    }
    source.push_str(&request.dimension_definitions());
    source.push('\n');
    source.push_str(text);
    CudaText { header: String::new(), source, reads_grid: false }
}

/// MLX passes a value without dimensions as a pointer, whose name must not be the value's.
fn native_input(name: &str, array: &Array) -> String {
    if array.shape().is_empty() { format!("{name}_pointer_") } else { name.to_owned() }
}

/// MLX's name of a dtype in a program for CUDA.
pub(super) fn cuda_type(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Bool => "bool",
        Dtype::I8 => "int8_t",
        Dtype::U8 => "uint8_t",
        Dtype::I16 => "int16_t",
        Dtype::U16 => "uint16_t",
        Dtype::I32 => "int32_t",
        Dtype::U32 => "uint32_t",
        Dtype::I64 => "int64_t",
        Dtype::U64 => "uint64_t",
        Dtype::F16 => "__half",
        Dtype::BF16 => "__nv_bfloat16",
        Dtype::F32 => "float",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::kernel::binding::bind;
    use crate::kernel::declaration::{Body, Declaration, Launch, Route};
    use crate::kernel::signature::{
        Binding, ConstantKind, Dimension, DtypeParameter, Expression, Extent, Port, PortDtype, PortRole, Sample,
        Scalar, ScalarKind, Signature, TemplateConstant,
    };
    use crate::kernel::value::{PortValue, ScalarValue};

    const B: Extent = Extent { text: "B", value: Expression::Symbol("B") };
    const D: Extent = Extent { text: "D", value: Expression::Symbol("D") };
    const ONE: Expression = Expression::Constant(1);

    const fn port(name: &'static str, role: PortRole) -> Port {
        let (dtype, shape_text) = (PortDtype::Parameter("T"), "[B, D]");
        Port { name, dtype, shape: &[B, D], shape_text, role, optional: false, sample: Sample::Default }
    }

    static SIGNATURE: Signature = Signature {
        name: "scaled",
        module: "tests",
        dtypes: &[DtypeParameter { name: "T", class: &[Dtype::F32, Dtype::F16, Dtype::BF16] }],
        constants: &[TemplateConstant {
            name: "D",
            kind: ConstantKind::Usize,
            bound: Some(Binding { input: 0, axis: 1 }),
        }],
        dimensions: &[Dimension { name: "B", bound: Binding { input: 0, axis: 0 } }],
        inputs: &[port("x", PortRole::Differentiable)],
        outputs: &[port("y", PortRole::Output), port("r", PortRole::Saved)],
        scalars: &[Scalar { name: "scale", kind: ScalarKind::F32, domain: None }],
        ..Signature::STAND_IN
    };

    const LAUNCH: Launch = Launch {
        metal: "uint i = thread_position_in_grid.x;\ny[i] = x[i] * scale;\nif (SAVES_r) r[i] = y[i] * B;",
        cuda: None,
        headers: &[],
        dimensions: &["B"],
        sizes: &["constexpr int TWICE = (2 * D);"],
        grid: [Expression::Product(&[B.value, D.value]), ONE, ONE],
        threads: [Expression::Constant(32), ONE, ONE],
        threadgroup_bytes: Expression::Constant(0),
        init: None,
        atomic: false,
        nondeterministic: false,
        strided: false,
        file: None,
        line: 7,
    };

    const fn declaration(launch: Launch) -> Declaration {
        let body = Body::Launch(launch);
        Declaration {
            signature: &SIGNATURE,
            route: Route::Stage,
            body,
            cases: &[],
            untested: None,
            file: "scaled.rs",
            line: 1,
        }
    }

    pub(in super::super) static TRANSLATED: Declaration = declaration(LAUNCH);
    static NATIVE: Declaration = declaration(Launch {
        cuda: Some("int i = blockIdx.x * blockDim.x + threadIdx.x;\nif (i < B * D) y[i] = T(float(x[i]) * scale);"),
        ..LAUNCH
    });
    static MEETING: Declaration =
        declaration(Launch { metal: "y[thread_position_in_grid.x] = simd_sum(x[0] * scale);", ..LAUNCH });

    /// Returns the answer of `ask` for a call with `rows` rows of `width`.
    pub(in super::super) fn call<R>(
        declaration: &'static Declaration,
        (rows, width): (i32, i32),
        dtype: Dtype,
        saves: bool,
        ask: impl FnOnce(&LaunchRequest<'_>, &[Array], CudaGrid) -> R,
    ) -> R {
        let x = Array::zeros::<f32>(&[rows, width]).unwrap().as_dtype(dtype.to_mlx()).unwrap();
        let symbols = bind(&SIGNATURE, &[PortValue::float(x.clone())], &[], &[]).unwrap();
        let Body::Launch(launch) = &declaration.body else { unreachable!() };
        let scalars = [ScalarValue::F32(0.5)];
        let inputs = [&x];
        let request = LaunchRequest {
            declaration,
            launch,
            inputs: &inputs,
            absent: &[],
            symbols: &symbols,
            scalars: &scalars,
            saves,
            wants: &[],
        };
        let extents = request.extents().unwrap();
        let grid = CudaGrid::new(unsigned(extents.grid), unsigned(extents.threads)).unwrap();
        ask(&request, &request.input_arrays(), grid)
    }

    #[test]
    fn launches_share_a_text_exactly_where_it_is_the_same() {
        let of = |declaration, sizes, dtype, saves| {
            call(declaration, sizes, dtype, saves, |request, inputs, grid| {
                (Key::new(request, inputs, grid), text(request, inputs, grid).unwrap().name("scaled"))
            })
        };
        let first = of(&TRANSLATED, (2, 64), Dtype::F32, false);
        assert_eq!(first, of(&TRANSLATED, (2, 64), Dtype::F32, false));
        assert_eq!(first, of(&TRANSLATED, (700, 64), Dtype::F32, false), "a dimension is no part of a text");
        for (why, other) in [
            ("a dtype", of(&TRANSLATED, (2, 64), Dtype::BF16, false)),
            ("a template constant", of(&TRANSLATED, (2, 32), Dtype::F32, false)),
            ("residuals wanted", of(&TRANSLATED, (2, 64), Dtype::F32, true)),
            ("another kernel", of(&NATIVE, (2, 64), Dtype::F32, false)),
        ] {
            assert!(first.0 != other.0 && first.1 != other.1, "{why}: {other:?}");
        }
        let ragged = of(&TRANSLATED, (3, 7), Dtype::F32, false);
        assert_eq!(ragged, of(&TRANSLATED, (5, 7), Dtype::F32, false), "the number of threads is no part of a text");
        assert_ne!(ragged.0.grid, first.0.grid);
    }

    #[test]
    fn a_text_names_dimensions_and_saves_only_what_is_asked() {
        let text = call(&TRANSLATED, (2, 64), Dtype::BF16, false, text);
        let text = text.unwrap();
        let lines = "const int B = x_shape[0]; constexpr int TWICE = (2 * D); \n#line 7 \"scaled.rs\"\nuint i =";
        assert!(text.header.contains(lines), "the author's own lines: {}", text.header);
        assert_eq!(
            text.source,
            "metal::kernel_scaled::metal_kernel_body<metal::bfloat, 64, false>((const metal::bfloat*)x, (const \
             int*)x_shape.data(), *(const float*)scale, (metal::bfloat*)y, (metal::bfloat*)r, \
             metal::attribute_thread_position_in_grid());\n"
        );
    }

    #[test]
    fn an_own_text_for_cuda_has_the_names_of_its_contract() {
        call(&NATIVE, (2, 64), Dtype::F16, true, |request, inputs, grid| {
            let text = text(request, inputs, grid).unwrap();
            let expected = "using T = __half;\nconstexpr int D = 64;\nconstexpr bool SAVES_r = true;\nconst auto scale = \
                            *scale_pointer_;\nconst int B = x_shape[0]; constexpr int TWICE = (2 * D); \nint i = ";
            assert!(text.source.starts_with(expected), "{}", text.source);
            let names: Vec<_> =
                request.input_names().iter().zip(inputs).map(|(name, array)| native_input(name, array)).collect();
            assert_eq!(names, ["x", "scale_pointer_"]);
        });
    }

    #[test]
    fn what_has_no_counterpart_is_refused_by_name() {
        let at = |sizes| call(&MEETING, sizes, Dtype::F32, false, text);
        assert!(at((2, 64)).is_ok());
        let refused = at((3, 7)).unwrap_err();
        assert!(matches!(refused, Error::Untranslated { kernel: "scaled", .. }), "{refused}");
        let message = refused.to_string();
        assert!(message.starts_with("kernel `scaled` cannot run on the cuda backend at these sizes: its grid leaves"));
    }
}
