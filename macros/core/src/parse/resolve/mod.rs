//! Resolves the names of a declaration: `Decl -> Kernel`.

mod names;
mod ports;
mod sizes;

use proc_macro2::{Ident, Span};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{Expr, LitStr, Path};

use super::declaration::{BodySyntax, Decl};
use super::options::{Attribute, tokens};
use super::signature::Parameter;
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::model::body::{Body, Launch, RustBody};
use crate::model::expression::Polynomial;
use crate::model::kernel::{Argument, Case, DeclarationRole, Kernel, Route, Scalar, TemplateConstant, Unreadable};
use crate::model::port::{DtypeParameter, Sample};
use names::{check_names, used_twice};
use ports::{check_dtypes_bound, find_binding, resolve_dtype, resolve_port};
use sizes::{check_sizes, check_symbols, resolve_dimensions, resolve_extents, resolve_requirements, resolve_sizes};

/// Resolves `declaration`. What could not be resolved is reported and left out, so that the rest can still be checked.
pub fn resolve(declaration: Decl, diagnostics: &mut Diagnostics) -> Kernel {
    let Decl { attribute, options, attributes, visibility, name, dtypes, constants, parameters, unread_outputs, body } =
        declaration;
    let dtypes: Vec<DtypeParameter> = dtypes.into_iter().map(|(name, class)| DtypeParameter { name, class }).collect();
    let is_backward = options.backward_of.is_some();
    let names_of_constants = constants.iter().map(|constant| constant.name.to_string()).collect();
    let known = resolve_sizes(&options.dims, names_of_constants, diagnostics);

    let (mut inputs, mut outputs, mut scalars, mut arguments) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut unreadable: Vec<Unreadable> = Vec::new();
    let mut names: Vec<Ident> = Vec::new();
    for parameter in parameters {
        let name = match &parameter {
            Parameter::Scalar(name, ..) => name.clone(),
            Parameter::Unreadable(parameter) => parameter.name.clone(),
            Parameter::Port(port) => port.name.clone(),
        };
        if names.contains(&name) {
            diagnostics.push(used_twice(&name));
            continue;
        }
        names.push(name);
        match parameter {
            Parameter::Scalar(name, kind, domain) => {
                arguments.push(Argument::Scalar(scalars.len()));
                let domain =
                    domain.filter(|(low, high, _)| low < high || ports::empty(name.span(), &name, diagnostics));
                scalars.push(Scalar { name, kind, domain });
            }
            Parameter::Unreadable(parameter) => {
                arguments.push(Argument::Unreadable(unreadable.len()));
                unreadable.push(parameter);
            }
            Parameter::Port(port) => {
                let has_dtype = resolve_dtype(&port.dtype, &dtypes).is_some();
                let port = resolve_port(*port, &dtypes, &known, is_backward, diagnostics);
                match (port.role.is_output(), has_dtype) {
                    (true, _) => outputs.push(port),
                    (false, true) => {
                        arguments.push(Argument::Input(inputs.len()));
                        inputs.push(port);
                    }
                    // Its shape still binds dimensions.
                    (false, false) => {
                        arguments.push(Argument::Unreadable(unreadable.len()));
                        unreadable.push(Unreadable {
                            name: port.name.clone(),
                            role: port.role,
                            optional: port.optional,
                        });
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
        (Attribute::Stage, _) => DeclarationRole::Stage,
        (Attribute::Differentiable, Some(of)) => {
            DeclarationRole::Backward { of: tokens(of), span: of.span(), ignores: options.ignores.clone() }
        }
        // The name could not be read, which was reported; the kernel is a backward all the same.
        (Attribute::Differentiable, None) if options.span_of("backward_of").is_some() => {
            let span = options.span_of("backward_of").unwrap_or_else(Span::call_site);
            DeclarationRole::Backward { of: proc_macro2::TokenStream::new(), span, ignores: Vec::new() }
        }
        (Attribute::Differentiable, None) => {
            let spanned = |path: &Option<Path>| path.as_ref().map(|path| (tokens(path), path.span()));
            let reason = options.inference_only.as_ref().map(|reason| (reason.value(), reason.span()));
            // A route that could not be read was reported; an error about a missing route would be a second one.
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
            DeclarationRole::Forward(Route { backward, fallback, fallback_on, expensive, inference_only: reason })
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
        sizes: known.sizes.clone(),
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
    check_sizes(&kernel, diagnostics);
    kernel.dimensions = resolve_dimensions(&kernel, diagnostics);
    if !kernel.is_partial && diagnostics.is_empty() {
        check_dtypes_bound(&kernel, diagnostics);
    }
    check_names(&kernel, diagnostics);
    for port in kernel.ports() {
        if let Sample::Integers(low, high) = &port.sample {
            let symbols = [low.symbols(), high.symbols()].concat();
            check_symbols(&kernel, &symbols, port.name.span(), diagnostics);
        }
    }
    if let Some((cases, _)) = &options.cases {
        kernel.cases = cases.iter().map(|case| Case { values: case.values.clone(), span: case.span }).collect();
    }

    kernel.requirements = resolve_requirements(&kernel, &known, &options.requires, diagnostics);
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
                    let resolved = resolve_extents(&kernel, &known, extents, diagnostics);
                    Some((resolved.unwrap_or_else(one), *span))
                }
                // The option is written but unreadable, which was reported.
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
            // An empty body may become either kind, so it is not refused yet.
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
