//! Checks the limits of Metal, as far as the declaration alone shows them (C14).

use std::collections::BTreeSet;

use crate::catalogue::{Code, entry};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::model::body::Body;
use crate::model::kernel::Kernel;
use cotangent_metal::limits::{MAX_BUFFERS, MAX_THREADS};
use cotangent_metal::tokens::text::Text;

/// Checks the extents of a launch and the number of its buffers.
pub fn check(kernel: &Kernel, diagnostics: &mut Diagnostics) {
    let Body::Launch(launch) = &kernel.body else { return };
    let name = &kernel.name;
    let missing: Vec<&str> = [(&launch.grid, "grid"), (&launch.threads, "threads")]
        .into_iter()
        .filter_map(|(given, option)| given.is_none().then_some(option))
        .collect();
    // An attribute without a route is not a declaration yet, which was already reported.
    if !missing.is_empty() && diagnostics.is_empty() {
        let named: Vec<String> = missing.iter().map(|option| format!("`{option}`")).collect();
        let written: Vec<String> = missing.iter().map(|option| format!("`{option} = (x, y, z)`")).collect();
        diagnostics.push(
            Diagnostic::new(name.span(), format!("launch `{name}` has no {}", named.join(" and no ")))
                .help(format!("write {} in the attribute", written.join(" and "))),
        );
    }
    for (given, option) in [(&launch.grid, "grid"), (&launch.threads, "threads")] {
        match given {
            None => {}
            Some((extents, span)) => {
                for extent in extents.iter().filter(|extent| extent.as_constant().is_some_and(|value| value < 1)) {
                    diagnostics.push(
                        Diagnostic::coded(Code::C14, *span, format!("an extent of `{option}` is {extent}"))
                            .help("make every extent at least one"),
                    );
                }
            }
        }
    }
    if let Some((threads, span)) = &launch.threads {
        let literal: Option<Vec<i64>> = threads.iter().map(|extent| extent.as_constant()).collect();
        let product = literal.and_then(|extents| extents.iter().try_fold(1_i64, |all, one| all.checked_mul(*one)));
        if let Some(product) = product.filter(|product| *product > MAX_THREADS) {
            diagnostics.push(
                Diagnostic::coded(
                    Code::C14,
                    *span,
                    format!("a threadgroup of `{name}` has {product} threads, Metal allows {MAX_THREADS}"),
                )
                .help(entry(Code::C14).help),
            );
        }
    }
    let own = kernel.ports().count() + kernel.scalars.len();
    let buffers = own + described(kernel, &launch.metal);
    if buffers > MAX_BUFFERS {
        diagnostics.push(
            Diagnostic::coded(
                Code::C14,
                name.span(),
                format!(
                    "`{name}` needs {buffers} buffers, {} of them for shapes and strides; Metal allows {MAX_BUFFERS}",
                    buffers - own
                ),
            )
            .help("pack scalars and small arrays into one port"),
        );
    }
    if let (Some(span), false) = (launch.atomic, launch.nondeterministic)
        && kernel.outputs.iter().any(|port| port.dtype.is_float())
    {
        diagnostics.push(
            Diagnostic::coded(Code::C13, span, format!("float atomics make `{name}` differ from run to run"))
                .help("say so with `nondeterministic`, or sum in a fixed order"),
        );
    }
    if let (Some(span), None) = (launch.atomic, launch.init) {
        diagnostics.push(
            Diagnostic::coded(Code::C13, span, format!("`{name}` accumulates into outputs that nothing initialised"))
                .help("add `init = 0.0`"),
        );
    }
}

/// The buffers in which MLX passes shapes, strides and ranks: those that the text mentions, and the shapes from which
/// it takes dimensions by name.
fn described(kernel: &Kernel, text: &Text) -> usize {
    let mentioned: BTreeSet<&str> = text.names().into_iter().collect();
    let mut described = BTreeSet::new();
    for port in &kernel.inputs {
        let names = ["shape", "strides", "ndim"].map(|what| format!("{}_{what}", port.name));
        described.extend(names.into_iter().filter(|name| mentioned.contains(name.as_str())));
    }
    for dimension in kernel.dimensions.iter().filter(|dimension| mentioned.contains(dimension.name.as_str())) {
        described.insert(format!("{}_shape", kernel.inputs[dimension.bound.input].name));
    }
    described.len()
}
