//! C12, C13, C14: what a body does with its ports. C05 and C15 where it leaves one unread.

use std::collections::BTreeSet;

use proc_macro2::Ident;

use crate::catalogue::{Code, entry};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::metal::names::{ATTRIBUTES, is_constant, is_reserved, is_type, nearest, nearest_attribute};
use crate::metal::scan::{Access, AccessKind, Scan, Shared};
use crate::metal::source::Text;
use crate::metal::token::Place;
use crate::model::body::{Body, Launch, RustBody};
use crate::model::expression::Polynomial;
use crate::model::kernel::{Kernel, Role};
use crate::model::port::Port;

/// Bytes of threadgroup memory that Metal allows.
const MAX_THREADGROUP_BYTES: i64 = 32 * 1024;

/// Checks the body against the ports.
pub fn check(kernel: &Kernel, diagnostics: &mut Diagnostics) {
    match &kernel.body {
        Body::Rust(body) => check_rust(kernel, body, diagnostics),
        Body::Launch(launch) => {
            let launch = &**launch;
            check_names(kernel, diagnostics);
            if launch.metal.is_whole {
                check_text(&Subject { kernel, launch, text: &launch.metal, called: BODY }, diagnostics);
            }
            if let Some(cuda) = launch.cuda.as_ref().filter(|cuda| cuda.is_whole) {
                // CUDA has other names for everything but the ports.
                let subject = Subject { kernel, launch, text: cuda, called: "CUDA text" };
                check_ports(&subject, &Scan::of(&cuda.tokens), diagnostics);
            }
        }
    }
}

/// A port that a Rust body never names is not read by it.
fn check_rust(kernel: &Kernel, body: &RustBody, diagnostics: &mut Diagnostics) {
    let names = |identifier: &Ident| body.identifiers.iter().any(|known| known == identifier);
    for port in kernel.inputs.iter().filter(|port| !names(&port.name)) {
        diagnostics.push(unread(kernel, BODY, &port.name));
    }
}

/// One text of a kernel.
struct Subject<'a> {
    kernel: &'a Kernel,
    launch: &'a Launch,
    text: &'a Text,
    /// What messages call it.
    called: &'static str,
}

/// What messages call the text of a kernel that has no other, or that others are made from.
const BODY: &str = "body";

impl Subject<'_> {
    fn mistake(&self, code: Code, place: Place, message: String) -> Diagnostic {
        self.text.mistake(Some(code), place, message)
    }
}

/// What the declaration names has these names in the text.
fn check_names(kernel: &Kernel, diagnostics: &mut Diagnostics) {
    let ports = kernel.ports().map(|port| &port.name);
    for name in ports.chain(kernel.scalars.iter().map(|scalar| &scalar.name)) {
        let companion = kernel.inputs.iter().find(|port| is_companion(&name.to_string(), port));
        let message = match companion {
            Some(port) => format!("`{name}` is what MLX calls a part of `{}`'s description", port.name),
            None if is_reserved(&name.to_string()) => {
                format!("`{name}` is a word of Metal, so the text of `{}` cannot use it as a name", kernel.name)
            }
            None => continue,
        };
        diagnostics.push(Diagnostic::coded(Code::C12, name.span(), message).help("rename it"));
    }
}

