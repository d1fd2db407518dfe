//! Lexes kernel source in a file of its own, into the same tokens as source inside a macro.
//!
//! The file is C++, so it may hold what Rust's lexer does not accept: lines that `\` continues, `1'000`, hexadecimal
//! floats, raw strings, and brackets that open in each branch of an `#if` and close after `#endif`. The first of such
//! branches gives the structure, and the others are lexed beside it.

mod brackets;
mod directives;

use super::token::{Bracket, Kind, Place, Token};

/// A fault of a source, and its remedy.
#[derive(Debug)]
pub struct Fault {
    /// The place of the fault.
    pub place: Place,
    /// The message about what was found.
    pub message: String,
    /// The remedy.
    pub help: &'static str,
}

/// The deepest nesting of brackets in a source. Code that reads the tokens recurses, so there has to be a limit.
const DEEPEST: usize = 128;

/// Returns the tokens of `text`, and the faults for what could not be read in it.
pub fn lex(text: &str) -> (Vec<Token>, Vec<Fault>) {
    let mut lexer = Lexer {
        characters: text.chars().collect(),
        position: Position { index: 0, line: 1, column: 1, logical: 1 },
        open: vec![Frame { opened: Opened::File, tokens: Vec::new() }],
        conditionals: Vec::new(),
        mistakes: Vec::new(),
        last_line: 0,
    };
    lexer.run();
    lexer.finish()
}

fn is_punctuation(character: char) -> bool {
    "!#%&*+,-./:;<=>?^|~".contains(character)
}

#[derive(Clone, Copy)]
struct Position {
    index: usize,
    line: usize,
    column: usize,
    /// Lines, but those that `\` continues counted as one.
    logical: usize,
}

/// An open bracket, with the tokens read since.
struct Frame {
    opened: Opened,
    tokens: Vec<Token>,
}

#[derive(Clone, Copy)]
enum Opened {
    File,
    Bracket(Bracket, Position),
    Branch(Position),
}

/// An `#if` that is not yet ended.
struct Conditional {
    place: Place,
    in_alternative: bool,
    /// Whether the lines from here on are never compiled: `#if 0`.
    is_dead: bool,
}

struct Lexer {
    characters: Vec<char>,
    position: Position,
    open: Vec<Frame>,
    conditionals: Vec<Conditional>,
    mistakes: Vec<Fault>,
    /// The logical line on which the last token ended.
    last_line: usize,
}

impl Lexer {
    fn run(&mut self) {
        while self.skip_blanks() {
            let start = self.position;
            let Some(character) = self.peek(0) else { break };
            if character == '#' && self.last_line < start.logical {
                self.directive();
            } else {
                self.token();
            }
        }
    }

    fn finish(mut self) -> (Vec<Token>, Vec<Fault>) {
        for conditional in std::mem::take(&mut self.conditionals) {
            self.mistake(conditional.place, "this `#if` has no `#endif`", "end it with `#endif`");
            if conditional.in_alternative {
                self.close_branch();
            }
        }
        while self.open.len() > 1 {
            self.close_unfinished();
        }
        (self.open.pop().map(|frame| frame.tokens).unwrap_or_default(), self.mistakes)
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.characters.get(self.position.index + ahead).copied()
    }

    /// Returns whether the text goes on with `expected`.
    fn sees(&self, expected: &str) -> bool {
        expected.chars().enumerate().all(|(ahead, character)| self.peek(ahead) == Some(character))
    }

    fn sees_comment(&self) -> bool {
        self.sees("//") || self.sees("/*")
    }

    fn advance(&mut self) -> Option<char> {
        let character = self.peek(0)?;
        self.position.index += 1;
        self.position.column += 1;
        if character == '\n' {
            self.position.line += 1;
            self.position.column = 1;
            self.position.logical += 1;
        }
        Some(character)
    }

    fn advance_while(&mut self, mut wanted: impl FnMut(char) -> bool) {
        while self.peek(0).is_some_and(&mut wanted) {
            self.advance();
        }
    }

    /// A `\` at the end of a line, and the end of the line.
    fn skip_continuation(&mut self) -> bool {
        let length = if self.sees("\\\n") {
            2
        } else if self.sees("\\\r\n") {
            3
        } else {
            return false;
        };
        let logical = self.position.logical;
        for _ in 0..length {
            self.advance();
        }
        self.position.logical = logical;
        true
    }

    /// Skips blanks, comments and continued ends of lines; whether anything is left.
    fn skip_blanks(&mut self) -> bool {
        loop {
            let start = self.position;
            match self.peek(0) {
                None => return false,
                Some(character) if character.is_whitespace() => {
                    self.advance();
                }
                Some('\\') if self.skip_continuation() => {}
                Some('/') if self.sees("//") => {
                    while self.peek(0).is_some_and(|character| character != '\n') {
                        if !self.skip_continuation() {
                            self.advance();
                        }
                    }
                }
                Some('/') if self.sees("/*") => {
                    while self.peek(0).is_some() && !(self.sees("*/") && self.position.index >= start.index + 2) {
                        self.advance();
                    }
                    if !self.sees("*/") {
                        let place = Place::File { line: start.line, column: start.column, length: 2 };
                        self.mistake(place, "this comment does not end", "end it with `*/`");
                        return false;
                    }
                    self.advance();
                    self.advance();
                    // A comment counts as one blank, even if it has several lines.
                    self.position.logical = start.logical;
                }
                Some(_) => return true,
            }
        }
    }

