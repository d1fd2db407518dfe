//! Names of one signature, each for one thing.

use proc_macro2::Ident;

use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::model::kernel::Kernel;

/// Names are unique, and those that the expansion gives a meaning are left to it.
pub(super) fn check_names(kernel: &Kernel, diagnostics: &mut Diagnostics) {
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
    for size in &kernel.sizes {
        if seen.contains(&&size.name) || lower().any(|name| *name == size.name) {
            diagnostics.push(used_twice(&size.name));
        }
    }
    for name in kernel.generated_constants() {
        let sizes = kernel.sizes.iter().map(|size| &size.name);
        if let Some(taken) = seen.iter().copied().chain(sizes).find(|taken| **taken == name) {
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

pub(super) fn used_twice(name: &Ident) -> Diagnostic {
    Diagnostic::new(name.span(), format!("the name `{name}` is used twice in one signature"))
        .help("rename one of the two")
}
