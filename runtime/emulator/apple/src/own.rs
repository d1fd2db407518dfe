//! This project's own sources: clang compiles them as C++ for OpenCL, and they are lowered as Apple's modules are.

use std::fmt::Write as _;

use cotangent_emulator::{KernelText, StaticCheck};
use cotangent_metal::translate::{Argument, arguments, attribute_field};

use crate::Failure;

/// Compiles a kernel's source, for inputs of these shapes, to a module for [`Workshop::kernel`], whose result
/// [`Emulator::run_compiled`] runs.
///
/// [`Workshop::kernel`]: crate::Workshop::kernel
/// [`Emulator::run_compiled`]: cotangent_emulator::Emulator::run_compiled
///
/// # Errors
/// If clang refuses the source.
pub fn own_module(clang: &StaticCheck, kernel: &KernelText, shapes: &[&[usize]]) -> Result<String, Failure> {
    let text = clang.compile(kernel, shapes).map_err(|error| Failure::Source(error.to_string()))?;
    match text {
        Ok(text) => Ok(as_apples(&text, &arguments(kernel, shapes))),
        Err(complaints) => {
            let lines: Vec<String> = complaints.iter().map(ToString::to_string).collect();
            Err(Failure::Source(lines.join("\n")))
        }
    }
}

/// Turns clang's module of a source into one of Apple's form: without its calling conventions and the names of this machine's
/// processor, and with metadata that says what the arguments of `metal_kernel` are.
fn as_apples(text: &str, arguments: &[Argument<'_>]) -> String {
    let mut out = String::new();
    // Metadata is removed, with the one call that has it as an operand.
    let kept = |line: &&str| !line.starts_with('!') && !line.contains("@llvm.experimental.noalias.scope.decl(");
    for line in text.lines().filter(kept) {
        let attributes = line.strip_prefix("attributes ").and_then(|_| line.find(" \""));
        let mut plain = attributes.map_or_else(|| line.to_owned(), |at| format!("{} }}", &line[..at]));
        for word in ["spir_kernel ", "spir_func ", "dso_local "] {
            plain = plain.replace(word, "");
        }
        if plain.starts_with("declare ") {
            for word in ["noundef ", "zeroext ", "signext "] {
                plain = plain.replace(word, "");
            }
        }
        let _ = writeln!(out, "{plain}");
    }
    let nodes: Vec<String> = (0..arguments.len()).map(|n| format!("!{}", n + 3)).collect();
    let _ = writeln!(out, "!air.kernel = !{{!0}}\n!0 = !{{ptr @metal_kernel, !1, !2}}\n!1 = !{{}}");
    let _ = writeln!(out, "!2 = !{{{}}}", nodes.join(", "));
    for (n, argument) in arguments.iter().enumerate() {
        let (name, ty, access) = match argument {
            Argument::Attribute { name, .. } => {
                let _ = writeln!(out, "!{} = !{{i32 {n}, !\"air.{}\"}}", n + 3, attribute_field(name));
                continue;
            }
            Argument::Input { port, .. } => (port.name.clone(), port.dtype.metal(), "read"),
            Argument::Output { port, .. } => (port.name.clone(), port.dtype.metal(), "read_write"),
            Argument::Shape { port, .. } => (format!("{}_shape", port.name), "int", "read"),
            Argument::Strides { port, .. } => (format!("{}_strides", port.name), "long", "read"),
            Argument::Ndim { port, .. } => (format!("{}_ndim", port.name), "int", "read"),
        };
        let _ = writeln!(
            out,
            "!{} = !{{i32 {n}, !\"air.buffer\", !\"air.location_index\", i32 {n}, i32 1, !\"air.{access}\", \
             !\"air.arg_type_name\", !\"{ty}\", !\"air.arg_name\", !\"{name}\"}}",
            n + 3
        );
    }
    out
}