    fn token(&mut self) {
        let start = self.position;
        let Some(character) = self.peek(0) else { return };
        let kind = match character {
            '(' => return self.open_bracket(Bracket::Parenthesis),
            '[' => return self.open_bracket(Bracket::Square),
            '{' => return self.open_bracket(Bracket::Brace),
            ')' => return self.close_bracket(Bracket::Parenthesis),
            ']' => return self.close_bracket(Bracket::Square),
            '}' => return self.close_bracket(Bracket::Brace),
            '"' | '\'' => self.quoted(character),
            '.' if self.peek(1).is_some_and(|next| next.is_ascii_digit()) => self.number(),
            _ if character.is_ascii_digit() => self.number(),
            _ if character.is_ascii_alphabetic() || character == '_' => self.word(),
            _ if is_punctuation(character) => {
                self.advance();
                Kind::Punct(character)
            }
            _ => {
                self.advance();
                let message = format!("`{character}` has no meaning in Metal");
                self.mistake(self.since(start), message, "remove it, or put it into a comment");
                return;
            }
        };
        self.push(kind, start);
    }

    fn push(&mut self, kind: Kind, start: Position) {
        let joint = matches!(kind, Kind::Punct(_)) && self.peek(0).is_some_and(is_punctuation) && !self.sees_comment();
        let token =
            Token { kind, joint, place: self.since(start), line: start.logical, end_line: self.position.logical };
        self.last_line = token.end_line;
        if let Some(frame) = self.open.last_mut() {
            frame.tokens.push(token);
        }
    }

    /// Returns the place from `start` to here, as far as the line of `start` goes.
    fn since(&self, start: Position) -> Place {
        let Position { line, column, index, .. } = start;
        let length = self.characters[index..self.position.index].iter().take_while(|c| **c != '\n').count();
        Place::File { line, column, length: length.max(1) }
    }

    fn text_since(&self, start: Position) -> String {
        self.characters[start.index..self.position.index].iter().collect()
    }

    fn mistake(&mut self, place: Place, message: impl Into<String>, help: &'static str) {
        self.mistakes.push(Fault { place, message: message.into(), help });
    }

    fn word(&mut self) -> Kind {
        let start = self.position;
        self.advance_while(|character| character.is_ascii_alphanumeric() || character == '_');
        let word = self.text_since(start);
        match (word.as_str(), self.peek(0)) {
            ("R" | "u8R" | "uR" | "UR" | "LR", Some('"')) => self.raw_string(start),
            ("u8" | "u" | "U" | "L", Some(quote @ ('"' | '\''))) => self.quoted(quote),
            _ => Kind::Name(word),
        }
    }

    /// A number as the preprocessor sees it: digits, letters, points, separators, and signs of exponents.
    fn number(&mut self) -> Kind {
        let start = self.position;
        let is_hexadecimal = self.sees("0x") || self.sees("0X");
        let mut last = ' ';
        while let Some(character) = self.peek(0) {
            let is_exponent = matches!(last, 'p' | 'P') || (!is_hexadecimal && matches!(last, 'e' | 'E'));
            let belongs = match character {
                '+' | '-' => is_exponent,
                '\'' => self.peek(1).is_some_and(|next| next.is_ascii_alphanumeric()),
                _ => character.is_ascii_alphanumeric() || matches!(character, '.' | '_'),
            };
            if !belongs {
                break;
            }
            last = character;
            self.advance();
        }
        Kind::Literal(self.text_since(start))
    }

    fn quoted(&mut self, quote: char) -> Kind {
        let start = self.position;
        self.advance();
        loop {
            match self.peek(0) {
                Some(character) if character == quote => {
                    self.advance();
                    break;
                }
                Some('\\') => {
                    if !self.skip_continuation() {
                        self.advance();
                        self.advance();
                    }
                }
                None | Some('\n') => {
                    let what = if quote == '"' { "this string does not end" } else { "this character does not end" };
                    self.mistake(self.since(start), what, "end it on its line");
                    break;
                }
                Some(_) => {
                    self.advance();
                }
            }
        }
        Kind::Literal(self.text_since(start))
    }