fn check_text(subject: &Subject<'_>, diagnostics: &mut Diagnostics) {
    let Subject { kernel, launch, text, .. } = subject;
    let scan = Scan::of(&text.tokens);
    check_ports(subject, &scan, diagnostics);
    check_declared(subject, &scan, launch.headers.is_empty() && scan.includes.is_empty(), diagnostics);
    for place in &scan.includes {
        diagnostics.push(
            subject.mistake(Code::C12, *place, format!("the text of `{}` includes a file", kernel.name)).help(
                "put what is shared into a constant and name it in `headers = [..]`: MLX compiles text without files",
            ),
        );
    }
    for place in &scan.quotes {
        diagnostics.push(
            subject
                .mistake(
                    Code::C12,
                    *place,
                    "this is no token of Rust, as text inside `metal! { .. }` must be".to_owned(),
                )
                .help("leave the `'` out, or put the text into a file: `metal_file!(\"name.metal\")`"),
        );
    }
    for name in &scan.reserved {
        diagnostics.push(
            subject
                .mistake(
                    Code::C12,
                    name.place,
                    format!("`{}` is a word of Metal, so it cannot name a variable", name.text),
                )
                .help(format!("rename it, to `{}_index` say", name.text)),
        );
    }
    for place in &scan.doubles {
        diagnostics.push(
            subject
                .mistake(Code::C14, *place, "Metal has no `double`".to_owned())
                .help("use `float`, and sum in two floats where that is not enough"),
        );
    }
    let literal = |shared: &Shared| shared.bytes.as_ref().and_then(Polynomial::as_constant);
    let bytes = scan.threadgroup.iter().filter_map(literal).fold(0_i64, i64::saturating_add);
    if let (true, Some(Shared { name, .. })) = (bytes > MAX_THREADGROUP_BYTES, scan.threadgroup.last()) {
        diagnostics.push(
            subject
                .mistake(
                    Code::C14,
                    name.place,
                    format!(
                        "`{}` uses {bytes} bytes of threadgroup memory, Metal allows {MAX_THREADGROUP_BYTES}",
                        kernel.name
                    ),
                )
                .help(entry(Code::C14).help),
        );
    }
}

/// Inputs are read and never written, outputs are written, and accumulated into only after something was stored.
fn check_ports(subject: &Subject<'_>, scan: &Scan, diagnostics: &mut Diagnostics) {
    let Subject { kernel, called, .. } = subject;
    for port in &kernel.inputs {
        let name = port.name.to_string();
        if scan.of_name(&name).next().is_none()
            && !scan.accesses.iter().any(|access| is_companion(&access.name.text, port))
        {
            diagnostics.push(unread(kernel, called, &port.name));
        }
        let flag = format!("HAS_{}", port.name);
        if let (true, Some((_, access))) = (port.optional, scan.of_name(&name).next())
            && !scan.accesses.iter().any(|access| access.name.text == flag)
        {
            diagnostics.push(
                subject
                    .mistake(
                        Code::C12,
                        access.name.place,
                        format!(
                            "the {called} of `{}` uses the optional `{}` and never asks whether it is there",
                            kernel.name, port.name
                        ),
                    )
                    .help(format!("read it only where `{flag}` holds: `if ({flag}) {{ .. }}`")),
            );
        }
        let written = scan
            .of_name(&name)
            .find(|(_, access)| matches!(access.kind, AccessKind::Store | AccessKind::Accumulate | AccessKind::Atomic));
        if let Some((_, access)) = written {
            diagnostics.push(
                subject
                    .mistake(
                        Code::C12,
                        access.name.place,
                        format!("the {called} of `{}` writes to its input `{}`", kernel.name, port.name),
                    )
                    .help("write to an output: MLX shares an input's memory with every other reader"),
            );
        }
    }
    for port in &kernel.outputs {
        let name = port.name.to_string();
        let uses: Vec<(usize, &Access)> = scan.of_name(&name).collect();
        if uses.iter().all(|(_, access)| access.kind == AccessKind::Read) {
            let message = if uses.is_empty() {
                format!("the {called} of `{}` never mentions its output `{}`", kernel.name, port.name)
            } else {
                format!("the {called} of `{}` reads its output `{}` and never writes it", kernel.name, port.name)
            };
            diagnostics.push(
                Diagnostic::coded(Code::C12, port.name.span(), message)
                    .help("write every element: an output starts uninitialised"),
            );
        }
        check_accumulation(subject, port, &uses, diagnostics);
    }
}

fn check_accumulation(subject: &Subject<'_>, port: &Port, uses: &[(usize, &Access)], diagnostics: &mut Diagnostics) {
    let Subject { kernel, launch, .. } = subject;
    let first_store =
        uses.iter().position(|(_, access)| matches!(access.kind, AccessKind::Store | AccessKind::Address));
    let first_sum = uses.iter().position(|(_, access)| access.kind == AccessKind::Accumulate);
    if let Some(sum) = first_sum
        && first_store.is_none_or(|store| store > sum)
        && launch.init.is_none()
    {
        diagnostics.push(
            subject
                .mistake(
                    Code::C13,
                    uses[sum].1.name.place,
                    format!("`{}` accumulates into `{}`, which nothing initialised", kernel.name, port.name),
                )
                .help("store before accumulating, or add `init = 0.0` to the attribute"),
        );
    }
    if let (Some((_, access)), None) =
        (uses.iter().find(|(_, access)| access.kind == AccessKind::Atomic), launch.atomic)
    {
        diagnostics.push(
            subject
                .mistake(
                    Code::C13,
                    access.name.place,
                    format!("`{}` uses `{}` atomically, but its outputs are plain memory", kernel.name, port.name),
                )
                .help("add `atomic` to the attribute, `init = 0.0`, and `nondeterministic` for floats"),
        );
    }
}

