//! Checks what a body does with its ports (C12, C13, C14), and that it reads them (C05, C15).

use crate::parse::threadgroup::bytes_of;
use cotangent_metal::limits::MAX_THREADGROUP_BYTES;
use std::collections::BTreeSet;

use proc_macro2::{Ident, TokenTree};

use super::names::{self, is_companion};
use super::rust_body;
use super::syntax;

use crate::catalogue::{Code, entry};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::model::body::{Body, Launch, RustBody};
use crate::model::expression::Polynomial;
use crate::model::kernel::{DeclarationRole, Kernel};
use crate::model::port::Port;
use cotangent_metal::names::{is_attribute, is_reserved};
use cotangent_metal::tokens::scan::{Access, AccessKind, Scan, Shared};
use cotangent_metal::tokens::text::Text;
use cotangent_metal::tokens::token::Place;

/// Checks the body against the ports.
pub fn check(kernel: &Kernel, diagnostics: &mut Diagnostics) {
    match &kernel.body {
        Body::Rust(body) => check_rust(kernel, body, diagnostics),
        Body::Launch(launch) => {
            let launch = &**launch;
            let before = diagnostics.count();
            names::check(kernel, diagnostics);
            // A word of Metal in the place of a name changes how the source is read.
            if launch.metal.is_whole && diagnostics.count() == before {
                check_text(&Subject { kernel, launch, text: &launch.metal, called: BODY }, diagnostics);
            }
            if let Some(cuda) = launch.cuda.as_ref().filter(|cuda| cuda.is_whole) {
                // CUDA has other names for everything except the ports.
                let subject = Subject { kernel, launch, text: cuda, called: "CUDA text" };
                check_ports(&subject, &launch.scan(kernel, cuda), &BTreeSet::new(), diagnostics);
            }
        }
    }
}

/// A port that a Rust body never names is not read by it.
fn check_rust(kernel: &Kernel, body: &RustBody, diagnostics: &mut Diagnostics) {
    let used = rust_body::used_names(&body.block);
    // A function inside the body may call `stages` if the body passes it on.
    let hands_on = body.identifiers.iter().any(|name| name == "stages");
    for stage in body.stages.iter().filter(|_| !hands_on) {
        let name = stage.clone().into_iter().filter_map(|token| match token {
            TokenTree::Ident(name) => Some(name),
            _ => None,
        });
        let Some(name) = name.last().filter(|name| !body.identifiers.contains(name)) else { continue };
        diagnostics.push(
            Diagnostic::new(name.span(), format!("the body of `{}` never calls its stage `{name}`", kernel.name))
                .help("call it, or remove it from `stages = [..]`"),
        );
    }
    let is_named = |port: &Port| body.identifiers.contains(&port.name);
    for port in &kernel.inputs {
        let is_used = used.contains(&port.name.to_string());
        if !is_named(port) || is_cotangent(kernel, port) && !is_used {
            diagnostics.push(unread(kernel, BODY, &port.name, None));
        }
    }
}

/// Returns whether a backward has to do something with the port: what is read of others may be thrown away.
fn is_cotangent(kernel: &Kernel, port: &Port) -> bool {
    kernel.is_backward() && port.name.to_string().starts_with("d_")
}

/// One text of a kernel.
pub(super) struct Subject<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) launch: &'a Launch,
    pub(super) text: &'a Text,
    /// The name of the source in messages.
    called: &'static str,
}

/// The name in messages of the source of a kernel that has no other, or that others are made from.
const BODY: &str = "body";

impl Subject<'_> {
    pub(super) fn mistake(&self, code: Code, place: Place, message: String) -> Diagnostic {
        Diagnostic::in_text(self.text, Some(code), place, message)
    }
}

