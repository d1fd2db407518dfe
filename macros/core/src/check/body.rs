//! What a body does with its ports.

use proc_macro2::Ident;

use crate::catalogue::Code;
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::model::body::{Body, RustBody};
use crate::model::kernel::{Kernel, Role};

/// Checks the body against the ports.
pub fn check(kernel: &Kernel, diagnostics: &mut Diagnostics) {
    match &kernel.body {
        Body::Rust(body) => check_rust(kernel, body, diagnostics),
        Body::Launch(_) => {}
    }
}

/// A port that a Rust body never names is not read by it.
fn check_rust(kernel: &Kernel, body: &RustBody, diagnostics: &mut Diagnostics) {
    let names = |identifier: &Ident| body.identifiers.iter().any(|known| known == identifier);
    for port in kernel.inputs.iter().filter(|port| !names(&port.name)) {
        diagnostics.push(unread(kernel, &port.name));
    }
}

/// The error for an input that a body never mentions.
pub fn unread(kernel: &Kernel, port: &Ident) -> Diagnostic {
    let name = &kernel.name;
    match &kernel.role {
        Role::Backward { of, .. } if port.to_string().starts_with("d_") => Diagnostic::coded(
            Code::C05,
            port.span(),
            format!("backward `{name}` never reads the cotangent `{port}`"),
        )
        .help(format!(
            "use it, or remove the port and write `ignores({})`: then gradients through that output of `{of}` are zero",
            port.to_string().trim_start_matches("d_")
        )),
        Role::Backward { .. } => Diagnostic::coded(
            Code::C15,
            port.span(),
            format!("backward `{name}` never reads `{port}`, which is kept in memory for it"),
        )
        .help("use it, or remove the port"),
        _ => Diagnostic::coded(Code::C12, port.span(), format!("the body of `{name}` never reads its input `{port}`"))
            .help("use it, or remove the port"),
    }
}
