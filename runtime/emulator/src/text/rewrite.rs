//! The rewrites between Metal and C++. They work on tokens, keep every line where it is, and refuse what they do not
//! understand: a rewrite that guesses gives wrong numbers.

use std::fmt::Write as _;

use super::lexer::{Kind, Places, Token, lex};
use crate::{Error, Location, Source};

/// A call to a barrier, a simdgroup or quadgroup operation: threads must reach the same one together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    pub name: String,
    pub at: Location,
}

/// What the text becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// C++ that runs in the emulator.
    Host,
    /// C++ with address spaces, for clang to check.
    Check,
    /// CUDA device code.
    Cuda,
}

const GROUP_OPERATIONS: &[&str] = &[
    "sum",
    "product",
    "min",
    "max",
    "and",
    "or",
    "xor",
    "broadcast",
    "broadcast_first",
    "prefix_inclusive_sum",
    "prefix_exclusive_sum",
    "prefix_inclusive_product",
    "prefix_exclusive_product",
    "shuffle",
    "shuffle_xor",
    "shuffle_up",
    "shuffle_down",
    "shuffle_rotate_up",
    "shuffle_rotate_down",
    "shuffle_and_fill_up",
    "shuffle_and_fill_down",
    "ballot",
    "any",
    "all",
    "active_threads_mask",
    "is_first",
];

const OTHER_COLLECTIVES: &[&str] = &[
    "threadgroup_barrier",
    "simdgroup_barrier",
    "simdgroup_load",
    "simdgroup_store",
    "simdgroup_multiply",
    "simdgroup_multiply_accumulate",
    "tile_load",
    "tile_load_transposed",
    "tile_store",
    "tile_multiply_accumulate",
    "tile_transpose",
];

fn is_collective(name: &str) -> bool {
    let operation = name.strip_prefix("simd_").or_else(|| name.strip_prefix("quad_"));
    operation.is_some_and(|o| GROUP_OPERATIONS.contains(&o)) || OTHER_COLLECTIVES.contains(&name)
}

/// Words of Metal that the emulator does not model, and words that Metal does not have, each with advice.
const REFUSED: &[(&str, &str)] = &[
    ("double", "use `float`: Metal has no 64-bit floating point"),
    ("texture1d", TEXTURE),
    ("texture2d", TEXTURE),
    ("texture3d", TEXTURE),
    ("texturecube", TEXTURE),
    ("texture_buffer", TEXTURE),
    ("sampler", TEXTURE),
    ("imageblock", TEXTURE),
    ("simdgroup_event", "load with `simdgroup_load` or plain loads: asynchronous copies are not modelled"),
    ("simdgroup_async_copy", "load with `simdgroup_load` or plain loads: asynchronous copies are not modelled"),
    ("atomic_thread_fence", "use a barrier with memory flags: fences are not modelled"),
    ("intersector", "leave ray tracing out: it is not modelled"),
    ("visible_function_table", "call functions directly: function tables are not modelled"),
    ("goto", "use structured control flow: Metal has no `goto`"),
    ("new", "declare arrays: Metal has no heap"),
    ("delete", "declare arrays: Metal has no heap"),
    ("virtual", "use templates: Metal has no virtual functions"),
    ("throw", "return a value: Metal has no exceptions"),
    ("try", "return a value: Metal has no exceptions"),
    ("catch", "return a value: Metal has no exceptions"),
    ("dynamic_cast", "use templates: Metal has no run-time types"),
    ("typeid", "use templates: Metal has no run-time types"),
    ("thread_local", "use a local variable: Metal has no thread-local storage"),
    ("std", "use namespace `metal`: Metal has no C++ standard library"),
    ("printf", "write the value to an output: Metal kernels do not print"),
    ("asm", "use Metal's functions: Metal has no inline assembly"),
    ("__asm__", "use Metal's functions: Metal has no inline assembly"),
];

const TEXTURE: &str = "pass a buffer: textures are not modelled";

const ADDRESS_SPACES: [&str; 4] = ["device", "constant", "thread", "kernel"];

