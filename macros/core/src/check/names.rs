//! Checks the names of a declaration and of its source (C12).

use std::collections::BTreeSet;

use proc_macro2::Span;

use super::body::Subject;
use crate::catalogue::Code;
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::model::kernel::{Dimension, Kernel};
use crate::model::port::Port;
use cotangent_metal::elsewhere::function_in_metal;
use cotangent_metal::names::{
    has_component, is_attribute, is_constant, is_reserved, is_type, is_unknown_collective, nearest, nearest_attribute,
    simdgroup_operations,
};
use cotangent_metal::tokens::scan::{Access, AccessKind, Scan};
use cotangent_metal::tokens::token::Name;

/// Checks that names of the declaration mean the same in the source.
pub fn check(kernel: &Kernel, diagnostics: &mut Diagnostics) {
    let ports = kernel.ports().map(|port| (&port.name, port.name.to_string(), port.name.span()));
    let scalars = kernel.scalars.iter().map(|scalar| (&scalar.name, scalar.name.to_string(), scalar.name.span()));
    for (name, text, span) in ports.chain(scalars) {
        let companion = kernel.inputs.iter().find(|port| is_companion(&text, port));
        let message = match companion {
            Some(port) => format!("`{name}` is what MLX calls a part of `{}`'s description", port.name),
            None if is_reserved(&text) => taken(kernel, &text),
            None => continue,
        };
        diagnostics.push(Diagnostic::coded(Code::C12, span, message).help("rename it"));
    }
    let dimensions =
        kernel.dimensions.iter().filter_map(|dimension| Some((&dimension.name, place(kernel, dimension)?)));
    for (name, span) in dimensions.filter(|(name, _)| is_reserved(name)) {
        diagnostics.push(Diagnostic::coded(Code::C12, span, taken(kernel, name)).help("rename it"));
    }
    let dtypes = kernel.dtypes.iter().map(|dtype| &dtype.name);
    let sizes = kernel.sizes.iter().map(|size| &size.name);
    for name in dtypes.chain(kernel.constants.iter().map(|constant| &constant.name)).chain(sizes) {
        if is_reserved(&name.to_string()) {
            diagnostics
                .push(Diagnostic::coded(Code::C12, name.span(), taken(kernel, &name.to_string())).help("rename it"));
        }
    }
}

fn taken(kernel: &Kernel, name: &str) -> String {
    format!("`{name}` is a word of Metal, so the text of `{}` cannot use it as a name", kernel.name)
}

/// Returns where a dimension is bound.
fn place(kernel: &Kernel, dimension: &Dimension) -> Option<Span> {
    let port = kernel.inputs.get(dimension.bound.input)?;
    port.shape.get(dimension.bound.axis).map(|(_, span)| *span)
}

/// The names of a text: those that it declares are free, those that it reads are known. What comes back are the ports and
/// scalars that it seems to mean by other names.
pub fn check_text(subject: &Subject<'_>, scan: &Scan, diagnostics: &mut Diagnostics) -> BTreeSet<String> {
    check_locals(subject, scan, diagnostics);
    check_components(subject, scan, diagnostics);
    let is_all = subject.launch.headers.is_empty() && scan.includes.is_empty();
    if is_all {
        check_functions(subject, scan, diagnostics);
    }
    check_declared(subject, scan, is_all, diagnostics)
}

/// No variable has a name that stands for something else in the same block.
fn check_locals(subject: &Subject<'_>, scan: &Scan, diagnostics: &mut Diagnostics) {
    let kernel = subject.kernel;
    let mut reported = BTreeSet::new();
    let names = subject.text.names();
    let is_in_a_size = |name: &str| {
        let used = kernel.sizes.iter().filter(|size| names.iter().any(|known| size.name == *known));
        used.into_iter().any(|size| size.value.symbols().iter().any(|symbol| symbol == name))
    };
    let mut report = |local: &Name, what: String, help: &str| {
        if reported.insert(local.text.clone()) {
            let message = format!("the local `{}` has the name of {what} of `{}`", local.text, kernel.name);
            diagnostics.push(subject.mistake(Code::C12, local.place, message).help(help.to_owned()));
        }
    };
    for local in &scan.outermost {
        let name = local.text.as_str();
        let port = kernel.ports().find(|port| port.name == name);
        let what = match port {
            Some(port) if port.role.is_output() => format!("the output `{name}`"),
            Some(_) => format!("the input `{name}`"),
            None if kernel.scalars.iter().any(|scalar| scalar.name == name) => format!("the scalar `{name}`"),
            // The source's own definition replaces the generated one, unless the name was read before.
            None if kernel.dimensions.iter().any(|dimension| dimension.name == name)
                && (scan.of_name(name).next().is_some() || is_in_a_size(name)) =>
            {
                format!("the dimension `{name}`")
            }
            None if kernel.sizes.iter().any(|size| size.name == name) => format!("the size `{name}`"),
            None => continue,
        };
        report(local, what, "rename one of the two: Metal refuses a second one in the outermost block");
    }
    for local in scan.outermost.iter().chain(&scan.inner) {
        let name = local.text.as_str();
        let what = if kernel.constants.iter().any(|constant| constant.name == name) {
            format!("the template constant `{name}`")
        } else if kernel.dtypes.iter().any(|dtype| dtype.name == name) {
            format!("the dtype `{name}`")
        } else if kernel.generated_constants().iter().any(|constant| constant == name) {
            format!("the generated constant `{name}`")
        } else {
            continue;
        };
        report(local, what, "rename one of the two: Metal refuses a variable named as a template parameter");
    }
}