/// Every name that stands for a value is declared somewhere.
///
/// A header may declare anything: beside one only misspelled attributes are certain.
fn check_declared(subject: &Subject<'_>, scan: &Scan, is_all: bool, diagnostics: &mut Diagnostics) {
    let kernel = subject.kernel;
    let mut known: BTreeSet<String> = scan.declared.clone();
    known.extend(kernel.ports().map(|port| port.name.to_string()));
    known.extend(kernel.scalars.iter().map(|scalar| scalar.name.to_string()));
    known.extend(kernel.dimensions.iter().map(|dimension| dimension.name.clone()));
    known.extend(kernel.constants.iter().map(|constant| constant.name.to_string()));
    known.extend(kernel.dtypes.iter().map(|dtype| dtype.name.to_string()));
    known.extend(kernel.generated_constants());
    let mut reported = BTreeSet::new();
    for access in &scan.accesses {
        let name = access.name.text.clone();
        let is_known = known.contains(&name)
            || access.kind == AccessKind::Call
            || ATTRIBUTES.contains(&name.as_str())
            || is_type(&name)
            || is_constant(&name)
            || name == "metal"
            || kernel.inputs.iter().any(|port| is_companion(&name, port));
        let is_certain = is_all || (name.starts_with("thread") && nearest_attribute(&name).is_some());
        if is_known || !is_certain || !reported.insert(name.clone()) {
            continue;
        }
        let help = if let Some(attribute) = nearest_attribute(&name) {
            format!("write `{attribute}`")
        } else if let Some(output) = kernel.outputs.iter().find(|port| is_companion(&name, port)) {
            format!(
                "MLX describes inputs only: use the dimensions of `{}` by name, {}",
                output.name,
                output.shape_text()
            )
        } else if let Some(near) = nearest(&name, known.iter().map(String::as_str), name.len().min(6) / 3) {
            format!("write `{near}`, or declare `{name}`")
        } else {
            "declare it as a port, scalar or template constant of the kernel, or as a variable of the body".to_owned()
        };
        diagnostics.push(
            subject
                .mistake(
                    Code::C12,
                    access.name.place,
                    format!("`{name}` is declared neither in `{}` nor in its body", kernel.name),
                )
                .help(help),
        );
    }
}

/// `x_shape`, `x_strides`, `x_ndim`, which MLX offers beside `x`.
fn is_companion(name: &str, port: &Port) -> bool {
    name.strip_prefix(&port.name.to_string()).is_some_and(|rest| matches!(rest, "_shape" | "_strides" | "_ndim"))
}

/// The error for an input that a text never mentions.
fn unread(kernel: &Kernel, called: &str, port: &Ident) -> Diagnostic {
    let name = &kernel.name;
    let whose = if called == BODY { "backward".to_owned() } else { format!("the {called} of backward") };
    match (&kernel.role, port.to_string().strip_prefix("d_")) {
        (Role::Backward { of, .. }, Some(output)) => {
            let forward = of.to_string().replace(' ', "");
            Diagnostic::coded(Code::C05, port.span(), format!("{whose} `{name}` never reads the cotangent `{port}`"))
                .help(format!(
                    "use it, or remove the port and write `ignores({output})`: then gradients through that output of \
                     `{forward}` are zero"
                ))
        }
        (Role::Backward { .. }, None) => Diagnostic::coded(
            Code::C15,
            port.span(),
            format!("{whose} `{name}` never reads `{port}`, which is kept in memory for it"),
        )
        .help("use it, or remove the port"),
        _ => Diagnostic::coded(
            Code::C12,
            port.span(),
            format!("the {called} of `{name}` never reads its input `{port}`"),
        )
        .help("use it, or remove the port"),
    }
}
