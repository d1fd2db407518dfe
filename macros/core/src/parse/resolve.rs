//! Resolves the names of a declaration: `Decl -> Kernel`.

use proc_macro2::{Ident, Span};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{Expr, LitStr, Path};

use super::declaration::{BodySyntax, Decl};
use super::expression;
use super::options::{Attribute, read_number, tokens};
use super::signature::{Parameter, PortSyntax};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::model::body::{Body, Launch, RustBody};
use crate::model::expression::Polynomial;
use crate::model::kernel::{
    Argument, Binding, Case, Dimension, Extents, Kernel, Role, Route, Scalar, TemplateConstant,
};
use crate::model::port::{Dtype, DtypeParameter, Port, PortDtype, PortRole, Sample};
use crate::model::requirement::Requirement;

/// Resolves `declaration`. What could not be resolved is reported and left out, so that the rest can still be checked.
pub fn resolve(declaration: Decl, diagnostics: &mut Diagnostics) -> Kernel {
    let Decl { attribute, options, attributes, visibility, name, dtypes, constants, parameters, unread_outputs, body } =
        declaration;
    let dtypes: Vec<DtypeParameter> = dtypes.into_iter().map(|(name, class)| DtypeParameter { name, class }).collect();
    let is_backward = options.backward_of.is_some();
    let names_of_constants: Vec<String> = constants.iter().map(|constant| constant.name.to_string()).collect();

    let (mut inputs, mut outputs, mut scalars, mut arguments) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut unreadable: Vec<Ident> = Vec::new();
    let mut names: Vec<Ident> = Vec::new();
    for parameter in parameters {
        let name = match &parameter {
            Parameter::Scalar(name, _) | Parameter::Unreadable(name) => name.clone(),
            Parameter::Port(port) => port.name.clone(),
        };
        if names.contains(&name) {
            diagnostics.push(used_twice(&name));
            continue;
        }
        names.push(name);
        match parameter {
            Parameter::Scalar(name, kind) => {
                arguments.push(Argument::Scalar(scalars.len()));
                scalars.push(Scalar { name, kind });
            }
            Parameter::Unreadable(name) => {
                arguments.push(Argument::Unreadable(unreadable.len()));
                unreadable.push(name);
            }
            Parameter::Port(port) => {
                let has_dtype = resolve_dtype(&port.dtype, &dtypes).is_some();
                let port = resolve_port(*port, &dtypes, &names_of_constants, is_backward, diagnostics);
                match (port.role.is_output(), has_dtype) {
                    (true, _) => outputs.push(port),
                    (false, true) => {
                        arguments.push(Argument::Input(inputs.len()));
                        inputs.push(port);
                    }
                    // Its shape still binds dimensions.
                    (false, false) => {
                        arguments.push(Argument::Unreadable(unreadable.len()));
                        unreadable.push(port.name.clone());
                        inputs.push(port);
                    }
                }
            }
        }
    }
    let is_partial = !unreadable.is_empty() || unread_outputs > 0;
    if outputs.is_empty() && !is_partial && diagnostics.is_empty() {
        diagnostics.push(
            Diagnostic::new(name.span(), format!("kernel `{name}` has no output"))
                .help("declare one: `y: Out![f32; B, D]`"),
        );
    }

    let constants = constants
        .into_iter()
        .map(|constant| {
            let bound = find_binding(&inputs, &constant.name.to_string());
            TemplateConstant { name: constant.name, kind: constant.kind, bound }
        })
        .collect();
    let role = match (attribute, &options.backward_of) {
        (Attribute::Stage, _) => Role::Stage,
        (Attribute::Differentiable, Some(of)) => {
            Role::Backward { of: tokens(of), span: of.span(), ignores: options.ignores.clone() }
        }
        (Attribute::Differentiable, None) => {
            let spanned = |path: &Option<Path>| path.as_ref().map(|path| (tokens(path), path.span()));
            let reason = options.inference_only.as_ref().map(|reason| (reason.value(), reason.span()));
            // A route that could not be read was reported; saying that there is none would be a second error for it.
            let unread = || {
                ["backward", "fallback", "inference_only"]
                    .iter()
                    .find_map(|option| options.span_of(option))
                    .map(|span| (proc_macro2::TokenStream::new(), span))
            };
            let backward = spanned(&options.backward);
            let mut fallback = spanned(&options.fallback);
            if backward.is_none() && reason.is_none() {
                fallback = fallback.or_else(unread);
            }
            let fallback_on = options.fallback_on.clone();
            let expensive = options.expensive.is_some();
            Role::Forward(Route { backward, fallback, fallback_on, expensive, inference_only: reason })
        }
    };
    let mut kernel = Kernel {
        name,
        visibility,
        attributes,
        role,
        dtypes,
        constants,
        dimensions: Vec::new(),
        inputs,
        outputs,
        scalars,
        unreadable,
        arguments,
        requirements: Vec::new(),
        body: Body::Rust(RustBody {
            block: Default::default(),
            span: Span::call_site(),
            stages: Vec::new(),
            identifiers: Vec::new(),
        }),
        cases: Vec::new(),
        untested: options.untested.as_ref().map(LitStr::value),
        cases_span: options.cases.as_ref().map(|(_, span)| *span),
        is_partial: is_partial || options.is_partial,
    };
    kernel.dimensions = resolve_dimensions(&kernel, diagnostics);
    if !kernel.is_partial && diagnostics.is_empty() {
        check_dtypes_bound(&kernel, diagnostics);
    }
    check_names(&kernel, diagnostics);
    if let Some((cases, _)) = &options.cases {
        kernel.cases = cases.iter().map(|case| Case { values: case.values.clone(), span: case.span }).collect();
    }

    kernel.requirements = resolve_requirements(&kernel, &options.requires, diagnostics);
    kernel.body = match body {
        BodySyntax::Metal { metal, cuda } => {
            if let Some(span) = options.span_of("stages") {
                diagnostics.push(
                    Diagnostic::new(span, "option `stages` is for Rust bodies, and this kernel is one launch")
                        .help("remove it, or write a Rust body"),
                );
            }
            let one = || [(); 3].map(|()| Polynomial::constant(1));
            let mut extents = |option: &str, given: &Option<(Vec<Expr>, Span)>| match given {
                Some((extents, span)) => {
                    let resolved = resolve_extents(&kernel, extents, diagnostics);
                    Some((resolved.unwrap_or_else(one), *span))
                }
                // Written, but unreadable: reported already.
                None => options.span_of(option).map(|span| (one(), span)),
            };
            Body::Launch(Box::new(Launch {
                metal,
                cuda,
                grid: extents("grid", &options.grid),
                threads: extents("threads", &options.threads),
                headers: options.headers.iter().map(tokens).collect(),
                init: options.init,
                atomic: options.atomic,
                nondeterministic: options.nondeterministic.is_some(),
                strided: options.strided.is_some(),
            }))
        }
        BodySyntax::Rust { block, span, identifiers } => {
            let of_launches = ["grid", "threads", "headers", "init", "atomic", "nondeterministic", "strided"];
            let given: Vec<(&str, Span)> =
                of_launches.iter().filter_map(|option| Some((*option, options.span_of(option)?))).collect();
            // A kernel without a body has not said yet which of the two it is.
            if let Some((_, span)) = given.first().filter(|_| !identifiers.is_empty()) {
                let names: Vec<String> = given.iter().map(|(option, _)| format!("`{option}`")).collect();
                let message = match names.as_slice() {
                    [one] => format!("option {one} is for launches, and this kernel has a Rust body"),
                    several => {
                        format!("options {} are for launches, and this kernel has a Rust body", several.join(", "))
                    }
                };
                diagnostics.push(
                    Diagnostic::new(*span, message).help("move what is for a launch to the `#[stage]` that makes it"),
                );
            }
            if attribute == Attribute::Stage {
                diagnostics.push(
                    Diagnostic::new(kernel.name.span(), format!("stage `{}` is not a launch", kernel.name))
                        .help("write `metal! { .. }`; an ordinary function needs no attribute"),
                );
            }
            let stages = options.stages.iter().map(ToTokens::to_token_stream).collect();
            Body::Rust(RustBody { block, span, stages, identifiers })
        }
    };
    kernel
}

