//! Kernel functions as they stand in `.metal` files: which there are, under which names, with which parameters.

use std::fmt::Write as _;

use super::assemble::{Unit, attribute_field};
use super::lexer::{Kind, Places, Token, lex};
use super::rewrite::{Context, Target, rewrite};
use super::subscripts::casts_pointers;
use crate::names::ATTRIBUTES;
use crate::{Error, Location, Source};

/// The numbers that memory of one kind may have: 0 to 30.
const NUMBERS: u32 = 31;

/// A parameter of a kernel function.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Parameter {
    /// Memory, by its number, as a reference or a pointer.
    Buffer { index: u32, reference: bool },
    /// Threadgroup memory, by its number, under its name in findings.
    Threadgroup { index: u32, reference: bool, name: String },
    /// The value of an attribute.
    Attribute(&'static str),
}

/// The unit that runs the function of this name in preprocessed text, and the numbers of its buffers in order. `given` are
/// the values of function constants, and the bytes of each `[[threadgroup(n)]]`. `arms` is as for a body.
pub fn function_unit(
    name: &str,
    given: (&[(u32, i64)], &[(u32, usize)]),
    text: &Source,
    arms: bool,
) -> Result<(Unit, Vec<u32>), Error> {
    let all = lex(&text.text);
    let places = Places::new(text, &all);
    let tokens: Vec<Token<'_>> = all.into_iter().filter(|t| !matches!(t.kind, Kind::Space | Kind::Directive)).collect();
    let file = File { tokens: &tokens, places: &places };
    let (called, kernel) = file.function(name).ok_or_else(|| {
        let names = file.names();
        let known = if names.is_empty() { "none".into() } else { names.join("`, `") };
        let what = format!("no kernel function is called `{name}`; the file has `{known}`");
        let at = Location { file: text.file.clone(), line: 1 };
        Error::Unsupported { at, what, help: "name one of them, as its `[[host_name(..)]]` or itself".into() }
    })?;
    let parameters = file.parameters(kernel)?;
    let (constants, memory) = given;
    let missing = parameters.iter().find_map(|parameter| match parameter {
        Parameter::Threadgroup { index, .. } if memory.iter().all(|(known, _)| known != index) => Some(*index),
        _ => None,
    });
    if let Some(index) = missing {
        let help = "give its bytes in the launch's `threadgroup_memory`";
        return Err(file.error(kernel, format!("`{name}` takes `[[threadgroup({index})]]`, which has no size"), help));
    }

    let mut sites = Vec::new();
    let context = Context { is_header: true, constants: Some(constants), ..Context::default() };
    let body = rewrite(text, Target::Host { arms, double: false }, context, &mut sites)?;
    let mut unit = String::from("#include \"host.h\"\nusing namespace metal;\n");
    let _ = writeln!(unit, "#line 1 \"{}\"\n{body}\n#line 1 \"entry\"", text.file);
    let mut buffers = Vec::new();
    // The source's own arrays have the numbers from 0 on.
    let mut arrays = body.matches("metal::threadgroup_array<").count();
    let values: Vec<String> = parameters
        .iter()
        .map(|parameter| match parameter {
            Parameter::Buffer { index, reference } => {
                buffers.push(*index);
                let kind = if *reference { "bound_reference" } else { "bound_pointer" };
                format!("metal::{kind}{{buffers[{}]}}", buffers.len() - 1)
            }
            Parameter::Threadgroup { index, reference, name } => {
                let kind = if *reference { "threadgroup_reference" } else { "threadgroup_pointer" };
                let bytes = memory.iter().find(|(known, _)| known == index).map_or(0, |(_, bytes)| *bytes);
                arrays += 1;
                format!("metal::{kind}{{{}, {bytes}, \"{name}\"}}", arrays - 1)
            }
            Parameter::Attribute(name) => format!("metal::position_of(attributes->{})", attribute_field(name)),
        })
        .collect();
    let _ = write!(
        unit,
        "extern \"C\" __attribute__((visibility(\"default\"))) METAL_UNWATCHED void metal_kernel_entry(void* const* buffers, \
         const Attributes* attributes) {{\n  {called}({});\n}}\n",
        values.join(", ")
    );
    Ok((Unit { text: unit, sites, casts: casts_pointers(text) }, buffers))
}

