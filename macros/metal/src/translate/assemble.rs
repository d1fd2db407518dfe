//! Puts rewritten text, signature and entry point together into one C++ file.

use std::fmt::Write as _;

use super::calls::meeting_places;
use super::indices::returning;
use super::lexer::lex;
use super::rewrite::{Context, Site, Target, find_word, rewrite};
use super::signature::Argument;
use super::subscripts::casts_pointers;
use crate::{Dtype, Error, KernelText, Source, TemplateValue};

/// A translation unit, and what its parts mean.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The C++ text of the unit.
    pub text: String,
    /// The sites at which threads meet, in the order of their numbers.
    pub sites: Vec<Site>,
    /// Whether pointers are cast to pointers.
    pub casts: bool,
}

/// The unit for the emulator. Its entry is `metal_kernel_entry(buffers, attributes)`, one buffer for each argument that
/// is one, in order. `arms` has those of `?:` converted to a common type.
pub fn host_unit(kernel: &KernelText, arguments: &[Argument<'_>], arms: bool) -> Result<Unit, Error> {
    let mut sites = Vec::new();
    let target = Target::Host { arms, double: kernel.is_double() };
    let pointers = arguments.iter().filter_map(|argument| match argument {
        Argument::Input { port, scalar: false, .. } | Argument::Output { port, .. } => Some(port.name.as_str()),
        _ => None,
    });
    let ports: Vec<&str> = pointers.collect();
    let meeting = meeting_places(&kernel.header.text);
    let returning: Vec<String> =
        returning(&lex(&kernel.header.text)).into_iter().map(|function| function.name).collect();
    let context =
        Context { header: &kernel.header.text, meeting: &meeting, returning: &returning, ..Context::default() };
    let header = rewrite(&kernel.header, target, Context { is_header: true, ..context }, &mut sites)?;
    let body = rewrite(&kernel.body, target, Context { ports: &ports, ..context }, &mut sites)?;

    let mut text = String::from("#include \"host.h\"\nusing namespace metal;\n");
    if packs(kernel) {
        text += "#include \"pack.h\"\n";
    }
    if !header.is_empty() {
        let _ = writeln!(text, "{}{header}", line_directive(&kernel.header));
    }
    let mut parameters = Vec::new();
    let mut values = Vec::new();
    for argument in arguments {
        let (declaration, name) = parameter(kernel, argument);
        let (deref, cast) = match declaration.strip_suffix('&') {
            Some(ty) => ("*", format!("({ty}*)")),
            None => ("", format!("({declaration})")),
        };
        values.push(match argument {
            Argument::Attribute { name, .. } => format!("attributes->{}", attribute_field(name)),
            _ => format!("{deref}{cast}buffers[{}]", values.len()),
        });
        parameters.push(format!("{declaration} {name}"));
    }
    text += &template_line(kernel);
    let _ = write!(
        text,
        "static __attribute__((noinline)) void metal_kernel_body({}) {{\n{}{body}\n}}\n#line 1 \"entry\"\n",
        parameters.join(", "),
        line_directive(&kernel.body)
    );
    let instance = template_arguments(kernel, Dtype::metal);
    let _ = write!(
        text,
        "extern \"C\" __attribute__((visibility(\"default\"))) METAL_UNWATCHED void metal_kernel_entry(void* const* buffers, \
         const Attributes* attributes) {{\n  metal_kernel_body{instance}({});\n}}\n",
        values.join(", ")
    );
    let casts = [&kernel.header, &kernel.body].into_iter().any(casts_pointers);
    Ok(Unit { text, sites, casts })
}

/// The unit that clang checks: the kernel as a function with Metal's address spaces, and one instance of it.
pub fn check_unit(kernel: &KernelText, arguments: &[Argument<'_>]) -> Result<String, Error> {
    let mut sites = Vec::new();
    let in_body = Context { header: &kernel.header.text, ..Context::default() };
    let in_header = Context { is_header: true, ..in_body };
    let header = rewrite(&kernel.header, Target::Check { exact: false }, in_header, &mut sites)?;
    let body = rewrite(&kernel.body, Target::Check { exact: false }, in_body, &mut sites)?;
    let parameters: Vec<String> = arguments
        .iter()
        .map(|argument| {
            let (declaration, name) = spaced_parameter(kernel, argument);
            format!("{declaration} {name}")
        })
        .collect();
    let parameters = parameters.join(", ");
    // The source of `tile` is what runs on Metal, and is checked with the kernel.
    let mut text = String::from("#include \"check.h\"\nusing namespace metal;\n#include \"tile.metal\"\n");
    if !header.is_empty() {
        let _ = writeln!(text, "{}{header}", line_directive(&kernel.header));
    }
    text += &template_line(kernel);
    let _ = write!(text, "void metal_kernel_body({parameters}) {{\n{}{body}\n}}\n", line_directive(&kernel.body));
    if !kernel.template.is_empty() {
        let instance = template_arguments(kernel, Dtype::metal);
        let _ = writeln!(text, "#line 1 \"entry\"\ntemplate void metal_kernel_body{instance}({parameters});");
    }
    Ok(text)
}

/// The unit that clang compiles as C++ for OpenCL, which has Metal's address spaces, `half` and rules of contraction: the
/// kernel as the function `metal_kernel`, its parameters in the order of `arguments`. With `defined`, Metal's functions are
/// there to be run.
pub fn opencl_unit(kernel: &KernelText, arguments: &[Argument<'_>], defined: bool) -> Result<String, Error> {
    let mut sites = Vec::new();
    // Clang warns of a `float` that becomes a `bfloat`, unless it is a constant of a value that a `bfloat` holds.
    let target = Target::Check { exact: defined };
    let in_body = Context { header: &kernel.header.text, ..Context::default() };
    let in_header = Context { is_header: true, ..in_body };
    // In OpenCL this is a word of the language, in no namespace.
    let plain = |text: String| text.replace("metal::half", "half");
    let header = plain(rewrite(&kernel.header, target, in_header, &mut sites)?);
    let body = plain(rewrite(&kernel.body, target, in_body, &mut sites)?);
    let prelude = if defined { "opencl.h" } else { "check.h" };
    let mut text = format!("#include \"{prelude}\"\nusing namespace metal;\n#include \"tile.metal\"\n");
    if !header.is_empty() {
        let _ = writeln!(text, "{}{header}", line_directive(&kernel.header));
    }
    // OpenCL has neither templates of kernels, nor references or pointers to `bool` among their parameters.
    let (mut parameters, mut values) = (Vec::new(), String::new());
    for argument in arguments {
        let (declaration, name) = spaced_parameter(kernel, argument);
        let pointed = declaration.strip_suffix('&');
        let plain = format!("{}*", pointed.or(declaration.strip_suffix('*')).unwrap_or_default());
        if pointed.is_none() && !(plain.ends_with("bool*")) {
            parameters.push(format!("{declaration} {name}"));
            continue;
        }
        let passed = plain.strip_suffix("bool*").map_or(plain.clone(), |space| format!("{space}uchar*"));
        parameters.push(format!("{passed} {name}_bound"));
        let deref = if pointed.is_some() { "*" } else { "" };
        let _ = write!(values, "{declaration} {name} = {deref}({plain}){name}_bound; ");
    }
    for (name, value) in &kernel.template {
        let _ = match value {
            TemplateValue::Dtype(dtype) => write!(values, "typedef {} {name}; ", dtype.metal()),
            TemplateValue::Int(n) => write!(values, "constexpr int {name} = {n}; "),
            TemplateValue::Bool(b) => write!(values, "constexpr bool {name} = {b}; "),
        };
    }
    let _ = write!(
        text,
        "#line 1 \"entry\"\n__kernel void metal_kernel({}) {{ {values}\n{}{body}\n}}\n",
        parameters.join(", "),
        line_directive(&kernel.body)
    );
    Ok(text)
}

/// A kernel for CUDA.
pub struct CudaParts {
    /// Header and kernel, as device functions.
    pub text: String,
    /// `<…>` of the one instance, or nothing.
    pub instance: String,
    /// Whether the text has barriers or operations across lanes.
    pub threads_meet: bool,
}

/// `dtype_name` names a type as seen from outside the kernel's namespace.
pub fn cuda_parts(
    kernel: &KernelText,
    arguments: &[Argument<'_>],
    dtype_name: fn(Dtype) -> &'static str,
) -> Result<CudaParts, Error> {
    let mut sites = Vec::new();
    let in_body = Context { header: &kernel.header.text, ..Context::default() };
    let in_header = Context { is_header: true, ..in_body };
    let header = rewrite(&kernel.header, Target::Cuda, in_header, &mut sites)?;
    let body = rewrite(&kernel.body, Target::Cuda, in_body, &mut sites)?;
    let parameters: Vec<String> =
        arguments.iter().map(|argument| parameter(kernel, argument)).map(|(ty, name)| format!("{ty} {name}")).collect();
    let mut text = String::new();
    if !header.is_empty() {
        let _ = writeln!(text, "{}{header}", line_directive(&kernel.header));
    }
    text += &template_line(kernel);
    let _ = write!(
        text,
        "__device__ __forceinline__ void metal_kernel_body({}) {{\n{}{body}\n}}",
        parameters.join(", "),
        line_directive(&kernel.body)
    );
    Ok(CudaParts { text, instance: template_arguments(kernel, dtype_name), threads_meet: !sites.is_empty() })
}

/// Returns whether vectors are packed into integers or taken from there.
pub fn packs(kernel: &KernelText) -> bool {
    let names = ["pack_float_to_", "pack_half_to_", "_to_float(", "_to_half("];
    [&kernel.header, &kernel.body].iter().any(|source| names.iter().any(|name| source.text.contains(name)))
}

/// The first use of what CUDA has no counterpart of.
pub fn breaks_on_cuda(kernel: &KernelText) -> Option<Error> {
    let raw = |word: &str| word.starts_with("simdgroup_") && !["simdgroup_barrier"].contains(&word);
    [&kernel.header, &kernel.body].into_iter().find_map(|source| {
        let (at, word) = find_word(source, |w| raw(w) && !w.contains("index") && !w.contains("per_"))?;
        let what = format!("`{word}` has no counterpart in CUDA");
        Some(Error::Unsupported { at, what, help: "use `tile<T, 16, 16>`, or write a text for CUDA".into() })
    })
}

fn template_line(kernel: &KernelText) -> String {
    if kernel.template.is_empty() {
        return String::new();
    }
    let parameters = kernel.template.iter().map(|(name, value)| match value {
        TemplateValue::Dtype(_) => format!("typename {name}"),
        TemplateValue::Int(_) => format!("int {name}"),
        TemplateValue::Bool(_) => format!("bool {name}"),
    });
    format!("template <{}>\n", parameters.collect::<Vec<_>>().join(", "))
}

/// `<…>` of the one instance, or nothing.
fn template_arguments(kernel: &KernelText, dtype_name: fn(Dtype) -> &'static str) -> String {
    if kernel.template.is_empty() {
        return String::new();
    }
    let values = kernel.template.iter().map(|(_, value)| match value {
        TemplateValue::Dtype(dtype) => dtype_name(*dtype).to_owned(),
        TemplateValue::Int(n) => n.to_string(),
        TemplateValue::Bool(b) => b.to_string(),
    });
    format!("<{}>", values.collect::<Vec<_>>().join(", "))
}

/// Type and name of a parameter; a reference's type ends in `&`.
fn parameter(kernel: &KernelText, argument: &Argument<'_>) -> (String, String) {
    match argument {
        Argument::Input { port, scalar, .. } => {
            (format!("const {}{}", port.dtype.metal(), if *scalar { "&" } else { "*" }), port.name.clone())
        }
        Argument::Shape { port, .. } => ("const int*".into(), format!("{}_shape", port.name)),
        Argument::Strides { port, .. } => ("const int64_t*".into(), format!("{}_strides", port.name)),
        Argument::Ndim { port, .. } => ("const int&".into(), format!("{}_ndim", port.name)),
        Argument::Output { port, .. } if kernel.atomic_outputs => {
            (format!("atomic<{}>*", port.dtype.metal()), port.name.clone())
        }
        Argument::Output { port, .. } => (format!("{}*", port.dtype.metal()), port.name.clone()),
        Argument::Attribute { name, ty } => ((*ty).into(), (*name).into()),
    }
}

/// The type with Metal's address spaces.
fn spaced_parameter(kernel: &KernelText, argument: &Argument<'_>) -> (String, String) {
    let (declaration, name) = parameter(kernel, argument);
    let space = match argument {
        Argument::Input { small: false, .. } | Argument::Output { .. } => "device ",
        Argument::Attribute { .. } => "",
        _ => "constant ",
    };
    let plain = declaration.strip_prefix("const ");
    (plain.map_or(format!("{space}{declaration}"), |plain| format!("const {space}{plain}")), name)
}

/// Returns the name under which the emulator keeps an attribute's value; some names mean the same.
pub fn attribute_field(name: &'static str) -> &'static str {
    match name {
        "grid_size" => "threads_per_grid",
        "thread_execution_width" => "threads_per_simdgroup",
        other => other,
    }
}

fn line_directive(source: &Source) -> String {
    let file = source.file.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ");
    format!("#line {} \"{file}\"\n", source.line.max(1))
}