/// Rewrites one text. Sites and threadgroup arrays are numbered on from those that are there already.
pub(crate) fn rewrite(
    source: &Source,
    target: Target,
    is_header: bool,
    sites: &mut Vec<Site>,
) -> Result<String, Error> {
    let tokens = lex(&source.text);
    let places = Places::new(source, &tokens);
    let functions = if target == Target::Cuda && is_header { function_starts(&tokens) } else { Vec::new() };
    let mut writer =
        Writer { tokens: &tokens, places: &places, target, is_header, functions, sites, out: String::new(), arrays: 0 };
    writer.all(0..tokens.len())?;
    Ok(writer.out)
}

struct Writer<'a, 't> {
    tokens: &'a [Token<'t>],
    places: &'a Places<'t>,
    target: Target,
    is_header: bool,
    /// Tokens at which a function's definition begins, for CUDA.
    functions: Vec<usize>,
    sites: &'a mut Vec<Site>,
    out: String,
    arrays: u32,
}

impl<'t> Writer<'_, 't> {
    fn all(&mut self, range: std::ops::Range<usize>) -> Result<(), Error> {
        let mut i = range.start;
        // One entry an open parenthesis: the site to append in front of its end.
        let mut parentheses: Vec<Option<usize>> = Vec::new();
        while i < range.end {
            let token = self.tokens[i];
            if self.functions.contains(&i) {
                self.out += "__device__ ";
            }
            match token.kind {
                Kind::Directive => self.directive(&token)?,
                Kind::Number => self.out += &number(token.text),
                Kind::Identifier => {
                    self.refuse(i)?;
                    if token.text == "threadgroup" {
                        i = self.threadgroup(i, range.end)?;
                        continue;
                    }
                    if self.target == Target::Check {
                        i = self.checked_word(i, range.end);
                        continue;
                    }
                    if ADDRESS_SPACES.contains(&token.text) {
                        // A table of constants needs a place that device code can index.
                        if self.target == Target::Cuda
                            && self.is_header
                            && token.text == "constant"
                            && self.starts_statement(i)
                        {
                            self.out += "__constant__";
                        }
                        i += 1;
                        continue;
                    }
                    if let Some(swizzle) = self.swizzle(i) {
                        self.out += &swizzle;
                    } else {
                        self.out += token.text;
                        if let Some(open) = self.collective_call(i, range.end) {
                            let between: String = self.tokens[i + 1..open].iter().map(|t| t.text).collect();
                            let site = Site { name: token.text.to_owned(), at: self.places.of(&token) };
                            self.sites.push(site);
                            let empty =
                                self.next_significant(open + 1, range.end).is_some_and(|n| self.tokens[n].is(')'));
                            self.out += &between;
                            self.out.push('(');
                            let number = self.sites.len() - 1;
                            if self.target == Target::Cuda {
                                parentheses.push(None);
                                i = open + 1;
                                continue;
                            }
                            if empty {
                                let _ = write!(self.out, "metal::site<{number}>()");
                            }
                            parentheses.push((!empty).then_some(number));
                            i = open + 1;
                            continue;
                        }
                    }
                }
                Kind::Punctuation if self.target == Target::Check && token.is('(') => {
                    i = self.checked_cast(i, range.end);
                    continue;
                }
                Kind::Punctuation if token.is('(') => {
                    parentheses.push(None);
                    self.out.push('(');
                }
                Kind::Punctuation if token.is(')') => {
                    if let Some(Some(site)) = parentheses.pop() {
                        let _ = write!(self.out, ", metal::site<{site}>()");
                    }
                    self.out.push(')');
                }
                _ => self.out += token.text,
            }
            i += 1;
        }
        Ok(())
    }

    fn error(&self, token: &Token<'_>, what: impl Into<String>, help: impl Into<String>) -> Error {
        Error::Unsupported { at: self.places.of(token), what: what.into(), help: help.into() }
    }

    fn next_significant(&self, from: usize, end: usize) -> Option<usize> {
        (from..end).find(|&i| self.tokens[i].kind != Kind::Space)
    }

    fn previous_significant(&self, before: usize) -> Option<&Token<'t>> {
        self.tokens[..before].iter().rev().find(|t| t.kind != Kind::Space)
    }

    fn starts_statement(&self, i: usize) -> bool {
        let before = self.previous_significant(i);
        before.is_none_or(|t| t.kind == Kind::Directive || [';', '{', '}'].iter().any(|&c| t.is(c)))
    }

    /// Whether the token is a member's name, after `.` or `->`.
    fn is_member(&self, i: usize) -> bool {
        let Some(before) = self.tokens[..i].iter().rposition(|t| t.kind != Kind::Space) else { return false };
        self.tokens[before].is('.') || (self.tokens[before].is('>') && before > 0 && self.tokens[before - 1].is('-'))
    }

    fn refuse(&self, i: usize) -> Result<(), Error> {
        let token = &self.tokens[i];
        let Some((word, help)) = REFUSED.iter().find(|(word, _)| *word == token.text) else {
            return if matrix_type(token.text) && !self.is_member(i) {
                let help = "use vectors, `simdgroup_matrix` or `tile`: Metal's small matrices are not modelled";
                Err(self.error(token, format!("`{}` is not modelled", token.text), help))
            } else {
                Ok(())
            };
        };
        // A variable may be called `sampler`, or `std` (a standard deviation); only the use as a type or namespace counts.
        let next = self.next_significant(i + 1, self.tokens.len()).map(|n| &self.tokens[n]);
        let harmless = match *word {
            "std" => !(next.is_some_and(|n| n.is(':'))),
            "sampler" | "new" | "try" | "printf" => {
                self.is_member(i) || (*word == "sampler" && !next.is_some_and(|n| n.kind == Kind::Identifier))
            }
            _ => self.is_member(i),
        };
        if harmless {
            return Ok(());
        }
        Err(self.error(token, format!("`{word}` cannot be used in a kernel here"), *help))
    }

    fn directive(&mut self, token: &Token<'t>) -> Result<(), Error> {
        let words = token.text[1..].trim_start();
        let name = words.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        match name {
            // Metal's own headers are always there.
            "include" | "import" => {
                if words.contains("metal") || words.contains("simd/") {
                    self.out.extend(token.text.matches('\n'));
                    return Ok(());
                }
                Err(self.error(
                    token,
                    format!("`#{words}` names a file that is not Metal's"),
                    "paste its text into the header",
                ))
            }
            "define" => {
                let body = Source {
                    text: words["define".len()..].to_owned(),
                    file: self.places.of(token).file,
                    line: self.places.of(token).line,
                };
                self.out += "#define";
                self.out += &rewrite(&body, self.target, self.is_header, self.sites)?;
                Ok(())
            }
            "pragma" => {
                self.out.extend(token.text.matches('\n'));
                Ok(())
            }
            _ => {
                self.out += token.text;
                Ok(())
            }
        }
    }

    /// If the identifier at `i` calls a collective: where its parenthesis opens. Explicit template arguments are allowed.
    fn collective_call(&self, i: usize, end: usize) -> Option<usize> {
        if !is_collective(self.tokens[i].text) || self.is_member(i) {
            return None;
        }
        let mut at = self.next_significant(i + 1, end)?;
        if self.tokens[at].is('<') {
            let mut depth = 0;
            while at < end {
                depth += i32::from(self.tokens[at].is('<')) - i32::from(self.tokens[at].is('>'));
                at += 1;
                if depth == 0 {
                    break;
                }
            }
            at = self.next_significant(at, end)?;
        }
        self.tokens[at].is('(').then_some(at)
    }

    /// `.xy` after a dot: a call that names its components; where it is assigned, one that can be.
    fn swizzle(&self, i: usize) -> Option<String> {
        let name = self.tokens[i].text;
        let component = |c: char| "xyzw".find(c);
        if !(2..=4).contains(&name.len()) || !name.chars().all(|c| component(c).is_some()) || !self.is_member(i) {
            return None;
        }
        let indices: Vec<String> = name.chars().filter_map(component).map(|n| n.to_string()).collect();
        let following: Vec<char> = self.tokens[i + 1..]
            .iter()
            .filter(|t| t.kind != Kind::Space)
            .take(2)
            .map(|t| t.text.chars().next().unwrap_or(' '))
            .collect();
        let assigned = match following[..] {
            ['=', next] => next != '=',
            ['='] => true,
            ['+' | '-' | '*' | '/', '='] => true,
            _ => false,
        };
        let method = if assigned { "lanes" } else { "swizzle" };
        Some(format!("{method}(metal::components<{}>())", indices.join(", ")))
    }

    /// Copies a word for the check; a vector type that is called becomes a function that counts components.
    fn checked_word(&mut self, i: usize, end: usize) -> usize {
        let called = || {
            let open = self.next_significant(i + 1, end).filter(|&n| self.tokens[n].is('<'))?;
            let mut depth = 0;
            let close = (open..end).find(|&n| {
                depth += i32::from(self.tokens[n].is('<')) - i32::from(self.tokens[n].is('>'));
                depth == 0
            })?;
            self.next_significant(close + 1, end).filter(|&n| self.tokens[n].is('('))
        };
        // `float4 v(1, 2, 3, 4);` is `float4 v = float4(1, 2, 3, 4);`
        if !self.is_header && vector_type(self.tokens[i].text) && self.starts_statement(i) {
            let name = self.next_significant(i + 1, end).filter(|&n| self.tokens[n].kind == Kind::Identifier);
            let open = name.and_then(|n| self.next_significant(n + 1, end)).filter(|&n| self.tokens[n].is('('));
            if let (Some(name), Some(open)) = (name, open) {
                let ty = self.tokens[i].text;
                let _ = write!(self.out, "{ty} {} = {ty}", self.tokens[name].text);
                self.keep_lines(i, open);
                return open;
            }
        }
        let makes_vector = self.tokens[i].text == "vec" && called().is_some();
        self.out += if makes_vector { "make_vec" } else { self.tokens[i].text };
        i + 1
    }

    /// Copies a parenthesis for the check; that of a cast to a pointer becomes a cast that knows address spaces.
    fn checked_cast(&mut self, open: usize, end: usize) -> usize {
        let mut depth = 0;
        let close = (open..end).find(|&n| {
            depth += i32::from(self.tokens[n].is('(')) - i32::from(self.tokens[n].is(')'));
            depth == 0
        });
        let cast = close.filter(|&close| {
            let inside = &self.tokens[open + 1..close];
            let significant = || inside.iter().filter(|t| t.kind != Kind::Space);
            let spaced = significant().any(|t| ADDRESS_SPACES.contains(&t.text) || t.text == "threadgroup");
            let ends_in_star = significant().next_back().is_some_and(|t| t.is('*'));
            let no_call = inside.iter().all(|t| !t.is('('));
            let operand = self.next_significant(close + 1, end).is_some_and(|n| {
                let t = &self.tokens[n];
                t.kind == Kind::Identifier || t.is('(') || t.is('&')
            });
            spaced && ends_in_star && no_call && operand
        });
        let Some(close) = cast else {
            self.out.push('(');
            return open + 1;
        };
        let ty: String = self.tokens[open + 1..close].iter().map(|t| t.text).collect();
        let _ = write!(self.out, "metal::cast_to<{ty}>() % ");
        close + 1
    }

    /// The word `threadgroup` at `i`: the start of an array's declaration, or part of a pointer's or reference's type.
    /// Returns where to go on.
    fn threadgroup(&mut self, i: usize, end: usize) -> Result<usize, Error> {
        let token = self.tokens[i];
        let starts_statement = self.starts_statement(i);
        let stop = self.declaration_end(i + 1, end);
        let indirect =
            (i + 1..stop).any(|n| self.depth_free(i + 1, n) && (self.tokens[n].is('*') || self.tokens[n].is('&')));
        // An argument of a macro that writes a function for each address space.
        let alone = self.next_significant(i + 1, end).is_some_and(|n| self.tokens[n].is(')') || self.tokens[n].is(','));
        if indirect || (alone && !starts_statement) {
            if self.target == Target::Check {
                self.out += token.text;
            }
            return Ok(i + 1);
        }
        let help = "write `threadgroup TYPE NAME[SIZE];` as a statement of its own in the kernel's body";
        if !starts_statement || stop >= end || !self.tokens[stop].is(';') {
            return Err(self.error(&token, "this use of `threadgroup` is not understood", help));
        }
        if self.is_header {
            return Err(self.error(&token, "threadgroup memory is declared outside the kernel's body", help));
        }
        if self.target == Target::Check {
            self.out += "METAL_THREADGROUP";
            return Ok(i + 1);
        }
        self.declaration(i + 1, stop)?;
        Ok(stop + 1)
    }

    /// The first `;`, `=`, or unmatched `)`, `>` or `,` … that ends what began at `from`.
    fn declaration_end(&self, from: usize, end: usize) -> usize {
        let mut depth = 0i32;
        for n in from..end {
            let t = &self.tokens[n];
            if t.is('(') || t.is('[') || t.is('<') {
                depth += 1;
            } else if t.is(')') || t.is(']') || t.is('>') {
                depth -= 1;
                if depth < 0 {
                    return n;
                }
            } else if depth == 0 && (t.is(';') || t.is('=') || t.is('{')) {
                return n;
            }
        }
        end
    }

    /// Whether token `n` stands outside all brackets opened since `from`; parentheses of `(&a)[4]` do not count.
    fn depth_free(&self, from: usize, n: usize) -> bool {
        let mut depth = 0i32;
        for t in &self.tokens[from..n] {
            depth += i32::from(t.is('[') || t.is('<')) - i32::from(t.is(']') || t.is('>'));
        }
        depth == 0
    }

    /// `TYPE a[4], b;` -> for each name a reference to memory of the emulator.
    fn declaration(&mut self, from: usize, stop: usize) -> Result<(), Error> {
        let mut parts: Vec<(usize, usize)> = Vec::new();
        let (mut depth, mut start) = (0i32, from);
        for n in from..stop {
            let t = &self.tokens[n];
            depth += i32::from(t.is('[') || t.is('<') || t.is('(')) - i32::from(t.is(']') || t.is('>') || t.is(')'));
            if depth == 0 && t.is(',') {
                parts.push((start, n));
                start = n + 1;
            }
        }
        parts.push((start, stop));
        let before = self.out.len();
        let mut element = String::new();
        for (number, (start, stop)) in parts.into_iter().enumerate() {
            let bracket = (start..stop).find(|&n| self.tokens[n].is('[')).unwrap_or(stop);
            let name = (start..bracket).rev().find(|&n| self.tokens[n].kind != Kind::Space);
            let Some(name) = name.filter(|&n| self.tokens[n].kind == Kind::Identifier) else {
                let token = self.tokens[from - 1];
                return Err(self.error(&token, "a threadgroup declaration without a name", "name the array"));
            };
            if number == 0 {
                element = self.nested(start, name)?.replace('\n', " ");
            }
            if element.trim().is_empty() {
                let token = self.tokens[name];
                return Err(self.error(
                    &token,
                    "a threadgroup declaration without a type",
                    "write `threadgroup TYPE NAME[SIZE];`",
                ));
            }
            let dimensions = self.nested(bracket, stop)?.replace('\n', " ");
            if self.target == Target::Cuda {
                let _ = write!(self.out, "__shared__ {element} {}{dimensions};", self.tokens[name].text);
                continue;
            }
            let (id, name) = (self.arrays, self.tokens[name].text);
            self.arrays += 1;
            let _ = write!(
                self.out,
                "typedef {element} metal_array_{id}_{dimensions}; metal_array_{id}_& {name} = \
                 metal::threadgroup_array<metal_array_{id}_>({id}, \"{name}\");"
            );
        }
        debug_assert!(!self.out[before..].contains('\n'));
        self.keep_lines(from, stop);
        Ok(())
    }

    /// Ends as many lines as the tokens that were replaced.
    fn keep_lines(&mut self, from: usize, to: usize) {
        for token in &self.tokens[from..to] {
            self.out.extend(token.text.matches('\n'));
        }
    }

    fn nested(&mut self, from: usize, to: usize) -> Result<String, Error> {
        let outer = std::mem::take(&mut self.out);
        let result = self.all(from..to);
        let inner = std::mem::replace(&mut self.out, outer);
        result.map(|()| inner)
    }
}

