//! The rewrites between Metal and C++. They work on tokens, keep every line where it is, and refuse what they do not
//! understand: a rewrite that guesses gives wrong numbers.

use std::fmt::Write as _;
use std::ops::Range;

use super::file::repeated_structs;
use super::functions::{Definition, declares, definitions, repeated};
use super::indices::{Remembered, Returning, pointers, returning};
use super::lexer::{Kind, Places, Token, lex};
use super::privates::Brace;
use super::words::{ADDRESS_SPACES, inexact, number, refused};
use crate::elsewhere::function_in_metal;
use crate::left_out::{LONG_LONG, instead_of};
use crate::names::is_matrix;
use crate::{Error, Location, Source};

/// A call to a barrier, a simdgroup or quadgroup operation: threads must reach the same one together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The operation.
    pub name: String,
    /// The place of the call.
    pub at: Location,
}

/// Sites are numbered below this; a multiple of it is added for each use of a macro.
pub const MACROS: u32 = 1 << 16;

/// The languages that a source is translated to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// C++ that runs in the emulator: whether arms of `?:` are converted to a common type, and `float` is `double`.
    Host { arms: bool, double: bool },
    /// C++ with address spaces, for clang: whether literals keep their values.
    Check { exact: bool },
    /// CUDA device code.
    Cuda,
}

impl Target {
    pub fn is_host(self) -> bool {
        matches!(self, Target::Host { .. })
    }

    pub(super) fn is_check(self) -> bool {
        matches!(self, Target::Check { .. })
    }

    fn is_double(self) -> bool {
        matches!(self, Target::Host { double: true, .. })
    }
}

/// The kind of a text, and what its names mean.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Context<'c> {
    pub is_header: bool,
    /// Whether it is the text of a macro.
    pub is_macro: bool,
    /// Ports that are pointers.
    pub ports: &'c [&'c str],
    /// The header of the text, if it is not one.
    pub header: &'c str,
    /// Functions of the header in which threads meet.
    pub meeting: &'c [String],
    /// Functions of the header that may return what wrapped around.
    pub returning: &'c [String],
    /// Values of function constants, where the text is a whole file, of which some functions are kernels.
    pub constants: Option<&'c [(u32, i64)]>,
}

/// Rewrites one text. Sites and threadgroup arrays are numbered on from those that are there already.
pub(crate) fn rewrite(
    source: &Source,
    target: Target,
    context: Context<'_>,
    sites: &mut Vec<Site>,
) -> Result<String, Error> {
    let tokens = lex(&source.text);
    let places = Places::new(source, &tokens);
    let definitions = if context.is_header { definitions(&tokens) } else { Vec::new() };
    let mut repeated = if target.is_check() { Vec::new() } else { repeated(&tokens, &definitions) };
    if context.constants.is_some() {
        repeated.extend(repeated_structs(&tokens));
    }
    let mut pointers = pointers(&tokens);
    pointers.extend(context.ports.iter().map(|&port| port.to_owned()));
    let (tokens, places) = (&tokens, &places);
    let mut writer = Writer {
        tokens,
        places,
        target,
        context,
        definitions,
        repeated,
        sites,
        out: String::new(),
        arrays: 0,
        braces: Vec::new(),
        renamed: Vec::new(),
        after: Vec::new(),
        pointers,
        remembered: Vec::new(),
        returning: returning(tokens),
        beginnings: Vec::new(),
        first_arguments: Vec::new(),
    };
    writer.all(0..tokens.len())?;
    Ok(writer.out)
}

/// The text that the end of a parenthesis becomes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Close {
    Plain,
    /// The call of a collective ends with its site.
    Site(usize),
    /// The condition of a loop has parentheses of its own.
    Twice,
}

pub(super) struct Writer<'a, 't> {
    pub(super) tokens: &'a [Token<'t>],
    pub(super) places: &'a Places<'t>,
    pub(super) target: Target,
    pub(super) context: Context<'a>,
    /// Functions of a header.
    pub(super) definitions: Vec<Definition>,
    /// The ranges of functions to leave out.
    pub(super) repeated: Vec<Range<usize>>,
    pub(super) sites: &'a mut Vec<Site>,
    pub(super) out: String,
    pub(super) arrays: u32,
    pub(super) braces: Vec<Brace>,
    /// Names of variables without a value, where they are declared.
    pub(super) renamed: Vec<usize>,
    /// Texts to add after semicolons.
    pub(super) after: Vec<(usize, String)>,
    /// Names of pointers.
    pub(super) pointers: Vec<String>,
    /// Variables of which is known what they would be if nothing wrapped around.
    pub(super) remembered: Vec<Remembered>,
    /// Functions of the text that may return what wrapped around.
    pub(super) returning: Vec<Returning>,
    /// Values that variables of loops begin with and that are looked at as indices are.
    pub(super) beginnings: Vec<Range<usize>>,
    /// The ends of first arguments in front of which something was put.
    pub(super) first_arguments: Vec<usize>,
}