fn check_text(subject: &Subject<'_>, diagnostics: &mut Diagnostics) {
    let Subject { kernel, launch, text, .. } = subject;
    let scan = launch.scan(kernel, text);
    if let Some(mistake) = syntax::check(subject, &scan) {
        diagnostics.push(mistake);
        return;
    }
    let misspelled = names::check_text(subject, &scan, diagnostics);
    check_ports(subject, &scan, &misspelled, diagnostics);
    check_lengths(subject, &scan, diagnostics);
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
    let literal = |shared: &Shared| bytes_of(&kernel.sizes, shared).as_ref().and_then(Polynomial::as_constant);
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

/// Arrays have lengths that are known when the kernel is compiled.
fn check_lengths(subject: &Subject<'_>, scan: &Scan, diagnostics: &mut Diagnostics) {
    let kernel = subject.kernel;
    let mut reported = BTreeSet::new();
    for length in &scan.lengths {
        let name = length.name.as_str();
        let is_dimension = kernel.is_known_at_launch(name);
        let is_argument = kernel.scalars.iter().any(|scalar| scalar.name == name)
            || kernel.inputs.iter().any(|port| port.name == name || is_companion(name, port))
            || is_attribute(name);
        if !(length.is_local || is_dimension || is_argument) || !reported.insert(length.array.text.clone()) {
            continue;
        }
        let help = if is_dimension && !length.is_local {
            format!("make it a template constant of the signature: `const {name}: usize`")
        } else {
            "use a literal, a `constexpr`, or a template constant: `const N: usize` in the signature".to_owned()
        };
        diagnostics.push(
            subject
                .mistake(
                    Code::C14,
                    length.array.place,
                    format!(
                        "the array `{}` of `{}` is as long as `{name}`, which only a launch gives a value",
                        length.array.text, kernel.name
                    ),
                )
                .help(help),
        );
    }
}

/// Inputs are read and never written, outputs are written, and accumulated into only after something was stored. What was
/// `misspelled` is not missed a second time.
fn check_ports(subject: &Subject<'_>, scan: &Scan, misspelled: &BTreeSet<String>, diagnostics: &mut Diagnostics) {
    let Subject { kernel, called, launch, .. } = subject;
    // A name that cannot stand for the port was already reported.
    let is_taken = |port: &&Port| {
        let name = port.name.to_string();
        is_reserved(&name) || misspelled.contains(&name) || scan.outermost.iter().any(|local| local.text == name)
    };
    for port in kernel.inputs.iter().filter(|port| !is_taken(port)) {
        let name = port.name.to_string();
        // The shape of a cotangent says nothing about its values.
        let described = |access: &&Access| is_companion(&access.name.text, port) && !is_cotangent(kernel, port);
        let uses: Vec<&Access> = scan.of_name(&name).chain(scan.accesses.iter().filter(described)).collect();
        let is_read = uses.iter().any(|access| access.is_used || !is_cotangent(kernel, port));
        if !is_read {
            let hidden = scan.inner.iter().any(|local| local.text == name);
            let why = match uses.first() {
                Some(_) => Some("what the text reads of it is thrown away"),
                None if hidden => Some("the name stands for a local variable of the text"),
                None => None,
            };
            diagnostics.push(unread(kernel, called, &port.name, why));
        }
        let flag = format!("HAS_{}", port.name);
        if let (true, Some(access)) = (port.optional, scan.of_name(&name).next())
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
        check_unwritten(subject, scan, &name, "input", diagnostics);
        for part in ["shape", "strides", "ndim"] {
            check_unwritten(subject, scan, &format!("{name}_{part}"), "description", diagnostics);
        }
    }
    for scalar in &kernel.scalars {
        let name = scalar.name.to_string();
        check_unwritten(subject, scan, &name, "scalar", diagnostics);
        let is_read = scan.of_name(&name).next().is_some() || misspelled.contains(&name);
        if !is_read && launch.headers.is_empty() && !scan.declared.contains(&name) {
            diagnostics.push(
                Diagnostic::coded(
                    Code::C12,
                    scalar.name.span(),
                    format!("the {called} of `{}` never reads its scalar `{name}`", kernel.name),
                )
                .help("use it, or remove it: every call passes a value"),
            );
        }
    }
    for dimension in &kernel.dimensions {
        check_unwritten(subject, scan, &dimension.name, "dimension", diagnostics);
    }
    for constant in &kernel.constants {
        check_unwritten(subject, scan, &constant.name.to_string(), "template constant", diagnostics);
    }
    for port in kernel.outputs.iter().filter(|port| !is_taken(port)) {
        let name = port.name.to_string();
        let uses: Vec<&Access> = scan.of_name(&name).collect();
        let may_write = |access: &&Access| {
            let is_given = access.kind == AccessKind::Given && !launch.headers.is_empty();
            (access.kind.may_write() || is_given) && !access.is_dead
        };
        if !uses.iter().any(may_write) {
            let moved = uses.iter().find(|access| access.kind == AccessKind::Move);
            let dead = uses.iter().find(|access| access.kind.may_write());
            let mistake = match (moved.or(dead), uses.first()) {
                (Some(access), _) if access.kind != AccessKind::Move => subject.mistake(
                    Code::C12,
                    access.name.place,
                    format!("the {called} of `{}` writes its output `{name}` only where it never runs", kernel.name),
                ),
                (Some(access), _) => subject.mistake(
                    Code::C12,
                    access.name.place,
                    format!("the {called} of `{}` moves the pointer `{name}` and never writes through it", kernel.name),
                ),
                (None, Some(access)) => subject.mistake(
                    Code::C12,
                    access.name.place,
                    format!("the {called} of `{}` reads its output `{name}` and never writes it", kernel.name),
                ),
                (None, None) => Diagnostic::coded(
                    Code::C12,
                    port.name.span(),
                    format!("the {called} of `{}` never mentions its output `{name}`", kernel.name),
                ),
            };
            diagnostics.push(
                mistake.help(format!("write every element, as in `{name}[i] = ..`: an output starts uninitialised")),
            );
        }
        check_accumulation(subject, port, &uses, diagnostics);
    }
}

/// Checks that nothing is stored to an input, or to a value that a call gives.
fn check_unwritten(subject: &Subject<'_>, scan: &Scan, name: &str, what: &str, diagnostics: &mut Diagnostics) {
    let Subject { kernel, called, .. } = subject;
    let is_write = |access: &&Access| access.kind.writes() || access.one_of.is_some_and(AccessKind::writes);
    let Some(access) = scan.of_name(name).find(is_write) else { return };
    let through = access.through.as_ref().map_or(String::new(), |pointer| format!(" through `{pointer}`"));
    diagnostics.push(
        subject
            .mistake(
                Code::C12,
                access.name.place,
                format!("the {called} of `{}` writes to its {what} `{name}`{through}", kernel.name),
            )
            .help("write to an output: MLX shares an input's memory with every other reader"),
    );
}

fn check_accumulation(subject: &Subject<'_>, port: &Port, uses: &[&Access], diagnostics: &mut Diagnostics) {
    let Subject { kernel, launch, .. } = subject;
    let first_store = uses
        .iter()
        .position(|access| matches!(access.kind, AccessKind::Store | AccessKind::Address | AccessKind::Given));
    let first_sum = uses.iter().position(|access| access.kind == AccessKind::Accumulate);
    if let Some(sum) = first_sum
        && first_store.is_none_or(|store| store > sum)
        && launch.init.is_none()
    {
        diagnostics.push(
            subject
                .mistake(
                    Code::C13,
                    uses[sum].name.place,
                    format!("`{}` accumulates into `{}`, which nothing initialised", kernel.name, port.name),
                )
                .help("store before accumulating, or add `init = 0.0` to the attribute"),
        );
    }
    if let (Some(access), None) = (uses.iter().find(|access| access.kind == AccessKind::Atomic), launch.atomic) {
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

/// The error for an input of which a text makes nothing; `why` says how that can be where it names it.
fn unread(kernel: &Kernel, called: &str, port: &Ident, why: Option<&str>) -> Diagnostic {
    let name = &kernel.name;
    let whose = if called == BODY { "backward".to_owned() } else { format!("the {called} of backward") };
    let why = why.map_or(String::new(), |why| format!(": {why}"));
    match (&kernel.role, port.to_string().strip_prefix("d_")) {
        (DeclarationRole::Backward { of, .. }, Some(output)) => {
            let forward = of.to_string().replace(' ', "");
            Diagnostic::coded(
                Code::C05,
                port.span(),
                format!("{whose} `{name}` never reads the cotangent `{port}`{why}"),
            )
            .help(format!(
                "use it, or remove the port and write `ignores({output})`: then gradients through that output of \
                 `{forward}` are zero"
            ))
        }
        (DeclarationRole::Backward { .. }, None) => Diagnostic::coded(
            Code::C15,
            port.span(),
            format!("{whose} `{name}` never reads `{port}`, which is kept in memory for it{why}"),
        )
        .help("use it, or remove the port"),
        _ => Diagnostic::coded(
            Code::C12,
            port.span(),
            format!("the {called} of `{name}` never reads its input `{port}`{why}"),
        )
        .help("use it, or remove the port"),
    }
}
