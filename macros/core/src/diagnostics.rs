//! Errors are collected while a declaration is read and reported together.

use cotangent_metal::tokens::text::Text;
use cotangent_metal::tokens::token::Place;
use std::collections::HashSet;

use proc_macro2::{Span, TokenStream};

use crate::catalogue::Code;

/// One mistake: where it is, what was found, and what to do about it.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    code: Option<Code>,
    message: String,
    span: Span,
    excerpt: Option<String>,
    help: Option<String>,
    related: Vec<(Span, String)>,
}

impl Diagnostic {
    /// A mistake that has no entry in the catalogue: the declaration cannot be read.
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Self { code: None, message: message.into(), span, excerpt: None, help: None, related: Vec::new() }
    }

    /// One of the failures of the catalogue.
    pub fn coded(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self { code: Some(code), ..Self::new(span, message) }
    }

    /// A mistake at a place in a kernel's source; of a file that is not Rust it shows the line, as the compiler does not.
    pub fn in_text(text: &Text, code: Option<Code>, place: Place, message: impl Into<String>) -> Self {
        let (span, excerpt) = text.shown(place);
        Self { code, excerpt, ..Self::new(span, message) }
    }

    /// Adds what to do; starts with a verb.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds a second place that takes part in the mistake. It is shown as an error of its own, because stable
    /// procedural macros cannot attach notes to other spans.
    pub fn related(mut self, span: Span, message: impl Into<String>) -> Self {
        self.related.push((span, message.into()));
        self
    }

    /// The catalogue's code, if the mistake has one.
    pub fn code(&self) -> Option<Code> {
        self.code
    }

    /// The whole text as the compiler will show it.
    pub fn text(&self) -> String {
        let mut text = self.message.clone();
        if let Some(code) = self.code {
            text.push_str(&format!(" [{code}]"));
        }
        if let Some(excerpt) = &self.excerpt {
            text.push_str(&format!("\n{excerpt}"));
        }
        let page = self.code.map(|code| format!("see `{}`", code.page()));
        let help: Vec<&str> = self.help.as_deref().into_iter().chain(page.as_deref()).collect();
        if !help.is_empty() {
            text.push_str(&format!("\nhelp: {}", help.join("; ")));
        }
        text
    }

    fn to_compile_error(&self) -> TokenStream {
        let mut error = syn::Error::new(self.span, self.text());
        for (span, message) in &self.related {
            error.combine(syn::Error::new(*span, message));
        }
        error.to_compile_error()
    }
}

impl From<syn::Error> for Diagnostic {
    fn from(error: syn::Error) -> Self {
        Self::new(error.span(), error.to_string())
    }
}

/// The mistakes found so far. Must be turned into tokens or an answer with [`Diagnostics::finish`]: in builds with debug
/// assertions, dropping it unread is a bug that shows at once.
#[derive(Debug, Default)]
#[must_use = "collected mistakes have to be reported"]
pub struct Diagnostics {
    found: Vec<Diagnostic>,
    finished: bool,
}

impl Diagnostics {
    /// Starts with no mistake.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a mistake and goes on.
    pub fn push(&mut self, diagnostic: impl Into<Diagnostic>) {
        self.found.push(diagnostic.into());
    }

    /// Keeps the value of a result, or its error.
    pub fn keep<T, E: Into<Diagnostic>>(&mut self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    /// Returns whether nothing was found yet.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Returns the number of mistakes found.
    pub fn count(&self) -> usize {
        self.found.len()
    }

    /// Hands over everything found. What is said of several places in the same words is said of the first alone.
    pub fn finish(mut self) -> Vec<Diagnostic> {
        self.finished = true;
        let mut said = HashSet::new();
        std::mem::take(&mut self.found).into_iter().filter(|diagnostic| said.insert(diagnostic.text())).collect()
    }
}

impl Drop for Diagnostics {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            debug_assert!(self.finished, "mistakes were collected and not reported: {:?}", self.found);
        }
    }
}

/// The `compile_error!` items that show `diagnostics` in the order in which they were found.
pub fn compile_errors(diagnostics: &[Diagnostic]) -> TokenStream {
    diagnostics.iter().map(Diagnostic::to_compile_error).collect()
}