struct File<'a, 't> {
    tokens: &'a [Token<'t>],
    places: &'a Places<'t>,
}

impl File<'_, '_> {
    fn word(&self, i: usize) -> &str {
        self.tokens.get(i).map_or("", |t| t.text)
    }

    fn error(&self, i: usize, what: impl Into<String>, help: &str) -> Error {
        let at = self.places.of(&self.tokens[i.min(self.tokens.len() - 1)]);
        Error::Unsupported { at, what: what.into(), help: help.into() }
    }

    fn closing(&self, open: usize) -> Option<usize> {
        let (from, to) = match self.word(open) {
            "(" => ("(", ")"),
            "[" => ("[", "]"),
            "<" => ("<", ">"),
            _ => ("{", "}"),
        };
        let mut depth = 0;
        (open..self.tokens.len()).find(|&i| {
            depth += i32::from(self.word(i) == from) - i32::from(self.word(i) == to);
            depth == 0
        })
    }

    /// Returns where the names of kernel functions stand, in their definitions.
    fn kernels(&self) -> Vec<usize> {
        // A kernel begins with `kernel void f(..)` or `[[kernel, ..]] void f(..)`.
        let marked = |i: usize| {
            if self.word(i) != "kernel" {
                return None;
            }
            let attribute = i >= 2 && self.word(i - 1) == "[" && self.word(i - 2) == "[";
            if attribute { self.closing(i - 2).map(|close| close + 1) } else { Some(i + 1) }
        };
        (0..self.tokens.len())
            .filter_map(marked)
            .filter_map(|mut at| {
                // Other attributes may follow.
                while self.word(at) == "[" {
                    at = self.closing(at)? + 1;
                }
                let named = self.word(at) == "void" && self.word(at + 2) == "(";
                let close = named.then(|| self.closing(at + 2)).flatten()?;
                (self.word(close + 1) == "{").then_some(at + 1)
            })
            .collect()
    }

    /// Names on the host: `[[host_name("..")]]` of instances, and functions that are no templates.
    fn names(&self) -> Vec<String> {
        let hosts = (0..self.tokens.len()).filter(|&i| self.word(i) == "host_name" && self.word(i + 1) == "(");
        let mut names: Vec<String> = hosts.map(|i| self.literal(i + 2).0).collect();
        names.extend(self.kernels().into_iter().filter(|&i| !self.is_template(i)).map(|i| self.word(i).to_owned()));
        names
    }

    /// A string, which may be written in several parts, and what stands behind it.
    fn literal(&self, mut i: usize) -> (String, usize) {
        let mut text = String::new();
        while self.word(i).starts_with('"') {
            text += self.word(i).trim_matches('"');
            i += 1;
        }
        (text, i)
    }

    /// Returns whether `template <..>` stands in front of the definition whose name stands at `i`.
    fn is_template(&self, i: usize) -> bool {
        let start = (0..i).rev().find(|&n| [";", "}", "{"].contains(&self.word(n))).map_or(0, |n| n + 1);
        self.word(start) == "template"
    }

    /// The function that is called so on the host: as C++ calls it, and where its definition's name stands.
    fn function(&self, name: &str) -> Option<(String, usize)> {
        let kernels = self.kernels();
        let defined = |wanted: &str| kernels.iter().copied().find(|&i| self.word(i) == wanted);
        for i in (0..self.tokens.len()).filter(|&i| self.word(i) == "host_name") {
            if self.literal(i + 2).0 != name {
                continue;
            }
            let end = (i..self.tokens.len()).find(|&n| self.word(n) == ";")?;
            // In `decltype(f<T>) f<T>;` or `void f<T>(..);` it is the last name outside of parentheses.
            let mut depth = 0;
            let mut at = None;
            for n in i..end {
                depth += i32::from(self.word(n) == "(") - i32::from(self.word(n) == ")");
                if depth == 0 && defined(self.word(n)).is_some() {
                    at = Some(n);
                }
            }
            let at = at?;
            let close = if self.word(at + 1) == "<" { self.angles(at + 1)? } else { at };
            let called: String = self.tokens[at..=close].iter().map(|t| format!("{} ", t.text)).collect();
            return Some((called, defined(self.word(at))?));
        }
        let at = defined(name).filter(|&i| !self.is_template(i))?;
        Some((name.to_owned(), at))
    }

