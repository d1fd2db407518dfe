//! Dimensions and constants: where they get their values, and where they are used.

use proc_macro2::{Ident, Span};
use syn::Expr;
use syn::spanned::Spanned;

use super::names::used_twice;
use super::ports::find_binding;
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::model::expression::Polynomial;
use crate::model::kernel::{ConstantKind, Dimension, Extents, Kernel, Size};
use crate::model::port::Port;
use crate::model::requirement::Requirement;
use crate::parse::expression::{self, Names};

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
                // A part that could not be read may bind it.
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

/// The names of `dims` with their values, each made of those written before it.
pub(super) fn resolve_sizes(written: &[(Ident, Expr)], constants: Vec<String>, diagnostics: &mut Diagnostics) -> Names {
    let mut names = Names { constants, sizes: Vec::new() };
    for (place, (name, expression)) in written.iter().enumerate() {
        let text = name.to_string();
        if names.constants.contains(&text) || names.sizes.iter().any(|size| size.name == text) {
            diagnostics.push(used_twice(name));
            continue;
        }
        if !text.starts_with(|first: char| first.is_ascii_uppercase()) {
            diagnostics.push(
                Diagnostic::new(name.span(), format!("`{text}` is no name of a size"))
                    .help("begin the names of `dims` with an upper-case letter"),
            );
            continue;
        }
        let Some(value) = diagnostics.keep(expression::read(&names, expression)) else { continue };
        // A size may use only the sizes above it, so that none depends on itself.
        let symbols = value.symbols();
        let later = written[place..].iter().find(|(later, _)| symbols.iter().any(|symbol| later == symbol));
        if let Some((later, _)) = later {
            let message = if later == name {
                format!("`{name}` is made of itself")
            } else {
                format!("`{name}` is made of `{later}`, which stands behind it")
            };
            diagnostics.push(
                Diagnostic::new(expression.span(), message)
                    .help("make each size of dimensions, constants and the sizes before it"),
            );
            continue;
        }
        names.sizes.push(Size { name: name.clone(), value });
    }
    names
}

/// Sizes are made of constants and of dimensions that an input binds.
pub(super) fn check_sizes(kernel: &Kernel, diagnostics: &mut Diagnostics) {
    // A part that could not be read may bind them.
    if kernel.is_partial || !diagnostics.is_empty() {
        return;
    }
    for size in &kernel.sizes {
        let is_constant = |symbol: &String| kernel.constants.iter().any(|constant| constant.name == symbol);
        let is_known = |symbol: &String| is_constant(symbol) || find_binding(&kernel.inputs, symbol).is_some();
        if let Some(unknown) = size.value.symbols().into_iter().find(|symbol| !is_known(symbol)) {
            diagnostics.push(
                Diagnostic::new(
                    size.name.span(),
                    format!(
                        "`{}` is made of `{unknown}`, which is no constant and stands alone in no input's shape",
                        size.name
                    ),
                )
                .help(format!("declare it as `const {unknown}: usize`, or use it alone in an input's shape")),
            );
        }
    }
}

pub(super) fn resolve_extents(
    kernel: &Kernel,
    names: &Names,
    extents: &[Expr],
    diagnostics: &mut Diagnostics,
) -> Option<Extents> {
    let mut resolved: Vec<Polynomial> = Vec::new();
    for extent in extents {
        let value = diagnostics.keep(expression::read(names, extent))?;
        check_symbols(kernel, &value.symbols(), extent.span(), diagnostics);
        resolved.push(value);
    }
    resolved.try_into().ok()
}

pub(super) fn resolve_requirements(
    kernel: &Kernel,
    names: &Names,
    written: &[Expr],
    diagnostics: &mut Diagnostics,
) -> Vec<Requirement> {
    let mut requirements: Vec<Requirement> = Vec::new();
    for requirement in written {
        let Some(requirement) = diagnostics.keep(expression::read_requirement(names, requirement)) else {
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

/// Returns whether each of `symbols` is a dimension or constant of the kernel; reports those that are not.
pub(super) fn check_symbols(kernel: &Kernel, symbols: &[String], span: Span, diagnostics: &mut Diagnostics) -> bool {
    // A part that could not be read may name them.
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
