//! Ports: dtypes, shapes, roles, and the values that tests give them.

use proc_macro2::{Ident, Span};
use syn::spanned::Spanned;

use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::model::expression::Polynomial;
use crate::model::kernel::{Binding, DeclarationRole, Kernel};
use crate::model::port::{DTYPES, Dtype, DtypeParameter, Port, PortDtype, PortRole, Sample, dtype_named};
use crate::parse::expression::{self, Names};
use crate::parse::options::read_number;
use crate::parse::signature::PortSyntax;

pub(super) fn resolve_dtype(written: &Ident, dtypes: &[DtypeParameter]) -> Option<PortDtype> {
    let name = written.to_string();
    match dtypes.iter().find(|parameter| parameter.name == name) {
        Some(parameter) => Some(PortDtype::Parameter { name, class: parameter.class.clone() }),
        None => dtype_named(&name).map(PortDtype::Fixed),
    }
}

/// The dtype that Metal and MLX call so.
fn meant(name: &str) -> Option<&'static str> {
    Some(match name {
        "float" | "float32" => "f32",
        "half" | "float16" => "f16",
        "bfloat" | "bfloat16" => "bf16",
        "char" | "int8" => "i8",
        "uchar" | "uint8" => "u8",
        "short" | "int16" => "i16",
        "ushort" | "uint16" => "u16",
        "int" | "int32" => "i32",
        "uint" | "uint32" => "u32",
        "long" | "int64" => "i64",
        "ulong" | "uint64" => "u64",
        _ => return None,
    })
}

/// A port whose dtype is unknown passes for one of floats, once that is reported.
pub(super) fn resolve_port(
    port: PortSyntax,
    dtypes: &[DtypeParameter],
    names: &Names,
    is_backward: bool,
    diagnostics: &mut Diagnostics,
) -> Port {
    let PortSyntax { name, is_output, optional, dtype, shape, nodiff, saved, values, differs } = port;
    let resolved = resolve_dtype(&dtype, dtypes);
    if resolved.is_none() {
        let names: Vec<String> = DTYPES.iter().map(|dtype| format!("`{}`", dtype.name())).collect();
        let help = match meant(&dtype.to_string()) {
            Some(name) => format!("write `{name}`: dtypes have Rust's names"),
            None => format!("use {}, or declare a parameter: `<{dtype}: Float>`", names.join(", ")),
        };
        diagnostics.push(Diagnostic::new(dtype.span(), format!("`{dtype}` is no dtype")).help(help));
    }
    let shape: Vec<_> = shape
        .iter()
        .filter_map(|extent| {
            let value = diagnostics.keep(expression::read(names, extent))?;
            if let Some(length) = value.as_constant().filter(|length| *length < 0) {
                diagnostics.push(
                    Diagnostic::new(extent.span(), format!("an axis of `{name}` has the length {length}"))
                        .help("write a length, or name it in upper case: `N`"),
                );
            }
            Some((value, extent.span()))
        })
        .collect();
    let dtype = resolved.unwrap_or(PortDtype::Fixed(Dtype::F32));
    let role = match is_output {
        true if saved.is_some() => PortRole::Saved,
        true => PortRole::Output,
        false => PortRole::from_input(&dtype, nodiff.is_some()),
    };
    if let Some(span) = nodiff {
        if is_output {
            diagnostics.push(
                Diagnostic::new(span, format!("output `{name}` cannot be `#[nodiff]`"))
                    .help("leave its cotangent out of the backward with `ignores(..)`"),
            );
        } else if !dtype.is_float() {
            diagnostics.push(
                Diagnostic::new(span, format!("`{name}` has dtype `{dtype}`, so it has no gradient anyway"))
                    .help("remove `#[nodiff]`"),
            );
        }
    }
    if let Some(span) = saved {
        if !is_output {
            diagnostics.push(
                Diagnostic::new(span, format!("input `{name}` cannot be `#[saved]`"))
                    .help("remove it: a backward may take every input of its forward"),
            );
        } else if is_backward {
            diagnostics.push(
                Diagnostic::new(span, format!("`{name}` is an output of a backward, which keeps nothing"))
                    .help("remove `#[saved]`"),
            );
        }
    }
    if let (Some((_, span)), false) = (&differs, is_output && is_backward) {
        diagnostics.push(
            Diagnostic::new(*span, format!("`{name}` is no gradient, which alone can differ from the derivative"))
                .help("write it on the gradient, an output of the backward"),
        );
    }
    let sample = match values {
        None if is_output && is_backward => differs.map(|(reason, _)| Sample::Differs(reason.value())),
        Some((.., span)) if is_output && (dtype.is_float() || dtype.is_bool()) => {
            diagnostics.push(
                Diagnostic::new(span, format!("tests do not fill the output `{name}`"))
                    .help("remove `#[values(..)]`; on an output of integers it says their range"),
            );
            None
        }
        Some((.., span)) if dtype.is_bool() => {
            diagnostics.push(
                Diagnostic::new(span, format!("`{name}` is true or false: there is no range of that"))
                    .help("remove `#[values(..)]`"),
            );
            None
        }
        Some((low, high, only, span)) if dtype.is_float() => {
            let ends = read_number(&low).and_then(|low| read_number(&high).map(|high| (low, high)));
            diagnostics.keep(ends).filter(|(low, high)| low < high || empty(span, &name, diagnostics)).map(
                |(low, high)| match only {
                    Some(reason) => Sample::Domain(low, high, reason.value()),
                    None => Sample::Floats(low, high),
                },
            )
        }
        Some((_, _, Some(only), _)) => {
            diagnostics.push(
                Diagnostic::new(only.span(), format!("`{name}` holds no floats, so its range is all there is anyway"))
                    .help("remove `only = ..`"),
            );
            None
        }
        Some((low, high, None, span)) => {
            let ends =
                expression::read(names, &low).and_then(|low| expression::read(names, &high).map(|high| (low, high)));
            let is_range = |low: &Polynomial, high: &Polynomial| match (low.as_constant(), high.as_constant()) {
                (Some(low), Some(high)) => low < high,
                _ => true,
            };
            let ends = diagnostics.keep(ends);
            ends.filter(|(low, high)| is_range(low, high) || empty(span, &name, diagnostics))
                .map(|(low, high)| Sample::Integers(low, high))
        }
        None => None,
    };
    if let (Some(span), true, false) = (optional, is_output, is_backward) {
        diagnostics.push(
            Diagnostic::new(span, format!("output `{name}` cannot be optional: the kernel always writes it")).help(
                "remove `Option`; an output that only the backward reads is `#[saved]`, and not computed in inference",
            ),
        );
    }
    let optional = optional.is_some();
    Port { name, dtype, shape, role, optional, sample: sample.unwrap_or(Sample::Default) }
}