fn resolve_dtype(written: &Ident, dtypes: &[DtypeParameter]) -> Option<PortDtype> {
    let name = written.to_string();
    match dtypes.iter().find(|parameter| parameter.name == name) {
        Some(parameter) => Some(PortDtype::Parameter { name, class: parameter.class.clone() }),
        None => Dtype::named(&name).map(PortDtype::Fixed),
    }
}

/// A port whose dtype is unknown passes for one of floats, once that is reported.
fn resolve_port(
    port: PortSyntax,
    dtypes: &[DtypeParameter],
    constants: &[String],
    is_backward: bool,
    diagnostics: &mut Diagnostics,
) -> Port {
    let PortSyntax { name, is_output, optional, dtype, shape, nodiff, saved, values, differs } = port;
    let resolved = resolve_dtype(&dtype, dtypes);
    if resolved.is_none() {
        let names: Vec<String> = Dtype::ALL.iter().map(|(name, _)| format!("`{name}`")).collect();
        diagnostics.push(
            Diagnostic::new(dtype.span(), format!("`{dtype}` is no dtype"))
                .help(format!("use {}, or declare a parameter: `<{dtype}: Float>`", names.join(", "))),
        );
    }
    let shape: Vec<_> = shape
        .iter()
        .filter_map(|extent| {
            let value = diagnostics.keep(expression::read_with(constants, extent))?;
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
    let role = match (is_output, dtype.is_float()) {
        (true, _) if saved.is_some() => PortRole::Saved,
        (true, _) => PortRole::Output,
        (false, true) if nodiff.is_some() => PortRole::Constant,
        (false, true) => PortRole::Differentiable,
        (false, false) if dtype.is_bool() => PortRole::Mask,
        (false, false) => PortRole::Index,
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
            let ends = expression::read(&low).and_then(|low| expression::read(&high).map(|high| (low, high)));
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
fn empty(span: Span, name: &Ident, diagnostics: &mut Diagnostics) -> bool {
    diagnostics.push(
        Diagnostic::new(span, format!("no value of `{name}` lies in this range"))
            .help("write the lower end first: `#[values(0..4)]`; the upper end is no value itself"),
    );
    false
}

/// The first input that every call has in whose shape `name` stands alone.
fn find_binding(inputs: &[Port], name: &str) -> Option<Binding> {
    inputs.iter().enumerate().filter(|(_, port)| !port.optional).find_map(|(input, port)| {
        let axis = port.shape.iter().position(|(extent, _)| extent.as_symbol() == Some(name))?;
        Some(Binding { input, axis })
    })
}

/// A dtype parameter that no input settles in every call has no meaning in some.
fn check_dtypes_bound(kernel: &Kernel, diagnostics: &mut Diagnostics) {
    for parameter in kernel.dtypes.iter().filter(|parameter| parameter.class.len() != 1) {
        let binds =
            |port: &&Port| matches!(&port.dtype, PortDtype::Parameter { name, .. } if parameter.name == name.as_str());
        let found: Vec<&Port> = kernel.inputs.iter().filter(binds).collect();
        let name = &parameter.name;
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
            None => diagnostics.push(
                Diagnostic::new(name.span(), format!("dtype `{name}` stands in no input, so nothing says what it is"))
                    .help("use it in an input, or write a fixed dtype"),
            ),
        }
    }
}

fn resolve_dimensions(kernel: &Kernel, diagnostics: &mut Diagnostics) -> Vec<Dimension> {
    let mut dimensions: Vec<Dimension> = Vec::new();
    let mut unbound: Vec<String> = Vec::new();
    for (extent, span) in kernel.ports().flat_map(|port| &port.shape) {
        for name in extent.symbols() {
            let constant = kernel.constants.iter().find(|constant| constant.name == name);
            if let Some(constant) = constant {
                if constant.kind == crate::model::kernel::ConstantKind::Bool {
                    diagnostics.push(Diagnostic::new(*span, format!("`{name}` is a bool, not a length")));
                }
                continue;
            }
            if kernel.dtypes.iter().any(|dtype| dtype.name == name) {
                diagnostics.push(Diagnostic::new(*span, format!("`{name}` is a dtype, not a length")));
                continue;
            }
            if dimensions.iter().any(|dimension| dimension.name == name) || unbound.contains(&name) {
                continue;
            }
            match find_binding(&kernel.inputs, &name) {
                Some(bound) => dimensions.push(Dimension { name, bound }),
                // What could not be read may bind it.
                None if kernel.is_partial || !diagnostics.is_empty() => unbound.push(name),
                None => {
                    let alone = |port: &&Port| port.shape.iter().any(|(extent, _)| extent.as_symbol() == Some(&name));
                    let (message, place) = match kernel.inputs.iter().find(alone) {
                        Some(optional) => (
                            format!(
                                "dimension `{name}` stands alone only in the shape of the optional `{}`: without that \
                                 nothing says its size",
                                optional.name
                            ),
                            "the shape of an input that is always there",
                        ),
                        None => (
                            format!("dimension `{name}` stands alone in no input's shape, so nothing says its size"),
                            "an input's shape",
                        ),
                    };
                    diagnostics.push(
                        Diagnostic::new(*span, message)
                            .help(format!("declare it as `const {name}: usize`, or use it alone in {place}")),
                    );
                    unbound.push(name);
                }
            }
        }
    }
    dimensions
}

fn constant_names(kernel: &Kernel) -> Vec<String> {
    kernel.constants.iter().map(|constant| constant.name.to_string()).collect()
}

fn resolve_extents(kernel: &Kernel, extents: &[Expr], diagnostics: &mut Diagnostics) -> Option<Extents> {
    let mut resolved: Vec<Polynomial> = Vec::new();
    for extent in extents {
        let value = diagnostics.keep(expression::read_with(&constant_names(kernel), extent))?;
        check_symbols(kernel, &value.symbols(), extent.span(), diagnostics);
        resolved.push(value);
    }
    resolved.try_into().ok()
}

fn resolve_requirements(kernel: &Kernel, written: &[Expr], diagnostics: &mut Diagnostics) -> Vec<Requirement> {
    let mut requirements: Vec<Requirement> = Vec::new();
    for requirement in written {
        let Some(requirement) = diagnostics.keep(expression::read_requirement(&constant_names(kernel), requirement))
        else {
            continue;
        };
        let symbols = requirement.symbols();
        if symbols.is_empty() {
            let verdict = if requirement.holds(&|_| None) { "always" } else { "never" };
            diagnostics.push(
                Diagnostic::new(requirement.span, format!("`{requirement}` holds {verdict}, whatever the sizes are"))
                    .help(known_symbols(kernel)),
            );
        } else if check_symbols(kernel, &symbols, requirement.span, diagnostics) {
            requirements.push(requirement);
        }
    }
    requirements
}

/// Whether each of `symbols` is a dimension or constant of the kernel; reports those that are not.
fn check_symbols(kernel: &Kernel, symbols: &[String], span: Span, diagnostics: &mut Diagnostics) -> bool {
    // What could not be read may be what names them.
    let is_partial = kernel.is_partial || !diagnostics.is_empty();
    let unknown = symbols.iter().filter(|name| !kernel.has_symbol(name) && !is_partial);
    let mut all_known = true;
    for name in unknown {
        all_known = false;
        diagnostics.push(
            Diagnostic::new(span, format!("`{name}` is no dimension or constant of `{}`", kernel.name))
                .help(known_symbols(kernel)),
        );
    }
    all_known
}

/// A help line that lists what may stand in an extent.
pub fn known_symbols(kernel: &Kernel) -> String {
    let mut names: Vec<String> = kernel.dimensions.iter().map(|dimension| format!("`{}`", dimension.name)).collect();
    names.extend(kernel.constants.iter().map(|constant| format!("`{}`", constant.name)));
    if names.is_empty() { "use integers".to_owned() } else { format!("use {}", names.join(", ")) }
}

/// Names are unique, and those that the expansion gives a meaning are left to it.
fn check_names(kernel: &Kernel, diagnostics: &mut Diagnostics) {
    let mut seen: Vec<&Ident> = Vec::new();
    let lower = || kernel.ports().map(|port| &port.name).chain(kernel.scalars.iter().map(|scalar| &scalar.name));
    for name in kernel.dtypes.iter().map(|dtype| &dtype.name).chain(kernel.constants.iter().map(|value| &value.name)) {
        if seen.contains(&name) {
            diagnostics.push(used_twice(name));
        }
        seen.push(name);
    }
    for name in lower().filter(|name| !seen.contains(name)) {
        if kernel.dimensions.iter().any(|dimension| *name == dimension.name) {
            diagnostics.push(
                Diagnostic::new(
                    name.span(),
                    format!("`{name}` is the name of this parameter and of a dimension, which is `{name}` in a shape"),
                )
                .help("rename the dimension: it is called by its name in the signature and in the text alone"),
            );
        }
    }
    for name in lower().filter(|name| seen.contains(name)) {
        diagnostics.push(used_twice(name));
    }
    for name in kernel.generated_constants() {
        if let Some(taken) = seen.iter().find(|taken| **taken == &name) {
            diagnostics.push(
                Diagnostic::new(taken.span(), format!("`{name}` has a meaning in kernel `{}` already", kernel.name))
                    .help("rename the constant"),
            );
        }
    }
    for name in lower().chain(seen).chain([&kernel.name]).filter(|name| name.to_string().starts_with("r#")) {
        diagnostics.push(
            Diagnostic::new(name.span(), format!("`{name}` is a name in Rust only"))
                .help("choose one that is no word of Rust"),
        );
    }
    for port in kernel.ports() {
        let text = port.name.to_string();
        if !kernel.is_backward() && !kernel.is_partial && (text.starts_with("d_") || text.starts_with("wants_")) {
            diagnostics.push(
                Diagnostic::new(
                    port.name.span(),
                    format!("`{text}` is a name of a backward: `d_` and `wants_` begin those"),
                )
                .help("rename the port"),
            );
        }
    }
}

fn used_twice(name: &Ident) -> Diagnostic {
    Diagnostic::new(name.span(), format!("the name `{name}` is used twice in one signature"))
        .help("rename one of the two")
}
