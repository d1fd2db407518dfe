//! Checks that a kernel has a gradient or says why not (C01), and C02 and C05 as far as one declaration shows them.

use crate::catalogue::{Code, entry};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::model::kernel::{DeclarationRole, Kernel, Route};
use crate::model::port::PortRole;

/// Checks the gradient route.
pub fn check(kernel: &Kernel, diagnostics: &mut Diagnostics) {
    match &kernel.role {
        DeclarationRole::Forward(route) => {
            let name = &kernel.name;
            if route.backward.is_none() && route.fallback.is_none() && route.inference_only.is_none() {
                diagnostics.push(
                    Diagnostic::coded(Code::C01, name.span(), format!("kernel `{name}` has no gradient route"))
                        .help(entry(Code::C01).help),
                );
            }
            if let Some((fallback, span)) = &route.fallback
                && *name == fallback.to_string()
            {
                diagnostics.push(
                    Diagnostic::new(*span, format!("`{name}` would be its own fallback"))
                        .help("name the same function made of differentiable operations"),
                );
            }
            check_residuals(kernel, route, diagnostics);
        }
        DeclarationRole::Backward { .. } => check_backward(kernel, diagnostics),
        DeclarationRole::Stage => {}
    }
}

/// A residual is for a backward.
fn check_residuals(kernel: &Kernel, route: &Route, diagnostics: &mut Diagnostics) {
    if route.backward.is_some() {
        return;
    }
    for port in kernel.outputs.iter().filter(|port| port.role == PortRole::Saved) {
        diagnostics.push(
            Diagnostic::coded(
                Code::C15,
                port.name.span(),
                format!(
                    "residual `{}` of `{}` is kept for a backward, and the kernel has none",
                    port.name, kernel.name
                ),
            )
            .help("name the backward that reads it with `backward = ..`, or remove the port"),
        );
    }
}

fn check_backward(kernel: &Kernel, diagnostics: &mut Diagnostics) {
    let name = &kernel.name;
    if let DeclarationRole::Backward { of, span, .. } = &kernel.role
        && *name == of.to_string()
    {
        diagnostics.push(
            Diagnostic::coded(Code::C16, *span, format!("`{name}` would be the backward of itself"))
                .help("name the kernel whose gradient it is"),
        );
        return;
    }
    for output in &kernel.outputs {
        let text = output.name.to_string();
        if !text.starts_with("d_") {
            // `dw` and `w_grad` mean the gradient of `w`.
            let primals = kernel.inputs.iter().map(|port| port.name.to_string()).filter(|port| !port.starts_with("d_"));
            let named = primals.filter(|port| text.starts_with(port.as_str()) || text.ends_with(port.as_str()));
            let meant = named.max_by_key(String::len).unwrap_or_else(|| "x".to_owned());
            diagnostics.push(
                Diagnostic::coded(
                    Code::C02,
                    output.name.span(),
                    format!("output `{}` of backward `{name}` is no gradient", output.name),
                )
                .help(format!(
                    "name the gradient of the forward's input `{meant}` `d_{meant}`; compute what lies between in a \
                     `#[stage]`"
                )),
            );
        }
    }
    if !kernel.inputs.iter().any(|port| port.name.to_string().starts_with("d_")) {
        diagnostics.push(
            Diagnostic::coded(Code::C05, name.span(), format!("backward `{name}` takes no cotangent"))
                .help("declare the input `d_y` for each output `y` of the forward"),
        );
    }
    for port in kernel.inputs.iter().filter(|port| port.name.to_string().starts_with("d_")) {
        if port.role == PortRole::Constant {
            diagnostics.push(
                Diagnostic::new(port.name.span(), format!("`{}` is a cotangent, not a constant", port.name))
                    .help("remove `#[nodiff]`"),
            );
        }
    }
}