/// Reports a range in which no value lies.
pub(super) fn empty(span: Span, name: &Ident, diagnostics: &mut Diagnostics) -> bool {
    diagnostics.push(
        Diagnostic::new(span, format!("no value of `{name}` lies in this range"))
            .help("write the lower end first: `#[values(0..4)]`; the upper end is no value itself"),
    );
    false
}

/// The first input that every call has in whose shape `name` stands alone.
pub(super) fn find_binding(inputs: &[Port], name: &str) -> Option<Binding> {
    inputs.iter().enumerate().filter(|(_, port)| !port.optional).find_map(|(input, port)| {
        let axis = port.shape.iter().position(|(extent, _)| extent.as_symbol() == Some(name))?;
        Some(Binding { input, axis })
    })
}

/// Checks that an input settles each dtype parameter in every call, unless the parameter is an argument.
pub(super) fn check_dtypes_bound(kernel: &Kernel, diagnostics: &mut Diagnostics) {
    for parameter in kernel.dtypes.iter().filter(|parameter| parameter.class.len() != 1) {
        let name = &parameter.name;
        let found: Vec<&Port> = kernel.inputs.iter().filter(|port| port.dtype.is_parameter(name)).collect();
        let is_stage = matches!(kernel.role, DeclarationRole::Stage);
        match found.first() {
            Some(_) if found.iter().any(|port| !port.optional) => {}
            Some(port) => diagnostics.push(
                Diagnostic::new(
                    port.name.span(),
                    format!(
                        "dtype `{name}` stands in no input but the optional `{}`: without that nothing says what it is",
                        port.name
                    ),
                )
                .help(format!("give an input that is always there the dtype `{name}`, or write a fixed one")),
            ),
            None if is_stage && kernel.outputs.iter().any(|port| port.dtype.is_parameter(name)) => {}
            None if is_stage => diagnostics.push(
                Diagnostic::new(name.span(), format!("dtype `{name}` stands in no port"))
                    .help("use it in a port, or write a fixed dtype in the source"),
            ),
            None => diagnostics.push(
                Diagnostic::new(name.span(), format!("dtype `{name}` stands in no input, so nothing says what it is"))
                    .help("use it in an input, or write a fixed dtype"),
            ),
        }
    }
}
