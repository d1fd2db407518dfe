//! Dimensions and constants: where they get their values, and where they are used.

use proc_macro2::Span;
use syn::Expr;
use syn::spanned::Spanned;

use super::ports::find_binding;
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::model::expression::Polynomial;
use crate::model::kernel::{ConstantKind, Dimension, Extents, Kernel};
use crate::model::port::Port;
use crate::model::requirement::Requirement;
use crate::parse::expression;

pub(super) fn resolve_dimensions(kernel: &Kernel, diagnostics: &mut Diagnostics) -> Vec<Dimension> {
    let mut dimensions: Vec<Dimension> = Vec::new();
    let mut unbound: Vec<String> = Vec::new();
    for (extent, span) in kernel.ports().flat_map(|port| &port.shape) {
        for name in extent.symbols() {
            let constant = kernel.constants.iter().find(|constant| constant.name == name);
            if let Some(constant) = constant {
                if constant.kind == ConstantKind::Bool {
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

pub(super) fn constant_names(kernel: &Kernel) -> Vec<String> {
    kernel.constants.iter().map(|constant| constant.name.to_string()).collect()
}

pub(super) fn resolve_extents(kernel: &Kernel, extents: &[Expr], diagnostics: &mut Diagnostics) -> Option<Extents> {
    let mut resolved: Vec<Polynomial> = Vec::new();
    for extent in extents {
        let value = diagnostics.keep(expression::read_with(&constant_names(kernel), extent))?;
        check_symbols(kernel, &value.symbols(), extent.span(), diagnostics);
        resolved.push(value);
    }
    resolved.try_into().ok()
}

pub(super) fn resolve_requirements(
    kernel: &Kernel,
    written: &[Expr],
    diagnostics: &mut Diagnostics,
) -> Vec<Requirement> {
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
pub(super) fn check_symbols(kernel: &Kernel, symbols: &[String], span: Span, diagnostics: &mut Diagnostics) -> bool {
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
fn known_symbols(kernel: &Kernel) -> String {
    let mut names: Vec<String> = kernel.dimensions.iter().map(|dimension| format!("`{}`", dimension.name)).collect();
    names.extend(kernel.constants.iter().map(|constant| format!("`{}`", constant.name)));
    if names.is_empty() { "use integers".to_owned() } else { format!("use {}", names.join(", ")) }
}