/// Where each function's definition in a header begins, after `template <…>`.
fn function_starts(tokens: &[Token<'_>]) -> Vec<usize> {
    let significant: Vec<usize> = (0..tokens.len()).filter(|&i| tokens[i].kind != Kind::Space).collect();
    let at = |n: usize| significant.get(n).map(|&i| &tokens[i]);
    let is = |n: usize, c: char| at(n).is_some_and(|t| t.is(c));
    let mut starts = Vec::new();
    for n in 1..significant.len() {
        let named = at(n - 1)
            .is_some_and(|t| t.kind == Kind::Identifier && !["if", "for", "while", "switch"].contains(&t.text));
        if !is(n, '(') || !named {
            continue;
        }
        let mut depth = 0;
        let close = (n..significant.len()).find(|&m| {
            depth += i32::from(is(m, '(')) - i32::from(is(m, ')'));
            depth == 0
        });
        let Some(close) = close else { continue };
        let body = if at(close + 1).is_some_and(|t| t.text == "const") { close + 2 } else { close + 1 };
        if !is(body, '{') {
            continue;
        }
        let ends = |m: usize| {
            [';', '{', '}', ':'].iter().any(|&c| is(m, c))
                && !(is(m, ':') && (is(m + 1, ':') || (m > 0 && is(m - 1, ':'))))
        };
        let stop = |m: &usize| ends(*m) || at(*m).is_some_and(|t| t.kind == Kind::Directive);
        let mut start = (0..n).rev().find(stop).map_or(0, |m| m + 1);
        while at(start).is_some_and(|t| t.text == "template") {
            let mut depth = 0;
            let past = (start + 1..n).find(|&m| {
                depth += i32::from(is(m, '<')) - i32::from(is(m, '>'));
                depth == 0
            });
            start = past.map_or(n, |m| m + 1);
        }
        if at(start).is_none_or(|t| t.text != "METAL_FUNC") {
            starts.extend(significant.get(start).copied());
        }
    }
    starts.sort_unstable();
    starts.dedup();
    starts
}

/// The first identifier that `wanted` accepts, and its place.
pub(crate) fn find_word(source: &Source, wanted: impl Fn(&str) -> bool) -> Option<(Location, &str)> {
    let tokens = lex(&source.text);
    let token = tokens.iter().find(|t| t.kind == Kind::Identifier && wanted(t.text))?;
    Some((Places::new(source, &tokens).of(token), token.text))
}

/// `float2` … `ulong4`
fn vector_type(word: &str) -> bool {
    let scalar = word.strip_suffix(['2', '3', '4']).unwrap_or_default();
    ["float", "half", "bfloat", "int", "uint", "short", "ushort", "char", "uchar", "long", "ulong", "bool"]
        .contains(&scalar)
}

/// `float2x2` … `half4x4`
fn matrix_type(word: &str) -> bool {
    let dimensions = word.strip_prefix("float").or_else(|| word.strip_prefix("half"));
    matches!(dimensions.map(str::as_bytes), Some([b'2'..=b'4', b'x', b'2'..=b'4']))
}

/// Metal's floating literals are single precision unless they say `h` or `bf`; C++'s are double unless they say `f`.
fn number(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("0x") && !lower.contains('p') {
        return text.to_owned();
    }
    let floating = lower.contains(['.', 'e', 'p']);
    for (suffix, name) in [("bf", "bfloat"), ("h", "half")] {
        if let Some(digits) = lower.strip_suffix(suffix) {
            let point = if floating { "" } else { ".0" };
            return format!("metal::{name}({digits}{point}f)");
        }
    }
    match floating && !lower.ends_with(['f', 'l']) {
        true => format!("{text}f"),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Result<String, String> {
        rewrite(&Source::new("k.metal", text), Target::Host, false, &mut Vec::new()).map_err(|e| e.to_string())
    }

    #[test]
    fn literals_are_single_precision() {
        for (metal, host) in [
            ("1.0", "1.0f"),
            ("1e-5", "1e-5f"),
            ("2.5f", "2.5f"),
            ("0xff", "0xff"),
            ("7u", "7u"),
            ("1h", "metal::half(1.0f)"),
            ("1.5bf", "metal::bfloat(1.5f)"),
        ] {
            assert_eq!(body(metal).unwrap(), host);
        }
    }

    #[test]
    fn collectives_get_their_site_as_last_argument() {
        for (metal, host) in [
            ("simd_sum(a)", "simd_sum(a, metal::site<0>())"),
            ("simd_sum<float>(f(a), b)", "simd_sum<float>(f(a), b, metal::site<0>())"),
            ("simd_is_first()", "simd_is_first(metal::site<0>())"),
            ("simd_max(simd_sum(a))", "simd_max(simd_sum(a, metal::site<1>()), metal::site<0>())"),
            ("s.simd_sum(a)", "s.simd_sum(a)"),
            ("simd_sums(a)", "simd_sums(a)"),
        ] {
            assert_eq!(body(metal).unwrap(), host);
        }
    }

    #[test]
    fn swizzles_become_calls_on_either_side() {
        assert_eq!(body("a.xy").unwrap(), "a.swizzle(metal::components<0, 1>())");
        assert_eq!(body("a.zx = b").unwrap(), "a.lanes(metal::components<2, 0>()) = b");
        assert_eq!(body("a.xy == b").unwrap(), "a.swizzle(metal::components<0, 1>()) == b");
        for untouched in ["a.x", "xy", "a.xb"] {
            assert_eq!(body(untouched).unwrap(), untouched);
        }
    }

    #[test]
    fn threadgroup_objects_and_pointers_are_told_apart() {
        for object in [
            "threadgroup float a[4 * N];",
            "threadgroup T a;",
            "threadgroup vec<T, 4> a[2][N & 3];",
            "{ threadgroup uint a[1]; }",
        ] {
            assert!(body(object).unwrap().contains("threadgroup_array"), "{object}");
        }
        for pointer in [
            "threadgroup float* p = a;",
            "f((threadgroup float4*)a)",
            "threadgroup const T& r = a[0];",
            "threadgroup float (&r)[4] = a;",
        ] {
            assert!(!body(pointer).unwrap().contains("threadgroup"), "{pointer}");
        }
        let two = body("threadgroup float a[2], b;").unwrap();
        assert!(two.contains("& a = ") && two.contains("& b = "), "{two}");
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name_and_line() {
        for (metal, line) in [
            ("threadgroup float a = 0;", 1),
            ("\nconst threadgroup float a[4];", 2),
            ("\n\ndouble x;", 3),
            ("float4x4 m;", 1),
            ("std::sort(a);", 1),
            ("#include <vector>", 1),
            ("texture2d<float> t;", 1),
        ] {
            let error = body(metal).expect_err(metal);
            assert!(error.starts_with(&format!("k.metal:{line}: ")) && error.contains("help: "), "{error}");
        }
    }

    #[test]
    fn lines_stay_where_they_are() {
        let text = "float a;\nthreadgroup float\n  b[4];\n#include <metal_stdlib>\nsimd_sum(\n a);\n";
        let after = body(text).unwrap();
        // A declaration may pull its own lines together but not move what follows.
        assert_eq!(after.lines().count(), text.lines().count(), "{after}");
    }
}