/// Attributes have the components that a text reads of them.
fn check_components(subject: &Subject<'_>, scan: &Scan, diagnostics: &mut Diagnostics) {
    for (attribute, member) in &scan.components {
        if has_component(&attribute.text, &member.text) {
            continue;
        }
        let help = if has_component(&attribute.text, "x") {
            "use `.x`, `.y` and `.z`"
        } else {
            "use it without a component: it is one number"
        };
        diagnostics.push(
            subject
                .mistake(Code::C12, member.place, format!("`{}` has no component `{}`", attribute.text, member.text))
                .help(help),
        );
    }
}

/// Checks that no function is called by its name in another language, unless the text declares it.
fn check_functions(subject: &Subject<'_>, scan: &Scan, diagnostics: &mut Diagnostics) {
    let mut reported = BTreeSet::new();
    for Access { name, .. } in scan.accesses.iter().filter(|access| access.kind == AccessKind::Call) {
        let text = name.text.as_str();
        let help = match function_in_metal(text) {
            Some(metal) => format!("write `{metal}`"),
            None if is_unknown_collective(text) => {
                let known = simdgroup_operations();
                match nearest(text, known.iter().map(String::as_str), text.len() / 3) {
                    Some(near) => format!("write `{near}`"),
                    None => format!("write one of `{}`", known.join("`, `")),
                }
            }
            None => continue,
        };
        if !scan.everywhere.contains(text) && reported.insert(text) {
            let message = format!("Metal has no function `{text}`");
            diagnostics.push(subject.mistake(Code::C12, name.place, message).help(help));
        }
    }
}

/// Every name that stands for a value is declared somewhere.
///
/// A header may declare anything: beside one only misspelled attributes are certain.
fn check_declared(subject: &Subject<'_>, scan: &Scan, is_all: bool, diagnostics: &mut Diagnostics) -> BTreeSet<String> {
    let kernel = subject.kernel;
    let ports = kernel.ports().map(|port| port.name.to_string());
    let arguments: BTreeSet<String> =
        ports.chain(kernel.scalars.iter().map(|scalar| scalar.name.to_string())).collect();
    let unused: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|name| scan.of_name(name).next().is_none()).collect();
    let mut misspelled = BTreeSet::new();
    let mut known: BTreeSet<String> = scan.everywhere.clone();
    known.extend(arguments.iter().cloned());
    known.extend(kernel.dimensions.iter().map(|dimension| dimension.name.clone()));
    known.extend(kernel.sizes.iter().map(|size| size.name.to_string()));
    known.extend(kernel.constants.iter().map(|constant| constant.name.to_string()));
    known.extend(kernel.dtypes.iter().map(|dtype| dtype.name.to_string()));
    known.extend(kernel.generated_constants());
    let mut reported = BTreeSet::new();
    for access in &scan.accesses {
        let name = access.name.text.clone();
        let is_known = known.contains(&name)
            || access.kind == AccessKind::Call && !is_like_dtype(&name)
            || is_attribute(&name)
            || is_type(&name)
            || is_constant(&name)
            || name == "metal"
            || kernel.inputs.iter().any(|port| is_companion(&name, port));
        let is_certain = is_all || (name.starts_with("thread") && nearest_attribute(&name).is_some());
        if is_known || !is_certain || !reported.insert(name.clone()) {
            continue;
        }
        let limit = name.len().min(6) / 3;
        // The name probably means a port that the source never names, even if only its case differs.
        let near = nearest(&name, unused.iter().copied(), limit)
            .or_else(|| unused.iter().copied().find(|unused| unused.eq_ignore_ascii_case(&name)))
            .or_else(|| known.iter().map(String::as_str).find(|known| known.eq_ignore_ascii_case(&name)))
            .or_else(|| nearest(&name, known.iter().chain(&scan.declared).map(String::as_str), limit))
            .map(str::to_owned);
        let message = if scan.declared.contains(&name) {
            format!("`{name}` is not known here: its declaration stands in another block, or further down")
        } else {
            format!("`{name}` is declared neither in `{}` nor in its body", kernel.name)
        };
        let always = name.strip_prefix("HAS_").filter(|port| kernel.inputs.iter().any(|input| input.name == *port));
        let help = if let Some(port) = always {
            format!("leave the question out: `{port}` is not optional, so it is always there")
        } else if is_like_dtype(&name) && access.kind == AccessKind::Call {
            format!("declare the dtype: `fn {}<{name}: Float>(..)`", kernel.name)
        } else if scan.declared.contains(&name) {
            "declare it before, in a block around both places".to_owned()
        } else if let Some(attribute) = nearest_attribute(&name) {
            format!("write `{attribute}`")
        } else if let Some(output) = kernel.outputs.iter().find(|port| is_companion(&name, port)) {
            misspelled.insert(output.name.to_string());
            format!(
                "MLX describes inputs only: use the dimensions of `{}` by name, {}",
                output.name,
                output.shape_text()
            )
        } else if let Some(near) = near {
            misspelled.extend(arguments.get(&near).cloned());
            format!("write `{near}`, or declare `{name}`")
        } else if access.kind == AccessKind::Store {
            format!("write the type of the variable in front of it, as in `uint {name} = ..`")
        } else {
            "declare it as a port, scalar or template constant of the kernel, or as a variable of the body".to_owned()
        };
        diagnostics.push(subject.mistake(Code::C12, access.name.place, message).help(help));
    }
    misspelled
}

/// Returns whether a name is written as dtypes are in signatures: `T`, `U2`.
fn is_like_dtype(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|first| first.is_ascii_uppercase()) && characters.all(|other| other.is_ascii_digit())
}

/// `x_shape`, `x_strides`, `x_ndim`, which MLX offers beside `x`.
pub fn is_companion(name: &str, port: &Port) -> bool {
    name.strip_prefix(&port.name.to_string()).is_some_and(|rest| matches!(rest, "_shape" | "_strides" | "_ndim"))
}
