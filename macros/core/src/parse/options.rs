//! The one parser of attribute options, so that every unknown, repeated or contradictory option meets the same error.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Expr, Ident, Lit, LitStr, Path, Token, UnOp, bracketed, parenthesized};

use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::model::kernel::GpuBackend;
use cotangent_metal::names::nearest;

/// The attribute that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute {
    /// `#[differentiable(..)]`
    Differentiable,
    /// `#[stage(..)]`
    Stage,
}

impl Attribute {
    fn name(self) -> &'static str {
        match self {
            Self::Differentiable => "#[differentiable]",
            Self::Stage => "#[stage]",
        }
    }

    fn allowed(self) -> &'static [&'static str] {
        const LAUNCH: &[&str] = &[
            "grid",
            "threads",
            "dims",
            "cases",
            "requires",
            "headers",
            "init",
            "atomic",
            "nondeterministic",
            "strided",
            "untested",
            "crate",
        ];
        const ALL: &[&str] = &[
            "backward",
            "backward_of",
            "fallback",
            "fallback_on",
            "expensive",
            "inference_only",
            "ignores",
            "stages",
            "grid",
            "threads",
            "dims",
            "cases",
            "requires",
            "headers",
            "init",
            "atomic",
            "nondeterministic",
            "strided",
            "untested",
            "crate",
        ];
        match self {
            Self::Differentiable => ALL,
            Self::Stage => LAUNCH,
        }
    }

    fn list(self) -> String {
        let names: Vec<String> = self.allowed().iter().map(|name| format!("`{name}`")).collect();
        format!("use each of the options of {} at most once: {}", self.name(), names.join(", "))
    }
}

/// Options without which the rest of a declaration cannot be judged.
const DECISIVE: &[&str] = &[
    "backward",
    "backward_of",
    "fallback",
    "inference_only",
    "ignores",
    "stages",
    "cases",
    "dims",
    "grid",
    "threads",
    "atomic",
    "init",
];

/// Pairs that exclude each other, each with the reason.
const CONTRADICTIONS: &[(&str, &str, &str)] = &[
    ("inference_only", "backward", "an inference-only kernel has no gradient"),
    ("inference_only", "fallback", "an inference-only kernel has no gradient"),
    ("inference_only", "fallback_on", "an inference-only kernel has no fallback"),
    ("inference_only", "expensive", "nothing of it is computed again in a backward pass"),
    ("inference_only", "backward_of", "a backward runs in training only"),
    ("backward_of", "backward", "a gradient has no gradient of its own"),
    ("backward_of", "fallback", "a gradient has no gradient of its own"),
    ("backward_of", "fallback_on", "where its forward's fallback runs, that has its own gradient"),
    ("backward_of", "expensive", "a gradient is computed once"),
    ("backward_of", "requires", "a backward runs at the sizes that its forward requires"),
    ("backward_of", "cases", "a backward is tested at the cases of its forward"),
    ("backward_of", "untested", "a backward is tested with its forward, or left out with it"),
];

/// Options that are nothing without another, each with the reason.
const NEEDS: &[(&str, &str, &str)] = &[
    ("ignores", "backward_of", "only a backward has cotangents to ignore"),
    ("fallback_on", "fallback", "there is nothing else that could run on those backends"),
];

/// The options as written; absent ones are `None`.
#[derive(Default)]
pub struct Options {
    /// `backward = path`
    pub backward: Option<Path>,
    /// `backward_of = path`
    pub backward_of: Option<Path>,
    /// `fallback = path`
    pub fallback: Option<Path>,
    /// `fallback_on = [cuda]`
    pub fallback_on: Vec<GpuBackend>,
    /// `expensive`
    pub expensive: Option<Span>,
    /// `inference_only = "reason"`
    pub inference_only: Option<LitStr>,
    /// `untested = "reason"`
    pub untested: Option<LitStr>,
    /// `ignores(y, z)`
    pub ignores: Vec<Ident>,
    /// `stages = [a, b]`
    pub stages: Vec<Path>,
    /// `grid = (x, y, z)`
    pub grid: Option<(Vec<Expr>, Span)>,
    /// `threads = (x, y, z)`
    pub threads: Option<(Vec<Expr>, Span)>,
    /// `dims = [CHUNKS = ceil_div(T, C), ..]`
    pub dims: Vec<(Ident, Expr)>,
    /// `cases = [(B = 1, ..), ..]`
    pub cases: Option<(Vec<CaseSyntax>, Span)>,
    /// `requires = [D % 16 == 0, ..]`
    pub requires: Vec<Expr>,
    /// `headers = [A, B]`
    pub headers: Vec<Path>,
    /// `init = 0.0`
    pub init: Option<f32>,
    /// `atomic`
    pub atomic: Option<Span>,
    /// `nondeterministic`
    pub nondeterministic: Option<Span>,
    /// `strided`
    pub strided: Option<Span>,
    /// `crate = path`
    pub root: Option<Path>,
    /// Whether an option that decides what the rest means could not be read, and was reported.
    pub is_partial: bool,
    given: Vec<(String, Span)>,
}

