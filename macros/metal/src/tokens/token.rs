//! Kernel text as a tree of tokens, whether it came as tokens of Rust or was lexed from a file.

use std::iter::Peekable;

use proc_macro2::{Delimiter, Group, Spacing, Span, TokenStream, TokenTree, token_stream};

/// The place of a token.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    /// A place in the Rust source.
    Span(Span),
    /// A place in a file of its own: the line and the column, both from 1, and the number of characters.
    File {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
        /// The characters.
        length: usize,
    },
}

/// One token.
#[derive(Debug, Clone)]
pub struct Token {
    /// The kind of the token.
    pub kind: Kind,
    /// Whether it is punctuation that the next punctuation follows without a blank: `- -x` is no `--x`.
    pub joint: bool,
    /// The place of the token.
    pub place: Place,
    /// The line on which it begins, lines that `\` continues counted as one.
    pub line: usize,
    /// The line on which it ends.
    pub end_line: usize,
}

/// The kinds of token.
#[derive(Debug, Clone)]
pub enum Kind {
    /// An identifier or keyword.
    Name(String),
    /// One character of punctuation.
    Punct(char),
    /// A number, string or character.
    Literal(String),
    /// Brackets and what they hold.
    Group(Bracket, Vec<Token>),
    /// The part behind `#else` or `#elif`: an alternative to the tokens before it, in which brackets need not match.
    Branch(Vec<Token>),
}

/// The kinds of brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bracket {
    /// `( )`
    Parenthesis,
    /// `[ ]`
    Square,
    /// `{ }`
    Brace,
}

/// A name in a text, and where it stands.
#[derive(Debug, Clone)]
pub struct Name {
    /// The name.
    pub text: String,
    /// The place of the name.
    pub place: Place,
}

impl Token {
    /// The name, if the token is one.
    pub fn name(&self) -> Option<&str> {
        match &self.kind {
            Kind::Name(name) => Some(name),
            _ => None,
        }
    }

    /// The name with its place, if the token is one.
    pub fn to_name(&self) -> Option<Name> {
        self.name().map(|text| Name { text: text.to_owned(), place: self.place })
    }

    /// A token without meaning at the same place.
    pub(super) fn clone_place(&self) -> Token {
        Token { kind: Kind::Punct(' '), joint: false, place: self.place, line: self.line, end_line: self.end_line }
    }

    /// Returns whether it is this character.
    pub fn is(&self, character: char) -> bool {
        matches!(self.kind, Kind::Punct(found) if found == character)
    }
}

impl Bracket {
    /// Returns the characters that open and close the bracket.
    pub fn characters(self) -> (char, char) {
        match self {
            Self::Parenthesis => ('(', ')'),
            Self::Square => ('[', ']'),
            Self::Brace => ('{', '}'),
        }
    }
}

/// The tokens of Rust's lexer. Groups without brackets, which macros leave behind, are opened; comments, which Rust makes
/// attributes of, are left out.
pub fn from_rust(stream: TokenStream) -> Vec<Token> {
    let mut tokens = Vec::new();
    collect(stream, &mut tokens);
    tokens
}

fn collect(stream: TokenStream, tokens: &mut Vec<Token>) {
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        let span = tree.span();
        let mut joint = false;
        let kind = match tree {
            TokenTree::Ident(name) => Kind::Name(name.to_string()),
            TokenTree::Punct(punct) => {
                if punct.as_char() == '#' && next_comment(&mut trees).is_some() {
                    continue;
                }
                joint = punct.spacing() == Spacing::Joint;
                Kind::Punct(punct.as_char())
            }
            TokenTree::Literal(literal) => Kind::Literal(literal.to_string()),
            TokenTree::Group(group) => {
                let bracket = match group.delimiter() {
                    Delimiter::Parenthesis => Bracket::Parenthesis,
                    Delimiter::Bracket => Bracket::Square,
                    Delimiter::Brace => Bracket::Brace,
                    Delimiter::None => {
                        collect(group.stream(), tokens);
                        continue;
                    }
                };
                Kind::Group(bracket, from_rust(group.stream()))
            }
        };
        let (line, end_line) = (span.start().line, span.end().line);
        tokens.push(Token { kind, joint, place: Place::Span(span), line, end_line });
    }
}

/// Takes the rest of a comment behind its `#`: `///` arrives as `#[doc = " text"]`, `//!` as `#![doc = " text"]`.
pub(super) fn next_comment(trees: &mut Peekable<token_stream::IntoIter>) -> Option<Comment> {
    let mut ahead = trees.clone();
    let mut inner = false;
    if matches!(ahead.peek(), Some(TokenTree::Punct(punct)) if punct.as_char() == '!') {
        ahead.next();
        inner = true;
    }
    let Some(TokenTree::Group(group)) = ahead.next() else { return None };
    let text = comment_text(&group)?;
    *trees = ahead;
    Some(Comment { text, span: group.span(), inner })
}

/// A comment that Rust made an attribute of.
pub(super) struct Comment {
    pub(super) text: String,
    pub(super) span: Span,
    /// `//!` instead of `///`
    pub(super) inner: bool,
}

fn comment_text(group: &Group) -> Option<String> {
    if group.delimiter() != Delimiter::Bracket {
        return None;
    }
    let mut inner = group.stream().into_iter();
    let is_doc = matches!(inner.next(), Some(TokenTree::Ident(name)) if name == "doc");
    let is_value = matches!(inner.next(), Some(TokenTree::Punct(punct)) if punct.as_char() == '=');
    match (is_doc && is_value, inner.next(), inner.next()) {
        (true, Some(TokenTree::Literal(text)), None) => {
            Some(syn::parse_str::<syn::LitStr>(&text.to_string()).ok()?.value())
        }
        _ => None,
    }
}

/// Every name in `tokens`, those in groups and branches included.
pub fn names(tokens: &[Token]) -> Vec<&str> {
    let mut found = Vec::new();
    for token in tokens {
        match &token.kind {
            Kind::Name(name) => found.push(name.as_str()),
            Kind::Group(_, inner) | Kind::Branch(inner) => found.extend(names(inner)),
            Kind::Punct(_) | Kind::Literal(_) => {}
        }
    }
    found
}

/// The tokens as text, one space between each two.
pub fn join(tokens: &[Token]) -> String {
    let texts = tokens.iter().map(|token| match &token.kind {
        Kind::Name(text) | Kind::Literal(text) => text.clone(),
        Kind::Punct(character) => character.to_string(),
        Kind::Group(bracket, inner) => {
            let (open, close) = bracket.characters();
            format!("{open}{}{close}", join(inner))
        }
        Kind::Branch(inner) => join(inner),
    });
    texts.collect::<Vec<_>>().join(" ")
}