impl<'t> Writer<'_, 't> {
    fn all(&mut self, range: Range<usize>) -> Result<(), Error> {
        let mut i = range.start;
        // Each open parenthesis has an entry.
        let mut parentheses: Vec<Close> = Vec::new();
        while i < range.end {
            let token = self.tokens[i];
            if let Some(repeated) = self.repeated.iter().find(|r| r.start == i).cloned() {
                self.keep_lines(repeated.start, repeated.end);
                i = repeated.end;
                continue;
            }
            if self.first_arguments.contains(&i) {
                self.out.push(')');
            }
            let defines = self.definitions.iter().any(|d| d.head == i);
            if self.target == Target::Cuda && defines && token.text != "METAL_FUNC" {
                self.out += "__device__ ";
            }
            if self.context.constants.is_some()
                && let Some(next) = self.whole_file(i, range.end)?
            {
                i = next;
                continue;
            }
            match token.kind {
                Kind::Directive => self.directive(&token)?,
                Kind::Number if self.target == (Target::Check { exact: false }) => {
                    self.out += &inexact(&number(token.text, false));
                }
                Kind::Number => self.out += &number(token.text, self.target.is_double()),
                Kind::Identifier => {
                    self.refuse(i)?;
                    self.note_valueless(i, range.end);
                    self.remember(i, range.end)?;
                    if let Some(next) = self.assignment(i, range.end)? {
                        i = next;
                        continue;
                    }
                    if let Some(next) = self.returned(i, range.end)? {
                        i = next;
                        continue;
                    }
                    if token.text == "threadgroup" {
                        i = self.threadgroup(i, range.end)?;
                        continue;
                    }
                    if self.target.is_check() {
                        i = self.checked_word(i, range.end);
                        continue;
                    }
                    if ADDRESS_SPACES.contains(&token.text) {
                        // In CUDA, device code can index a table of constants only if it is `__constant__`.
                        if self.target == Target::Cuda
                            && self.context.is_header
                            && token.text == "constant"
                            && self.starts_statement(i)
                        {
                            self.out += "__constant__";
                        }
                        i += 1;
                        continue;
                    }
                    if self.target.is_host()
                        && let Some(next) = self.loop_head(i, range.end, &mut parentheses)
                    {
                        i = next;
                        continue;
                    }
                    if self.target.is_host()
                        && let Some(next) = self.moved_pointer(i, range.end)?
                    {
                        i = next;
                        continue;
                    }
                    if let Some((next, close)) = self.call_of_helper(i, range.end) {
                        parentheses.push(close);
                        i = next;
                        continue;
                    }
                    if self.renamed.contains(&i) {
                        let _ = write!(self.out, "{}_unset_", token.text);
                    } else if let Some(swizzle) = self.swizzle(i) {
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
                                parentheses.push(Close::Plain);
                                i = open + 1;
                                continue;
                            }
                            if empty {
                                let _ = write!(self.out, "{}", self.site(number));
                            }
                            parentheses.push(if empty { Close::Plain } else { Close::Site(number) });
                            i = open + 1;
                            continue;
                        }
                    }
                }
                Kind::Punctuation if self.target.is_check() && token.is('(') => {
                    i = self.checked_cast(i, range.end);
                    continue;
                }
                Kind::Punctuation if !self.target.is_check() && (token.is('<') || token.is('>')) => {
                    if let Some(next) = self.shift(i, range.end)? {
                        i = next;
                        continue;
                    }
                    self.out += token.text;
                }
                Kind::Punctuation if self.target.is_host() && token.is('[') => {
                    if let Some(next) = self.subscript(i, range.end)? {
                        i = next;
                        continue;
                    }
                    self.out.push('[');
                }
                Kind::Punctuation if token.is('=') && self.beginnings.iter().any(|range| range.start == i + 1) => {
                    self.out.push('=');
                    let value = self.beginnings.iter().find(|range| range.start == i + 1).cloned();
                    if let Some(value) = value
                        && let Some(text) = self.checked(value.start, value.end)?
                    {
                        self.out += &text;
                        i = value.end;
                        continue;
                    }
                }
                Kind::Punctuation if token.is('(') => {
                    parentheses.push(Close::Plain);
                    self.out.push('(');
                }
                Kind::Punctuation if token.is(')') => {
                    match parentheses.pop() {
                        Some(Close::Site(site)) => {
                            let _ = write!(self.out, ", {}", self.site(site));
                        }
                        Some(Close::Twice) => self.out.push(')'),
                        _ => {}
                    }
                    self.out.push(')');
                }
                Kind::Punctuation if token.is(';') => {
                    self.out.push(';');
                    self.out.extend(self.after.iter().filter(|(at, _)| *at == i).map(|(_, text)| text.as_str()));
                }
                Kind::Punctuation if token.is('?') && matches!(self.target, Target::Host { arms: true, .. }) => {
                    if let Some(next) = self.arms(i, range.end)? {
                        i = next;
                        continue;
                    }
                    self.out.push('?');
                }
                Kind::Punctuation if token.is('{') => {
                    self.open_brace(i);
                    self.out.push('{');
                }
                Kind::Punctuation if token.is('}') => {
                    self.braces.pop();
                    self.forget();
                    self.out.push('}');
                }
                _ => self.out += token.text,
            }
            i += 1;
        }
        Ok(())
    }

    /// Returns what a collective is given: its number, and in a macro which use of the macro it is.
    fn site(&self, number: usize) -> String {
        match self.context.is_macro {
            true => format!("metal::site<{number}u + (1 + __COUNTER__) * {MACROS}u>()"),
            false => format!("metal::site<{number}>()"),
        }
    }

    pub(super) fn error(&self, token: &Token<'_>, what: impl Into<String>, help: impl Into<String>) -> Error {
        Error::Unsupported { at: self.places.of(token), what: what.into(), help: help.into() }
    }

    pub(super) fn next_significant(&self, from: usize, end: usize) -> Option<usize> {
        (from..end).find(|&i| self.tokens[i].kind != Kind::Space)
    }

    pub(super) fn previous_significant(&self, before: usize) -> Option<&Token<'t>> {
        self.tokens[..before].iter().rev().find(|t| t.kind != Kind::Space)
    }

    /// The parenthesis that closes the one at `open`.
    pub(super) fn closing(&self, open: usize, end: usize) -> Option<usize> {
        let mut depth = 0;
        (open..end).find(|&n| {
            depth += i32::from(self.tokens[n].is('(')) - i32::from(self.tokens[n].is(')'));
            depth == 0
        })
    }

    pub(super) fn starts_statement(&self, i: usize) -> bool {
        let before = self.previous_significant(i);
        before.is_none_or(|t| t.kind == Kind::Directive || [';', '{', '}'].iter().any(|&c| t.is(c)))
    }

    /// Returns whether the token is a member's name, after `.` or `->`.
    pub(super) fn is_member(&self, i: usize) -> bool {
        let Some(before) = self.tokens[..i].iter().rposition(|t| t.kind != Kind::Space) else { return false };
        self.tokens[before].is('.') || (self.tokens[before].is('>') && before > 0 && self.tokens[before - 1].is('-'))
    }

    /// Returns what to write instead of the function of another language that is called at `i`, unless the kernel has its own.
    fn function_elsewhere(&self, i: usize) -> Option<&str> {
        let name = self.tokens[i].text;
        // A whole file has functions of the files that it includes.
        let metal = function_in_metal(name).filter(|_| self.context.constants.is_none())?;
        let is_called = self.next_significant(i + 1, self.tokens.len()).is_some_and(|next| self.tokens[next].is('('));
        let is_own = || declares(self.tokens, name) || declares(&lex(self.context.header), name);
        (is_called && !self.is_member(i) && !is_own()).then_some(metal)
    }

    fn refuse(&self, i: usize) -> Result<(), Error> {
        let token = &self.tokens[i];
        let Some((word, help)) = refused().find(|(word, _)| *word == token.text) else {
            let next = self.next_significant(i + 1, self.tokens.len());
            return if token.text == "long" && next.is_some_and(|next| self.tokens[next].text == "long") {
                Err(self.error(token, format!("Metal has no `{LONG_LONG}`"), instead_of(LONG_LONG)))
            } else if let Some(metal) = self.function_elsewhere(i) {
                Err(self.error(token, format!("Metal has no function `{}`", token.text), format!("write `{metal}`")))
            } else if is_matrix(token.text) && !self.is_member(i) {
                let help = "use vectors, `simdgroup_matrix` or `tile`: Metal's small matrices are not modelled";
                Err(self.error(token, format!("`{}` is not modelled", token.text), help))
            } else {
                Ok(())
            };
        };
        // A variable may be called `sampler`, or `std` (a standard deviation); only the use as a type or namespace counts.
        let next = self.next_significant(i + 1, self.tokens.len()).map(|n| &self.tokens[n]);
        let harmless = match *word {
            // Files mention the type that the shim defines, which logs nothing.
            "os_log" => self.context.constants.is_some() || self.is_member(i),
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

    pub(super) fn nested(&mut self, from: usize, to: usize) -> Result<String, Error> {
        let outer = std::mem::take(&mut self.out);
        let result = self.all(from..to);
        let inner = std::mem::replace(&mut self.out, outer);
        result.map(|()| inner)
    }
}

/// The first identifier that `wanted` accepts, and its place.
pub(crate) fn find_word(source: &Source, wanted: impl Fn(&str) -> bool) -> Option<(Location, &str)> {
    let tokens = lex(&source.text);
    let token = tokens.iter().find(|t| t.kind == Kind::Identifier && wanted(t.text))?;
    Some((Places::new(source, &tokens).of(token), token.text))
}

#[cfg(test)]
mod tests;