/// One case: names and literal values.
pub struct CaseSyntax {
    /// The names and values, as written.
    pub values: Vec<(Ident, i64)>,
    /// The place where the case is written.
    pub span: Span,
}

impl Options {
    /// Reads the tokens between the brackets of an attribute. Reports every mistake and keeps what it could read.
    pub fn read(attribute: Attribute, tokens: TokenStream, diagnostics: &mut Diagnostics) -> Self {
        let mut options = Self::default();
        for tokens in split_at_commas(tokens) {
            let mut first = None;
            let mut near = None;
            let parsed = Parser::parse2(
                |input: ParseStream<'_>| {
                    let name = input.call(Ident::parse_any)?;
                    let text = name.to_string();
                    first = Some(name.clone());
                    if !attribute.allowed().contains(&text.as_str()) {
                        let _ignored: TokenStream = input.parse()?;
                        near = nearest(&text, attribute.allowed().iter().copied(), text.len().min(9) / 3);
                        return Err(syn::Error::new(name.span(), format!("unknown option `{text}`")));
                    }
                    if options.was_given(&text) {
                        let _ignored: TokenStream = input.parse()?;
                        return Err(syn::Error::new(name.span(), format!("option `{text}` is repeated")));
                    }
                    options.given.push((text.clone(), name.span()));
                    options.read_value(&text, name.span(), input)
                },
                tokens,
            );
            if let Err(error) = parsed {
                let listed = error.to_string();
                let about_the_name = listed.starts_with("unknown option") || listed.ends_with("is repeated");
                let help = match (&first, near) {
                    (Some(name), _) if !about_the_name => form(&name.to_string()).to_owned(),
                    (_, Some(near)) => format!("write `{near}`"),
                    _ => attribute.list(),
                };
                // If a required option is misspelt, it is not reported as missing too.
                let meant = near.map(str::to_owned).or_else(|| first.as_ref().map(Ident::to_string));
                options.is_partial |= meant.is_some_and(|meant| DECISIVE.contains(&meant.as_str()));
                diagnostics.push(Diagnostic::from(error).help(help));
            }
        }
        options.check_contradictions(attribute, diagnostics);
        options
    }

    /// Returns where an option's name is written.
    pub fn span_of(&self, name: &str) -> Option<Span> {
        self.given.iter().find(|(given, _)| given == name).map(|(_, span)| *span)
    }

    fn was_given(&self, name: &str) -> bool {
        self.span_of(name).is_some()
    }

    fn check_contradictions(&self, attribute: Attribute, diagnostics: &mut Diagnostics) {
        let mut reported = Vec::new();
        for (left, right, reason) in CONTRADICTIONS {
            // An option that excludes several others is one mistake.
            if let (Some(_), Some(span), false) = (self.span_of(left), self.span_of(right), reported.contains(left)) {
                reported.push(*left);
                diagnostics.push(
                    Diagnostic::new(span, format!("options `{left}` and `{right}` contradict each other: {reason}"))
                        .help(attribute.list()),
                );
            }
        }
        for (option, needed, reason) in NEEDS {
            // A contradiction with the needed option was already reported.
            let contradicted = CONTRADICTIONS.iter().any(|(left, right, _)| right == option && self.was_given(left));
            if let (Some(span), None, false) = (self.span_of(option), self.span_of(needed), contradicted) {
                diagnostics.push(
                    Diagnostic::new(span, format!("option `{option}` needs `{needed}`: {reason}"))
                        .help(attribute.list()),
                );
            }
        }
    }

    fn read_value(&mut self, name: &str, span: Span, input: ParseStream<'_>) -> syn::Result<()> {
        let value = |input: ParseStream<'_>| input.parse::<Token![=]>().map(drop);
        match name {
            "expensive" => self.expensive = Some(span),
            "atomic" => self.atomic = Some(span),
            "nondeterministic" => self.nondeterministic = Some(span),
            "strided" => self.strided = Some(span),
            "ignores" => {
                let content;
                parenthesized!(content in input);
                self.ignores = Punctuated::<Ident, Token![,]>::parse_terminated(&content)?.into_iter().collect();
            }
            _ => {
                value(input)?;
                match name {
                    "backward" => self.backward = Some(read_path(input)?),
                    "backward_of" => self.backward_of = Some(read_path(input)?),
                    "fallback" => self.fallback = Some(read_path(input)?),
                    "crate" => self.root = Some(read_path(input)?),
                    "inference_only" => self.inference_only = Some(read_reason(input)?),
                    "untested" => self.untested = Some(read_reason(input)?),
                    "stages" => self.stages = read_list(input)?,
                    "headers" => self.headers = read_list(input)?,
                    "fallback_on" => self.fallback_on = read_backends(input)?,
                    "requires" => self.requires = read_requirements(input)?,
                    "grid" => self.grid = Some((read_extents(input)?, span)),
                    "threads" => self.threads = Some((read_extents(input)?, span)),
                    "init" => self.init = Some(read_number(&input.parse()?)? as f32),
                    "dims" => self.dims = read_dims(input)?,
                    "cases" => self.cases = Some((read_cases(input)?, span)),
                    _ => return Err(syn::Error::new(span, format!("unknown option `{name}`"))),
                }
            }
        }
        if input.is_empty() { Ok(()) } else { Err(input.error(format!("option `{name}` has ended here"))) }
    }
}

