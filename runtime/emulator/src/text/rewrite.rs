//! The rewrites between Metal and C++. They work on tokens, keep every line where it is, and refuse what they do not
//! understand: a rewrite that guesses gives wrong numbers.

use std::fmt::Write as _;
use std::ops::Range;

use super::file::repeated_structs;
use super::functions::{Definition, definitions, repeated};
use super::lexer::{Kind, Places, Token, lex};
use super::privates::Brace;
use super::words::{ADDRESS_SPACES, REFUSED, matrix_type, number};
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
    /// C++ that runs in the emulator: whether arms of `?:` are converted to a common type, and `float` is `double`.
    Host { arms: bool, double: bool },
    /// C++ with address spaces, for clang to check.
    Check,
    /// CUDA device code.
    Cuda,
}

impl Target {
    pub fn is_host(self) -> bool {
        matches!(self, Target::Host { .. })
    }

    fn is_double(self) -> bool {
        matches!(self, Target::Host { double: true, .. })
    }
}

/// Rewrites one text. Sites and threadgroup arrays are numbered on from those that are there already.
pub(crate) fn rewrite(
    source: &Source,
    target: Target,
    is_header: bool,
    sites: &mut Vec<Site>,
) -> Result<String, Error> {
    rewrite_part(source, target, is_header, !is_header, sites)
}

/// Rewrites the whole text of a file, of which some functions are kernels, for the emulator. Function constants have these
/// values.
pub(super) fn rewrite_whole(
    source: &Source,
    arms: bool,
    constants: &[(u32, i64)],
    sites: &mut Vec<Site>,
) -> Result<String, Error> {
    let target = Target::Host { arms, double: false };
    rewrite_tokens(source, target, (true, false), Some(constants), sites)
}

pub(super) fn rewrite_part(
    source: &Source,
    target: Target,
    is_header: bool,
    starts_in_code: bool,
    sites: &mut Vec<Site>,
) -> Result<String, Error> {
    rewrite_tokens(source, target, (is_header, starts_in_code), None, sites)
}

fn rewrite_tokens(
    source: &Source,
    target: Target,
    (is_header, starts_in_code): (bool, bool),
    constants: Option<&[(u32, i64)]>,
    sites: &mut Vec<Site>,
) -> Result<String, Error> {
    let tokens = lex(&source.text);
    let places = Places::new(source, &tokens);
    let definitions = if is_header { definitions(&tokens) } else { Vec::new() };
    let mut repeated = if target == Target::Check { Vec::new() } else { repeated(&tokens, &definitions) };
    if constants.is_some() {
        repeated.extend(repeated_structs(&tokens));
    }
    let (out, braces, renamed, after) = (String::new(), Vec::new(), Vec::new(), Vec::new());
    let (tokens, places) = (&tokens, &places);
    let mut writer = Writer {
        tokens,
        places,
        target,
        is_header,
        constants,
        definitions,
        repeated,
        sites,
        out,
        arrays: 0,
        starts_in_code,
        braces,
        renamed,
        after,
    };
    writer.all(0..tokens.len())?;
    Ok(writer.out)
}

/// What the end of a parenthesis becomes.
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
    pub(super) is_header: bool,
    /// Values of function constants, where the text is a whole file.
    pub(super) constants: Option<&'a [(u32, i64)]>,
    /// Functions of a header.
    pub(super) definitions: Vec<Definition>,
    /// Those to leave out.
    pub(super) repeated: Vec<Range<usize>>,
    pub(super) sites: &'a mut Vec<Site>,
    pub(super) out: String,
    pub(super) arrays: u32,
    /// Whether the text begins inside a function.
    pub(super) starts_in_code: bool,
    pub(super) braces: Vec<Brace>,
    /// Names of variables without a value, where they are declared.
    pub(super) renamed: Vec<usize>,
    /// What to add behind semicolons.
    pub(super) after: Vec<(usize, String)>,
}