    /// The `>` that closes template arguments, in which parentheses may hold others.
    fn angles(&self, open: usize) -> Option<usize> {
        let (mut depth, mut parentheses) = (0, 0);
        (open..self.tokens.len()).find(|&i| {
            parentheses += i32::from(self.word(i) == "(") - i32::from(self.word(i) == ")");
            if parentheses == 0 {
                depth += i32::from(self.word(i) == "<") - i32::from(self.word(i) == ">");
            }
            depth == 0
        })
    }

    fn parameters(&self, name: usize) -> Result<Vec<Parameter>, Error> {
        let open = name + 1;
        let close = self.closing(open).unwrap_or(open);
        let mut parts: Vec<std::ops::Range<usize>> = Vec::new();
        let (mut depth, mut start) = (0, open + 1);
        for i in open + 1..close {
            depth += i32::from(["(", "[", "<", "{"].contains(&self.word(i)));
            depth -= i32::from([")", "]", ">", "}"].contains(&self.word(i)));
            if depth == 0 && self.word(i) == "," {
                parts.push(start..i);
                start = i + 1;
            }
        }
        if start < close {
            parts.push(start..close);
        }
        let (mut next_buffer, mut next_array) = (0, 0);
        let mut found = Vec::new();
        for part in parts {
            let attributes = || part.clone().filter(|&i| self.word(i) == "[" && self.word(i + 1) == "[");
            let attribute = attributes().map(|i| i + 2).find(|&i| self.word(i) != "function_constant");
            let declared = part.start..attributes().next().unwrap_or(part.end);
            let has = |word: &str| declared.clone().any(|i| self.word(i) == word);
            if let Some(i) = attribute.filter(|&i| !["buffer", "threadgroup"].contains(&self.word(i))) {
                let word = self.word(i);
                let known = ATTRIBUTES.iter().find(|(name, _)| *name == word);
                let (attribute, _) = known.ok_or_else(|| {
                    let help = "pass memory as `[[buffer(n)]]`, and positions by Metal's attributes for kernels";
                    self.error(i, format!("`[[{word}]]` is not modelled for a parameter of a kernel function"), help)
                })?;
                found.push(Parameter::Attribute(attribute));
                continue;
            }
            let shared = has("threadgroup");
            let kind = if shared { "threadgroup" } else { "buffer" };
            if let Some(i) = attribute.filter(|&i| self.word(i) != kind) {
                let what = format!("`[[{}]]` stands at a parameter of other memory", self.word(i));
                return Err(self.error(
                    i,
                    what,
                    "write `[[threadgroup(n)]]` for `threadgroup` memory, else `[[buffer(n)]]`",
                ));
            }
            let next = if shared { &mut next_array } else { &mut next_buffer };
            let index = match attribute {
                Some(i) => self.word(i + 2).parse().ok().filter(|&index: &u32| index < NUMBERS).ok_or_else(|| {
                    let what = format!("`[[{kind}({})]]` is not modelled", self.word(i + 2));
                    self.error(i, what, "write the number itself, below 31")
                })?,
                None => *next,
            };
            *next = index + 1;
            let pointer = has("*") || has("[");
            if !pointer && !has("&") {
                let what = "a parameter that is neither memory nor an attribute is not modelled";
                return Err(self.error(part.start, what, "pass it by reference, in `constant` memory"));
            }
            if !shared {
                found.push(Parameter::Buffer { index, reference: !pointer });
                continue;
            }
            // In `T* s`, `T& s` and `T (&s)[4]` the name follows the last of these marks.
            let mark = declared.clone().rfind(|&i| ["*", "&"].contains(&self.word(i))).unwrap_or(part.start);
            let name =
                (mark..declared.end).find(|&i| self.tokens[i].kind == Kind::Identifier && self.word(i) != "const");
            let name = name.map_or("threadgroup memory", |i| self.word(i)).to_owned();
            found.push(Parameter::Threadgroup { index, reference: has("&"), name });
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "template <typename T, int N = 4>\n[[kernel]] void scale(device const T* x, device T* y [[buffer(3)]],\n\
                        constant int& n, uint2 i [[thread_position_in_grid]]) { }\n\
                        template [[host_name(\"scale_\" \"float\")]] [[kernel]] decltype(scale<float, (1 > 2)>) scale<float, (1 > 2)>;\n\
                        kernel void plain(constant float (&a)[4] [[buffer(2)]], uint i [[thread_index_in_simdgroup]]) { }";

    fn with<R>(text: &str, look: impl FnOnce(&File<'_, '_>) -> R) -> R {
        let source = Source::new("k.metal", text);
        let all = lex(&source.text);
        let places = Places::new(&source, &all);
        let tokens: Vec<Token<'_>> =
            all.into_iter().filter(|t| !matches!(t.kind, Kind::Space | Kind::Directive)).collect();
        look(&File { tokens: &tokens, places: &places })
    }

    #[test]
    fn functions_are_found_by_their_names_on_the_host() {
        with(TEXT, |file| {
            assert_eq!(file.names(), ["scale_float", "plain"]);
            let (called, at) = file.function("scale_float").unwrap();
            assert_eq!(called.replace(' ', ""), "scale<float,(1>2)>");
            let buffer = |index, reference| Parameter::Buffer { index, reference };
            let expected =
                [buffer(0, false), buffer(3, false), buffer(4, true), Parameter::Attribute("thread_position_in_grid")];
            assert_eq!(file.parameters(at).unwrap(), expected);
            let (called, at) = file.function("plain").unwrap();
            assert_eq!(called, "plain");
            let expected = [buffer(2, false), Parameter::Attribute("thread_index_in_simdgroup")];
            assert_eq!(file.parameters(at).unwrap(), expected);
            assert!(file.function("scale").is_none());
        });
    }

    #[test]
    fn threadgroup_memory_has_numbers_of_its_own() {
        let text = "kernel void f(threadgroup float* const s, device float* y, threadgroup float (&t)[4] [[threadgroup(3)]]) { }";
        let array = |index, reference, name: &str| Parameter::Threadgroup { index, reference, name: name.into() };
        let expected = [array(0, false, "s"), Parameter::Buffer { index: 0, reference: false }, array(3, true, "t")];
        assert_eq!(with(text, |file| file.parameters(file.kernels()[0]).unwrap()), expected);
        let source = Source::new("k.metal", text);
        let error = function_unit("f", (&[], &[(0, 16)]), &source, false).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("`f` takes `[[threadgroup(3)]]`, which has no size"), "{error}");
    }

    #[test]
    fn parameters_that_are_not_modelled_are_refused_by_name() {
        for (parameter, named) in [
            ("texture2d<float> t [[texture(0)]]", "`[[texture]]`"),
            ("threadgroup float* s [[buffer(0)]]", "`[[buffer]]` stands at a parameter of other memory"),
            ("device float* s [[threadgroup(0)]]", "`[[threadgroup]]` stands at a parameter of other memory"),
            ("threadgroup float* s [[threadgroup(31)]]", "`[[threadgroup(31)]]` is not modelled"),
            ("float x", "neither memory nor an attribute"),
        ] {
            let text = format!("kernel void f({parameter}) {{ }}");
            let error = with(&text, |file| file.parameters(file.kernels()[0]).unwrap_err().to_string());
            assert!(error.starts_with("k.metal:1: ") && error.contains(named), "{error}");
        }
    }
}