/// Returns how an option is written.
fn form(name: &str) -> &'static str {
    match name {
        "backward" => "write `backward = path::to::kernel`",
        "backward_of" => "write `backward_of = path::to::kernel`",
        "fallback" => "write `fallback = path::to::function`; a closure could capture arrays, which get no gradient",
        "fallback_on" => {
            "write `fallback_on = [metal]`, `[cuda]` or both: the backends on which the fallback was faster"
        }
        "requires" => {
            "write `requires = [D % 16 == 0, D <= 256]`: comparisons of dimensions and template constants, each with one \
             of `==`, `!=`, `<`, `<=`, `>`, `>=`"
        }
        "crate" => "write `crate = path::to::cotangent`",
        "inference_only" => "write `inference_only = \"why it has no gradient\"`",
        "untested" => "write `untested = \"why it has no generated test\"`",
        "ignores" => "write `ignores(output, ..)`",
        "stages" => "write `stages = [path, ..]`",
        "headers" => "write `headers = [PATH_OF_A_CONSTANT, ..]`",
        "grid" => "write `grid = (x, y, z)`: the threads of the whole launch",
        "threads" => "write `threads = (x, y, z)`: the threads of one threadgroup",
        "dims" => "write `dims = [CHUNKS = ceil_div(T, C), ..]`: names for expressions that the declaration repeats",
        "init" => "write `init = 0.0`",
        "cases" => "write `cases = [(B = 1, S = 7), ..]`",
        _ => "write its name alone",
    }
}

fn split_at_commas(tokens: TokenStream) -> Vec<TokenStream> {
    let mut parts = vec![TokenStream::new()];
    for token in tokens {
        match &token {
            TokenTree::Punct(punct) if punct.as_char() == ',' => parts.push(TokenStream::new()),
            _ => parts.last_mut().expect("there is always a last part").extend([token]),
        }
    }
    // `fallback = |x| ..` or a turbofish may hold commas; both are refused with the first part.
    parts.retain(|part| !part.is_empty());
    parts
}

fn read_path(input: ParseStream<'_>) -> syn::Result<Path> {
    // `parse_any` would accept keywords as a path; `crate::x`, `self::x` and `super::x` are read by syn itself.
    let path: Path = input.parse().map_err(|error| syn::Error::new(error.span(), "expected a path"))?;
    if let Some(segment) = path.segments.iter().find(|segment| !segment.arguments.is_none()) {
        return Err(syn::Error::new(segment.arguments.span(), "expected a path without arguments"));
    }
    Ok(path)
}

pub(super) fn read_reason(input: ParseStream<'_>) -> syn::Result<LitStr> {
    let reason: LitStr = input.parse()?;
    if reason.value().trim().is_empty() {
        return Err(syn::Error::new(reason.span(), "an empty reason explains nothing"));
    }
    Ok(reason)
}