impl<'t> Writer<'_, 't> {
    fn all(&mut self, range: Range<usize>) -> Result<(), Error> {
        let mut i = range.start;
        // One entry an open parenthesis.
        let mut parentheses: Vec<Close> = Vec::new();
        while i < range.end {
            let token = self.tokens[i];
            if let Some(repeated) = self.repeated.iter().find(|r| r.start == i).cloned() {
                self.keep_lines(repeated.start, repeated.end);
                i = repeated.end;
                continue;
            }
            let defines = self.definitions.iter().any(|d| d.head == i);
            if self.target == Target::Cuda && defines && token.text != "METAL_FUNC" {
                self.out += "__device__ ";
            }
            if self.constants.is_some()
                && let Some(next) = self.whole_file(i, range.end)?
            {
                i = next;
                continue;
            }
            match token.kind {
                Kind::Directive => self.directive(&token)?,
                Kind::Number => self.out += &number(token.text, self.target.is_double()),
                Kind::Identifier => {
                    self.refuse(i)?;
                    self.note_valueless(i, range.end);
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
                    if self.target.is_host()
                        && let Some(next) = self.loop_head(i, range.end, &mut parentheses)
                    {
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
                                let _ = write!(self.out, "metal::site<{number}>()");
                            }
                            parentheses.push(if empty { Close::Plain } else { Close::Site(number) });
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
                    parentheses.push(Close::Plain);
                    self.out.push('(');
                }
                Kind::Punctuation if token.is(')') => {
                    match parentheses.pop() {
                        Some(Close::Site(site)) => {
                            let _ = write!(self.out, ", metal::site<{site}>()");
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
                    self.out.push('}');
                }
                _ => self.out += token.text,
            }
            i += 1;
        }
        Ok(())
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

    /// Whether the token is a member's name, after `.` or `->`.
    pub(super) fn is_member(&self, i: usize) -> bool {
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
mod tests {
    use super::*;

    fn body(text: &str) -> Result<String, String> {
        rewrite(&Source::new("k.metal", text), Target::Host { arms: true, double: false }, false, &mut Vec::new())
            .map_err(|e| e.to_string())
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
    fn loops_count_their_turns() {
        for (metal, host) in [
            ("while (a) b;", "while (metal::turn() && (a)) b;"),
            ("do a; while (f(b));", "do a; while (metal::turn() && (f(b)));"),
            ("for (;;) a;", "for (;; metal::turn()) a;"),
            ("for (int i = 0; i < f(1); ++i) a;", "for (int i = 0; i < f(1); metal::turn(), ++i) a;"),
            ("#define F while (a)", "#define F while (metal::turn() && (a))"),
        ] {
            assert_eq!(body(metal).unwrap(), host);
        }
    }

    #[test]
    fn arms_meet_in_one_type() {
        let arm = "metal::arm<decltype( a ), decltype( b)>";
        assert_eq!(body("c ? a : b;").unwrap(), format!("c ? {arm}( a ) : {arm}( b);"));
        for (text, count) in [
            ("c ? d::e : f<g, h>(i), j;", 2),
            ("(c ? a : b) + 1;", 2),
            ("case 1: c ? a : b;", 2),
            ("c ? a : d ? e : f;", 8),
            ("c ? d ? e : f : a;", 8),
        ] {
            assert_eq!(body(text).unwrap().matches("metal::arm").count(), count, "{text}");
        }
    }

    #[test]
    fn variables_without_a_value_are_named() {
        let names_of = |text: &str| -> Vec<String> {
            let after = body(text).unwrap();
            after
                .split("metal::unset(")
                .skip(1)
                .map(|t| t.split("_unset_").next().unwrap_or_default().to_owned())
                .collect()
        };
        for (text, names) in [
            ("float m;", &["m"][..]),
            ("float a[4], b = 1, c[2][N + 1];", &["a", "c"]),
            ("vec<float, 4> v; metal::half h;", &["v", "h"]),
            ("unsigned int n; unsigned k;", &["n", "k"]),
            ("if (a) { T x; } else { T y; }", &["x", "y"]),
            ("thread float* p;", &["p"]),
            ("tile<T, 16, 16> held[WIDE / 16];", &["held"]),
            ("struct P { float m; int n; }; P p;", &["p"]),
            ("float a = 1; float b(2); const int c{3}; auto d = e;", &[]),
            ("return x; using U = int; typedef float F; a * b; f(x); a = b; i < n; x[i] = y;", &[]),
            ("for (int i = 0, j; i < n; ++i) {}", &[]),
            ("threadgroup float s[4]; device float* q = x;", &[]),
        ] {
            assert_eq!(names_of(text), names, "{text}");
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
    fn threadgroup_objects_and_pointers_are_distinguished() {
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
