//! Checks that a source can be read at all (C12, C14). If it cannot, other errors would only follow from that.

use super::body::Subject;
use crate::catalogue::Code;
use crate::diagnostics::Diagnostic;
use cotangent_metal::elsewhere::word_in_metal;
use cotangent_metal::left_out;
use cotangent_metal::tokens::scan::Scan;

/// Returns an error about the first part of a source that its compiler cannot read, or reads as something else.
pub fn check(subject: &Subject<'_>, scan: &Scan) -> Option<Diagnostic> {
    let Subject { kernel, launch, text, .. } = subject;
    if let Some(place) = scan.unfinished.first() {
        let message = "this macro goes on behind the end of its line, which a `\\` cannot continue here".to_owned();
        return Some(
            subject
                .mistake(Code::C12, *place, message)
                .help("write it on one line, or put the text into a file: `metal_file!(\"name.metal\")`"),
        );
    }
    if text.tokens.is_empty() {
        return Some(
            Diagnostic::coded(Code::C12, kernel.name.span(), format!("the text of `{}` is empty", kernel.name))
                .help("write every element of every output, as in `y[i] = ..`"),
        );
    }
    // These words change what the source means, so what it says cannot be checked.
    if let Some(word) = scan.left_out.first() {
        let what = match word.text.as_str() {
            "static" => "`static` variables that are not constant".to_owned(),
            text => format!("`{text}`"),
        };
        return Some(
            subject
                .mistake(Code::C12, word.place, format!("Metal has no {what}"))
                .help(left_out::instead_of(&word.text)),
        );
    }
    if let Some(name) = scan.reserved.first() {
        return Some(
            subject
                .mistake(
                    Code::C12,
                    name.place,
                    format!("`{}` is a word of Metal, so it cannot name a variable", name.text),
                )
                .help(format!("rename it, to `{}_index` say", name.text)),
        );
    }
    if let Some(place) = scan.doubles.first() {
        return Some(
            subject
                .mistake(Code::C14, *place, "Metal has no `double`".to_owned())
                .help("use `float`, and sum in two floats where that is not enough"),
        );
    }
    let is_all = launch.headers.is_empty() && scan.includes.is_empty();
    let is_own = |name: &str| {
        let ports = kernel.ports().map(|port| &port.name).chain(kernel.scalars.iter().map(|scalar| &scalar.name));
        scan.declared.contains(name) || ports.into_iter().any(|port| *port == name)
    };
    if let Some(word) = scan.elsewhere.iter().find(|word| is_all && !is_own(&word.text)) {
        let metal = word_in_metal(&word.text).unwrap_or("another word");
        return Some(
            subject
                .mistake(Code::C12, word.place, format!("`{}` is a word of another language", word.text))
                .help(format!("write {metal}")),
        );
    }
    if let Some(name) = scan.unended.first() {
        return Some(
            subject
                .mistake(Code::C12, name.place, format!("the statement before this `{}` does not end", name.text))
                .help("write `;` behind it"),
        );
    }
    if let Some(name) = scan.assigning.first() {
        return Some(
            subject
                .mistake(Code::C12, name.place, format!("this condition assigns to `{}`", name.text))
                .help("write `==` to compare, or the assignment in front of the statement"),
        );
    }
    if let Some((array, member)) = scan.members.first() {
        let help = match member.text.as_str() {
            "shape" | "strides" | "ndim" => format!("write `{}_{}`", array.text, member.text),
            "size" | "length" | "len" => "write its dimensions, which the text knows by their names".to_owned(),
            _ => format!("read an element first, as in `{}[i]`", array.text),
        };
        return Some(
            subject
                .mistake(
                    Code::C12,
                    member.place,
                    format!("`{}` is a pointer, which has no member `{}`", array.text, member.text),
                )
                .help(help),
        );
    }
    if let Some(place) = scan.lambdas.first() {
        return Some(
            subject
                .mistake(Code::C12, *place, "this is a lambda, which Metal does not have before version 4".to_owned())
                .help(left_out::INSTEAD_OF_A_LAMBDA),
        );
    }
    if let Some(found) = scan.mistakes.iter().find(|found| is_all || !found.is_open) {
        return Some(subject.mistake(Code::C12, found.place, found.found.clone()).help(found.help.clone()));
    }
    let is_number = |name: &str| {
        kernel.scalars.iter().any(|scalar| scalar.name == name)
            || kernel.constants.iter().any(|constant| constant.name == name)
            || kernel.is_known_at_launch(name)
    };
    if let Some(name) = scan.indexed.iter().find(|name| is_number(&name.text)) {
        return Some(
            subject
                .mistake(Code::C12, name.place, format!("`{}` is one number, which has no elements", name.text))
                .help("use it without an index"),
        );
    }
    let is_dtype = |name: &str| kernel.dtypes.iter().any(|dtype| dtype.name == name);
    if let Some(name) = scan.namespaces.iter().find(|name| is_all && !is_dtype(&name.text)) {
        return Some(
            subject
                .mistake(Code::C12, name.place, format!("`{}` is no namespace and no type of Metal", name.text))
                .help("write the name alone, or declare the type"),
        );
    }
    None
}