fn read_list(input: ParseStream<'_>) -> syn::Result<Vec<Path>> {
    let content;
    bracketed!(content in input);
    Ok(Punctuated::<Path, Token![,]>::parse_terminated(&content)?.into_iter().collect())
}

fn read_backends(input: ParseStream<'_>) -> syn::Result<Vec<GpuBackend>> {
    let content;
    let bracket = bracketed!(content in input);
    let names: Vec<Ident> = Punctuated::<Ident, Token![,]>::parse_terminated(&content)?.into_iter().collect();
    if names.is_empty() {
        return Err(syn::Error::new(bracket.span.join(), "this list names no backend"));
    }
    let mut backends = Vec::new();
    for name in names {
        let Some(backend) = GpuBackend::named(&name.to_string()) else {
            return Err(syn::Error::new(name.span(), format!("`{name}` is no backend that could run the kernel")));
        };
        if backends.contains(&backend) {
            return Err(syn::Error::new(name.span(), format!("backend `{name}` is named twice")));
        }
        backends.push(backend);
    }
    Ok(backends)
}

/// Names with their expressions; what stands in these is resolved with the dimensions.
fn read_dims(input: ParseStream<'_>) -> syn::Result<Vec<(Ident, Expr)>> {
    let content;
    bracketed!(content in input);
    let one = |input: ParseStream<'_>| {
        let name = input.parse::<Ident>()?;
        input.parse::<Token![=]>()?;
        Ok((name, input.parse::<Expr>()?))
    };
    Ok(content.parse_terminated(one, Token![,])?.into_iter().collect())
}

/// Comparisons; what stands in them is resolved with the dimensions.
fn read_requirements(input: ParseStream<'_>) -> syn::Result<Vec<Expr>> {
    let content;
    let bracket = bracketed!(content in input);
    let requirements: Vec<Expr> = Punctuated::<Expr, Token![,]>::parse_terminated(&content)?.into_iter().collect();
    if requirements.is_empty() {
        return Err(syn::Error::new(bracket.span.join(), "this list requires nothing"));
    }
    Ok(requirements)
}

fn read_extents(input: ParseStream<'_>) -> syn::Result<Vec<Expr>> {
    let content;
    let parenthesis = parenthesized!(content in input);
    let extents: Vec<Expr> = Punctuated::<Expr, Token![,]>::parse_terminated(&content)?.into_iter().collect();
    if extents.len() == 3 {
        Ok(extents)
    } else {
        let message = format!("expected three extents, found {}", extents.len());
        Err(syn::Error::new(parenthesis.span.join(), message))
    }
}

fn read_cases(input: ParseStream<'_>) -> syn::Result<Vec<CaseSyntax>> {
    let content;
    bracketed!(content in input);
    let mut cases = Vec::new();
    while !content.is_empty() {
        let values;
        let parenthesis = parenthesized!(values in content);
        let mut case = CaseSyntax { values: Vec::new(), span: parenthesis.span.join() };
        while !values.is_empty() {
            let name: Ident = values.parse()?;
            values.parse::<Token![=]>()?;
            case.values.push((name, read_case_value(&values)?));
            if !values.is_empty() {
                values.parse::<Token![,]>()?;
            }
        }
        cases.push(case);
        if !content.is_empty() {
            content.parse::<Token![,]>()?;
        }
    }
    Ok(cases)
}

fn read_case_value(input: ParseStream<'_>) -> syn::Result<i64> {
    let negative = input.parse::<Option<Token![-]>>()?.is_some();
    match input.parse::<Lit>()? {
        Lit::Int(value) => value.base10_parse::<i64>().map(|value| if negative { -value } else { value }),
        Lit::Bool(value) if !negative => Ok(i64::from(value.value)),
        other => Err(syn::Error::new(other.span(), "expected an integer or a bool")),
    }
}

/// Reads a literal number with an optional sign.
pub fn read_number(expression: &Expr) -> syn::Result<f64> {
    match expression {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(value) => value.base10_parse(),
            Lit::Float(value) => value.base10_parse(),
            _ => Err(syn::Error::new(expression.span(), "expected a number")),
        },
        Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_)) => read_number(&unary.expr).map(|value| -value),
        Expr::Paren(inner) => read_number(&inner.expr),
        Expr::Group(inner) => read_number(&inner.expr),
        _ => Err(syn::Error::new(expression.span(), "expected a number")),
    }
}

/// A path as tokens.
pub fn tokens(path: &Path) -> TokenStream {
    path.to_token_stream()
}
