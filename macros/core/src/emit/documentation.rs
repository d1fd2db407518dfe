//! The documentation of a kernel: its ports and where its gradient comes from.

use crate::model::body::Body;
use crate::model::kernel::{Argument, DeclarationRole, Kernel, Route, ScalarKind};
use crate::model::port::{Port, PortRole};
use crate::plan::Plan;

/// Lines that follow the author's own.
pub fn lines(plan: &Plan) -> Vec<String> {
    let kernel = &plan.kernel;
    let mut lines = vec![String::new(), "# Ports".to_owned()];
    for (name, text) in kernel.argument_names().iter().zip(arguments(kernel)) {
        lines.push(format!("- `{name}`: {text}"));
    }
    for output in &kernel.outputs {
        lines.push(format!("- returns `{}`: {}", output.name, port(output)));
    }
    if !kernel.requirements.is_empty() {
        lines.push(String::new());
        lines.push("# Requirements".to_owned());
        lines.extend(kernel.requirements.iter().map(|requirement| format!("- `{requirement}`")));
        lines.push(String::new());
        lines.push(match fallback(plan) {
            Some(fallback) => format!("At other sizes `{fallback}` runs."),
            None => "Other sizes are an error.".to_owned(),
        });
    }
    lines.push(String::new());
    lines.push("# Gradient".to_owned());
    lines.push(gradient(plan));
    if let (Some(fallback), DeclarationRole::Forward(Route { fallback_on, .. })) = (fallback(plan), &kernel.role)
        && !fallback_on.is_empty()
    {
        let backends: Vec<_> = fallback_on.iter().map(|backend| backend.title()).collect();
        lines.push(String::new());
        lines.push(format!("On {} `{fallback}` runs: it is measured to be faster there.", backends.join(" and ")));
    }
    lines.push(String::new());
    lines.push("# Errors".to_owned());
    lines.push(
        "A shape or dtype that does not fit the ports, or two ports that disagree about a dimension; the error names \
         kernel and port."
            .to_owned(),
    );
    lines
}

/// The arguments of the generated function in words, in order.
pub fn arguments(kernel: &Kernel) -> Vec<String> {
    let written = kernel.arguments.iter().map(|argument| match argument {
        Argument::Input(index) => port(&kernel.inputs[*index]),
        Argument::Scalar(index) => {
            let kind = match kernel.scalars[*index].kind {
                ScalarKind::F32 => "f32",
                ScalarKind::I32 => "i32",
                ScalarKind::U32 => "u32",
                ScalarKind::Bool => "bool",
            };
            format!("scalar `{kind}`")
        }
        Argument::Unreadable(_) => "a parameter that could not be read".to_owned(),
    });
    let constants = kernel.free_constants().map(|constant| format!("template constant `{}`", constant.name));
    let dtypes =
        kernel.free_dtypes().map(|parameter| format!("dtype `{}`: {}", parameter.name, parameter.class_text()));
    written.chain(constants).chain(dtypes).collect()
}

/// A port in words.
pub fn port(port: &Port) -> String {
    let shape = port.shape_text();
    let role = match port.role {
        PortRole::Differentiable | PortRole::Output => "",
        PortRole::Constant => ", no gradient",
        PortRole::Index => ", indices",
        PortRole::Mask => ", a mask",
        PortRole::Saved => ", kept for the backward, not seen by the caller",
    };
    let optional = if port.optional { ", optional" } else { "" };
    format!("`{}` `{shape}`{optional}{role}", port.dtype)
}

fn compact(tokens: &proc_macro2::TokenStream) -> String {
    tokens.to_string().replace(' ', "")
}

/// The path of the fallback, if the kernel has one.
fn fallback(plan: &Plan) -> Option<String> {
    match &plan.kernel.role {
        DeclarationRole::Forward(route) => route.fallback.as_ref().map(|(fallback, _)| compact(fallback)),
        _ => None,
    }
}

fn gradient(plan: &Plan) -> String {
    let operations = matches!(&plan.kernel.body, Body::Rust(body) if body.stages.is_empty());
    match &plan.kernel.role {
        DeclarationRole::Stage => "None of its own: a stage is called by the Rust bodies of kernels.".to_owned(),
        DeclarationRole::Backward { of, .. } => format!("This is the gradient of `{}`.", compact(of)),
        DeclarationRole::Forward(route) => match (&route.backward, &route.fallback, &route.inference_only) {
            (_, _, Some((reason, _))) => format!("None: inference only ({reason})."),
            (Some((backward, _)), Some((fallback, _)), _) if !operations => format!(
                "The paired kernel `{}` on GPUs; elsewhere that of `{}`, the same function made of operations.",
                compact(backward),
                compact(fallback)
            ),
            (Some((backward, _)), _, _) => format!("The paired kernel `{}`.", compact(backward)),
            (None, Some((fallback, _)), _) => {
                format!("That of `{}`, the same function made of operations.", compact(fallback))
            }
            (None, None, None) => "None.".to_owned(),
        },
    }
}
