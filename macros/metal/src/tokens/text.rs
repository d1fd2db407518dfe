//! The source of a kernel, inside a macro or in a file of its own.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use proc_macro2::{Literal, Span, TokenStream};
use syn::LitStr;

use super::lexer::{self, Fault};
use super::print;
use super::token::{self, Place, Token};

/// The source of one launch for one target.
#[derive(Debug, Clone)]
pub struct Text {
    /// The source for a GPU compiler.
    pub content: String,
    /// The source as tokens.
    pub tokens: Vec<Token>,
    /// Whether all of the source could be read. What was not found may otherwise be in the missing part.
    pub is_whole: bool,
    /// The origin of the source.
    pub origin: Origin,
}

/// The origin of a source.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Tokens of a macro, the first of them here.
    Macro(Span),
    /// A file.
    File {
        /// The path as written, relative to the Rust file.
        written: Literal,
        /// The path as the compiler would show it.
        shown: String,
    },
}

thread_local! {
    static FILE: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Calls `run` for a declaration that stands in `file`. Programs that parse sources themselves need this to expand kernels
/// whose text is in a file of its own: their tokens, unlike the compiler's, do not know where they are from.
pub fn in_file<R>(file: &Path, run: impl FnOnce() -> R) -> R {
    /// Puts the last file back, also when `run` panics.
    struct Restore(Option<PathBuf>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let last = self.0.take();
            FILE.with(|known| *known.borrow_mut() = last);
        }
    }
    let _restore = Restore(FILE.with(|known| known.borrow_mut().replace(file.to_owned())));
    run()
}

impl Text {
    /// The text inside `metal! { .. }`; `span` is where it begins.
    pub fn from_macro(tokens: &TokenStream, span: Span) -> Self {
        Self {
            content: print::print(tokens),
            tokens: token::from_rust(tokens.clone()),
            is_whole: true,
            origin: Origin::Macro(span),
        }
    }

    /// The text in the file that `written` names, relative to the Rust file it stands in, and what is wrong with it.
    pub fn from_file(written: &LitStr) -> (Self, Vec<Fault>) {
        let rust = written.span().local_file().or_else(|| FILE.with(|file| file.borrow().clone()));
        let folder = rust.as_deref().and_then(Path::parent);
        let relative = written.value();
        let shown = folder.map_or_else(|| relative.clone(), |folder| folder.join(&relative).display().to_string());
        let mut text = Self {
            content: String::new(),
            tokens: Vec::new(),
            is_whole: false,
            origin: Origin::File { written: written.token(), shown: shown.clone() },
        };
        let fault = |message, help| vec![Fault { place: Place::Span(written.span()), message, help }];
        let Some(folder) = folder else {
            let message = format!("what file this stands in is not known here, so `{relative}` cannot be found");
            let help = "build with cargo: an editor that expands macros by itself may not tell them their file";
            return (text, fault(message, help));
        };
        if relative.is_empty() || Path::new(&relative).is_absolute() {
            let help = "write the path of the text as seen from this file: `metal_file!(\"name.metal\")`";
            return (text, fault(format!("`{relative}` is no relative path"), help));
        }
        match std::fs::read_to_string(folder.join(&relative)) {
            Ok(content) => text.content = content,
            Err(error) => {
                let help = "put the text there, or write its path as seen from this file";
                return (text, fault(format!("cannot read `{shown}`: {error}"), help));
            }
        }
        let (tokens, faults) = lexer::lex(&text.content);
        text.tokens = tokens;
        text.is_whole = faults.is_empty();
        (text, faults)
    }

    /// Returns where in the Rust file a place in this text is shown, and for a text in a file of its own the line
    /// there, marked as the compiler marks its own.
    pub fn shown(&self, place: Place) -> (Span, Option<String>) {
        match (place, &self.origin) {
            (Place::Span(span), _) => (span, None),
            (Place::File { .. }, Origin::Macro(span)) => (*span, None),
            (Place::File { line, column, length }, Origin::File { written, shown }) => {
                (written.span(), Some(self.excerpt(shown, line, column, length)))
            }
        }
    }

    /// Every name in it.
    pub fn names(&self) -> Vec<&str> {
        token::names(&self.tokens)
    }

    /// The place and the line, marked as the compiler marks its own.
    fn excerpt(&self, file: &str, line: usize, column: usize, length: usize) -> String {
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        // Tabs are kept, so that they are as wide under the mark as in the line.
        let text = self.content.lines().nth(line - 1).unwrap_or_default();
        let before: String =
            text.chars().take(column - 1).map(|character| if character == '\t' { '\t' } else { ' ' }).collect();
        let mark = "^".repeat(length);
        format!("at {file}:{line}:{column}\n{margin} |\n{number} | {text}\n{margin} | {before}{mark}")
    }
}