    /// `R"name( .. )name"`
    fn raw_string(&mut self, start: Position) -> Kind {
        self.advance();
        let name = self.position;
        self.advance_while(|character| !matches!(character, '(' | '"' | '\n'));
        let end = format!("){}\"", self.text_since(name));
        while self.peek(0).is_some() && !self.sees(&end) {
            self.advance();
        }
        if self.peek(0).is_none() {
            let place = Place::File { line: start.line, column: start.column, length: 2 };
            self.mistake(place, "this raw string does not end", "end it as it began: `R\"name( .. )name\"`");
        }
        for _ in end.chars() {
            self.advance();
        }
        Kind::Literal(self.text_since(start))
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::join;
    use super::*;

    fn clean(text: &str) -> String {
        let (tokens, mistakes) = lex(text);
        assert!(mistakes.is_empty(), "{text}: {mistakes:?}");
        join(&tokens)
    }

    #[test]
    fn what_rust_cannot_lex_is_lexed() {
        for (text, expected) in [
            ("int n = 1'000'000;", "int n = 1'000'000 ;"),
            ("float x = 0x1.8p-3f + .5f - 1.f;", "float x = 0x1.8p-3f + .5f - 1.f ;"),
            ("float y = 1e-5f-1;", "float y = 1e-5f - 1 ;"),
            ("int h = 0xE+1;", "int h = 0xE + 1 ;"),
            ("s = R\"x(a \"quoted\" )\" b)x\";", "s = R\"x(a \"quoted\" )\" b)x\" ;"),
            ("c = 'ab' + L'c' + '\\'';", "c = 'ab' + 'c' + '\\'' ;"),
            ("a /* b\n c */ + d; // e \\\n f\ng", "a + d ; g"),
            ("a->b <<= c::d;", "a - > b < < = c : : d ;"),
        ] {
            assert_eq!(clean(text), expected, "{text}");
        }
    }

    #[test]
    fn directives_leave_definitions_and_both_branches() {
        for (text, expected) in [
            ("#pragma unroll\nfor (;;) x;", "for (; ;) x ;"),
            (
                "#define SUM(a, b) \\\n  ((a) + \\\n   (b))\nx = SUM(1, 2);",
                "# define SUM (a , b) ((a) + (b)) x = SUM (1 , 2) ;",
            ),
            ("#ifdef A\na;\n#elif B\nb;\n#else\nc;\n#endif\nd;", "a ; b ; c ; d ;"),
            ("#if A\nif (x) {\n#else\nif (y) {\n#endif\nz;\n}", "if (x) {if (y) {} z ;}"),
            ("{\n#if A\nx; }\n#else\ny; }\n#endif\nz;", "{x ;} y ; z ;"),
            ("#if 0\nif (x) {\n#else\nb;\n#endif\nd;", "b ; d ;"),
            ("#if 0\na; }\n#endif\nd;", "d ;"),
            ("#if A\n#if B\n(\n#else\n(\n#endif\n1)\n#else\n2\n#endif\n;", "(( ) 1) 2 ;"),
        ] {
            let found = clean(text);
            assert_eq!(found.replace("()", "( )"), expected.replace("()", "( )"), "{text}");
        }
    }

    #[test]
    fn continued_lines_are_one_and_places_are_those_of_the_file() {
        let (tokens, _) = lex("#define A \\\n  1\n  name;");
        let lines: Vec<usize> = tokens.iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 1, 1, 1, 2, 2]);
        assert!(matches!(tokens[4].place, Place::File { line: 3, column: 3, length: 4 }), "{:?}", tokens[4]);
    }

    #[test]
    fn brackets_without_end_are_refused() {
        let (tokens, mistakes) = lex(&"(".repeat(100_000));
        assert_eq!(tokens.len(), 1);
        assert!(mistakes[0].message.contains("too deep"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"([a-z0-9(){}\[\].;,'"\\#/* \n]|R"|0x|#if |#else|#endif|#define |\\\n|/\*|\*/|//){0,60}"#) {
            let (tokens, _) = lex(&text);
            crate::tokens::scan::Scan::new(&tokens, vec!["a".to_owned()]);
        }
    }

    #[test]
    fn mistakes_have_their_place() {
        for (text, expected) in [
            ("a\n  } b", (2, 3, "this `}` closes nothing")),
            ("a (\nb", (1, 3, "this `(` is never closed")),
            ("f(a];", (1, 4, "this `]` closes nothing")),
            ("{ (a }", (1, 3, "this `(` is never closed")),
            ("x = \"a\ny", (1, 5, "this string does not end")),
            ("/* a", (1, 1, "this comment does not end")),
            ("R\"(a)", (1, 1, "this raw string does not end")),
            ("#if A\nx", (1, 1, "this `#if` has no `#endif`")),
            ("x\n#endif", (2, 1, "this `#endif` belongs to no `#if`")),
            ("#else", (1, 1, "this `#else` belongs to no `#if`")),
            ("a $ b", (1, 3, "`$` has no meaning in Metal")),
        ] {
            let (_, mistakes) = lex(text);
            let Place::File { line, column, .. } = mistakes[0].place else { unreachable!() };
            assert_eq!((line, column, mistakes[0].message.as_str()), expected, "{text}");
        }
    }
}
