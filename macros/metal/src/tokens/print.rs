//! Prints kernel tokens as text with the author's layout, so that lines and columns in a GPU compiler's messages fit.

use proc_macro2::{Delimiter, LineColumn, Spacing, Span, TokenStream, TokenTree};

use super::token::{Comment, next_comment};

/// The text of `tokens`. Comments are gone (Rust drops them), `///` comments come back as `//`; where positions jump, as
/// in tokens that a macro made, tokens are set apart by one space.
pub fn print(tokens: &TokenStream) -> String {
    let mut printer = Printer { text: String::new(), position: None, base: 0, glued: false };
    printer.stream(tokens.clone());
    printer.text
}

struct Printer {
    text: String,
    /// The place where the last token ended.
    position: Option<LineColumn>,
    /// Column of the first token: it becomes the left margin.
    base: usize,
    /// Whether the last token was punctuation that belongs to the next one.
    glued: bool,
}

impl Printer {
    fn stream(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Punct(punct) => {
                    if punct.as_char() == '#'
                        && let Some(comment) = next_comment(&mut tokens)
                    {
                        let next = tokens.peek().map(|token| token.span().start().line);
                        self.comment(comment, next);
                        continue;
                    }
                    self.token(punct.span(), &punct.as_char().to_string());
                    self.glued = punct.spacing() == Spacing::Joint;
                }
                TokenTree::Group(group) => {
                    let (open, close) = match group.delimiter() {
                        Delimiter::Parenthesis => ("(", ")"),
                        Delimiter::Brace => ("{", "}"),
                        Delimiter::Bracket => ("[", "]"),
                        Delimiter::None => ("", ""),
                    };
                    self.token(group.span_open(), open);
                    self.stream(group.stream());
                    self.token(group.span_close(), close);
                }
                TokenTree::Ident(ident) => self.token(ident.span(), &ident.to_string()),
                TokenTree::Literal(literal) => self.token(literal.span(), &literal.to_string()),
            }
        }
    }

    fn token(&mut self, span: Span, text: &str) {
        if text.is_empty() {
            return;
        }
        let (start, end) = (span.start(), span.end());
        match self.position {
            None => {
                if self.text.is_empty() {
                    self.base = start.column;
                } else {
                    self.indent(start.column);
                }
            }
            Some(position) if start.line > position.line => {
                for _ in position.line..start.line {
                    self.text.push('\n');
                }
                self.indent(start.column);
            }
            // A token without extent has no position of its own, because a macro made it.
            Some(position) if start.line == position.line && start.column >= position.column && start != end => {
                self.text.extend(std::iter::repeat_n(' ', start.column - position.column));
            }
            // A position that runs backwards is no use for spacing.
            Some(_) if !self.glued => self.text.push(' '),
            Some(_) => {}
        }
        self.text.push_str(text);
        self.position = Some(end);
        self.glued = false;
    }

    /// A comment before a token of the line `next`. Where both share a line it has an end.
    fn comment(&mut self, Comment { text, span, inner }: Comment, next: Option<usize>) {
        let mark = if inner { "!" } else { "" };
        let shares = next == Some(span.end().line) && span.start() != span.end();
        if shares || text.contains('\n') {
            self.token(span, &format!("/*{mark}{}*/", text.replace("*/", "* /")));
        } else {
            self.token(span, &format!("//{mark}{text}"));
            self.text.push('\n');
            self.position = None;
        }
    }

    fn indent(&mut self, column: usize) {
        self.text.extend(std::iter::repeat_n(' ', column.saturating_sub(self.base)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_keeps_its_layout() {
        for text in [
            "uint i = thread_position_in_grid.x;\nif (i >= N) {\n    return;\n}\n\ny[i] = x[i] * 2.0f;",
            "threadgroup float part[256];\n#pragma unroll\nfor (int k = 0; k < 4; ++k) part[k] += a->b << 2;",
            "float v = static_cast<float>(x[i] & 0x7fu) ? 1.f : .5f;",
        ] {
            assert_eq!(print(&text.parse().unwrap()), text);
        }
    }

    #[test]
    fn doc_comments_come_back_as_comments() {
        for (text, expected) in [
            ("/// the mean\nfloat m = 0;", "// the mean\nfloat m = 0;"),
            ("uint i = 0; //!< the index\ny[i] = 1;", "uint i = 0; //!< the index\ny[i] = 1;"),
            ("a; /** one */ b;\nc;", "a; /* one */ b;\nc;"),
            ("a; /*! two\nlines */\nb;", "a; /*! two\nlines */\nb;"),
            ("y[i] = 1; /// last", "y[i] = 1; // last\n"),
        ] {
            assert_eq!(print(&text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn tokens_without_positions_stay_the_tokens_they_were() {
        let tokens = quote::quote!(a->b = c + 1; x <<= 2; y = b - - c; int z; f(x)[2] = .5f;);
        let printed: TokenStream = print(&tokens).parse().unwrap();
        assert_eq!(printed.to_string(), tokens.to_string());
    }
}
