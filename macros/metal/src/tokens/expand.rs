//! Expands a source as a preprocessor does: macros that the source defines are replaced, and directives and the code in
//! `#if 0` are removed. Every token keeps the place where its author wrote it.

use std::collections::{BTreeMap, BTreeSet};

use super::token::{self, Bracket, Kind, Name, Place, Token};

/// A text after its directives.
#[derive(Debug, Default)]
pub(super) struct Expanded {
    /// The tokens that are compiled; of an `#if` with several branches, all branches.
    pub(super) tokens: Vec<Token>,
    /// Names that the text defines, with the names of their parameters.
    pub(super) defined: BTreeSet<String>,
    /// `#include`s.
    pub(super) includes: Vec<Place>,
    /// Operators at the end of a macro: Rust has dropped the `\` behind them, and the macro goes on with the next line.
    pub(super) unfinished: Vec<Place>,
    /// Words after a `#` that are no directives.
    pub(super) comments: Vec<Name>,
    /// Whether some of it is compiled only where an `#if` says so.
    pub(super) has_conditions: bool,
    /// Macros as they stand at the end of what was read.
    macros: BTreeMap<String, Macro>,
    /// Tokens that macros made so far.
    made: usize,
}

/// `#define NAME body` or `#define NAME(parameters) body`.
#[derive(Debug, Clone)]
struct Macro {
    parameters: Option<Vec<String>>,
    body: Vec<Token>,
}

/// The most tokens that macros may make: more than any kernel has, and few enough to take no time.
const MOST_TOKENS: usize = 100_000;
/// The depth to which macros may call each other.
const DEEPEST: usize = 64;

/// Expands a text.
pub(super) fn expand(tokens: &[Token]) -> Expanded {
    let mut expanded = Expanded::default();
    expanded.tokens = expanded.run(tokens, &mut Vec::new(), true);
    expanded
}

impl Expanded {
    /// `inside` are the macros that are being replaced, which are not replaced again.
    fn run(&mut self, tokens: &[Token], inside: &mut Vec<String>, with_directives: bool) -> Vec<Token> {
        let mut output = Vec::with_capacity(tokens.len());
        // Each open `#if` has an element, which says whether its lines are dead now.
        let mut conditionals: Vec<bool> = Vec::new();
        let mut index = 0;
        while let Some(token) = tokens.get(index) {
            if with_directives && token.is('#') && directive_starts(tokens, index) {
                let end = line_end(tokens, index);
                self.directive(&tokens[index..end], &mut conditionals);
                index = end;
                continue;
            }
            index += 1;
            if conditionals.contains(&true) {
                continue;
            }
            match &token.kind {
                Kind::Name(name) => index += self.name(token, name, &tokens[index..], inside, &mut output),
                Kind::Group(bracket, inner) => {
                    let inner = self.run(inner, inside, with_directives);
                    output.push(Token { kind: Kind::Group(*bracket, inner), ..token.clone_place() });
                }
                Kind::Branch(inner) => {
                    let inner = self.run(inner, inside, with_directives);
                    output.push(Token { kind: Kind::Branch(inner), ..token.clone_place() });
                }
                Kind::Punct(_) | Kind::Literal(_) => output.push(token.clone()),
            }
        }
        output
    }

    /// Puts a name, or what it stands for, into `output`; how many of the tokens `behind` it that took.
    fn name(
        &mut self,
        token: &Token,
        name: &str,
        behind: &[Token],
        inside: &mut Vec<String>,
        output: &mut Vec<Token>,
    ) -> usize {
        let found = self.macros.get(name).filter(|_| inside.len() < DEEPEST && !inside.iter().any(|open| open == name));
        let Some(found) = found.filter(|_| self.made < MOST_TOKENS).cloned() else {
            output.push(token.clone());
            return 0;
        };
        let (body, taken) = match (&found.parameters, behind.first().map(|token| &token.kind)) {
            (None, _) => (found.body, 0),
            (Some(parameters), Some(Kind::Group(Bracket::Parenthesis, arguments))) => {
                let arguments: Vec<Vec<Token>> =
                    arguments.split(|token| token.is(',')).map(|argument| self.run(argument, inside, false)).collect();
                (substitute(&found.body, parameters, &arguments), 1)
            }
            _ => {
                output.push(token.clone());
                return 0;
            }
        };
        self.made += body.len();
        inside.push(name.to_owned());
        let body = self.run(&body, inside, false);
        inside.pop();
        output.extend(body);
        taken
    }

    fn directive(&mut self, line: &[Token], conditionals: &mut Vec<bool>) {
        let is_dead = conditionals.contains(&true);
        match line.get(1).and_then(Token::name) {
            Some("if") => {
                let is_never = matches!(&line[2..], [only] if matches!(&only.kind, Kind::Literal(text) if text == "0")
                    || only.name() == Some("false"));
                conditionals.push(is_never);
                self.has_conditions |= !is_dead && !is_never;
            }
            Some("ifdef" | "ifndef") => {
                conditionals.push(false);
                self.has_conditions |= !is_dead;
            }
            Some("else" | "elif" | "elifdef" | "elifndef") => {
                if let Some(last) = conditionals.last_mut() {
                    *last = false;
                }
            }
            Some("endif") => drop(conditionals.pop()),
            Some("define") if !is_dead => self.define(&line[2..]),
            Some("undef") if !is_dead => {
                if let Some(name) = line.get(2).and_then(Token::name) {
                    self.macros.remove(name);
                }
            }
            Some("include") => self.includes.push(line[1].place),
            Some("pragma" | "line" | "error" | "warning") | None => {}
            Some(_) if is_dead => {}
            Some(_) => self.comments.extend(line[1].to_name()),
        }
    }

    fn define(&mut self, line: &[Token]) {
        let Some((name, text)) = line.first().and_then(|name| name.name().map(|text| (name, text))) else { return };
        self.defined.insert(text.to_owned());
        let parameters = line.get(1).filter(|next| touches(name, next)).and_then(parameters);
        let body = line[if parameters.is_some() { 2 } else { 1 }..].to_vec();
        self.defined.extend(parameters.iter().flatten().cloned());
        if let Some(Token { kind: Kind::Punct(_), place: place @ Place::Span(_), .. }) = body.last()
            && body.last().is_some_and(|last| !"*&;>=".contains(|character| last.is(character)))
        {
            self.unfinished.push(*place);
        }
        // If branches of an `#if` define it differently, the first one counts.
        self.macros.entry(text.to_owned()).or_insert(Macro { parameters, body });
    }
}

/// The names in `(a, b)`, if nothing else is in it.
fn parameters(token: &Token) -> Option<Vec<String>> {
    let Kind::Group(Bracket::Parenthesis, inner) = &token.kind else { return None };
    if inner.is_empty() {
        return Some(Vec::new());
    }
    inner
        .split(|token| token.is(','))
        .map(|parameter| match parameter {
            [name] => name.name().map(str::to_owned),
            [first, ..] if first.is('.') => Some("__VA_ARGS__".to_owned()),
            _ => None,
        })
        .collect()
}

/// Returns whether no blank stands between a name and the token behind it. Where places say nothing, it may be so.
fn touches(name: &Token, next: &Token) -> bool {
    match (name.place, next.place) {
        (Place::Span(name), Place::Span(next)) => name.start() == next.start() || name.end() == next.start(),
        (Place::File { line, column, length }, Place::File { line: next_line, column: next_column, .. }) => {
            line == next_line && column + length == next_column
        }
        _ => false,
    }
}

/// The body of a macro with arguments in place of parameters, `#` and `##` applied.
fn substitute(body: &[Token], parameters: &[String], arguments: &[Vec<Token>]) -> Vec<Token> {
    let argument = |name: &str| {
        let position = parameters.iter().position(|parameter| parameter == name)?;
        arguments.get(position)
    };
    let mut output: Vec<Token> = Vec::with_capacity(body.len());
    let mut index = 0;
    while let Some(token) = body.get(index) {
        index += 1;
        match &token.kind {
            Kind::Punct('#') if token.joint && body.get(index).is_some_and(|next| next.is('#')) => {
                index += 1;
                let next = body.get(index).map(|next| match next.name().and_then(argument) {
                    Some(argument) => argument.clone(),
                    None => vec![next.clone()],
                });
                index += 1;
                paste(&mut output, next.unwrap_or_default());
            }
            Kind::Punct('#') if body.get(index).and_then(Token::name).and_then(argument).is_some() => {
                index += 1;
                output.push(Token { kind: Kind::Literal("\"\"".to_owned()), ..token.clone_place() });
            }
            Kind::Name(name) => match argument(name) {
                Some(argument) => output.extend(argument.iter().cloned()),
                None => output.push(token.clone()),
            },
            Kind::Group(bracket, inner) => {
                let inner = substitute(inner, parameters, arguments);
                output.push(Token { kind: Kind::Group(*bracket, inner), ..token.clone_place() });
            }
            Kind::Branch(inner) => {
                let inner = substitute(inner, parameters, arguments);
                output.push(Token { kind: Kind::Branch(inner), ..token.clone_place() });
            }
            Kind::Punct(_) | Kind::Literal(_) => output.push(token.clone()),
        }
    }
    output
}

/// `a ## b`: one name, or one number, of two.
fn paste(output: &mut Vec<Token>, next: Vec<Token>) {
    let mut next = next.into_iter();
    let Some(second) = next.next() else { return };
    match output.last_mut() {
        Some(Token { kind: Kind::Name(text) | Kind::Literal(text), .. }) => {
            text.push_str(&token::join(std::slice::from_ref(&second)));
        }
        _ => output.push(second),
    }
    output.extend(next);
}

/// Returns where the directive that begins at `index` ends: with its line.
fn line_end(tokens: &[Token], index: usize) -> usize {
    let line = tokens[index].line;
    tokens[index..].iter().position(|token| token.line != line).map_or(tokens.len(), |length| index + length)
}

fn directive_starts(tokens: &[Token], index: usize) -> bool {
    index == 0 || tokens[index - 1].end_line < tokens[index].line
}

#[cfg(test)]
mod tests {
    use super::super::lexer::lex;
    use super::*;

    fn expanded(text: &str) -> String {
        let from_file = token::join(&expand(&lex(text).0).tokens);
        let tokens: proc_macro2::TokenStream = text.parse().unwrap();
        assert_eq!(token::join(&expand(&token::from_rust(tokens)).tokens), from_file, "{text}");
        from_file
    }

    #[test]
    fn macros_are_replaced_as_a_preprocessor_does() {
        for (text, expected) in [
            ("#define N 4\nx[N];", "x [4] ;"),
            ("#define PUT(a, b) a[i] = (b)\nPUT(y, f(1, 2));", "y [i] = (f (1 , 2)) ;"),
            ("#define A (B)\n#define B 3\nA;", "(3) ;"),
            ("#define SELF SELF + 1\nSELF;", "SELF + 1 ;"),
            ("#define F(v) v\nF;", "F ;"),
            ("#define JOIN(a, b) a ## b\nJOIN(x, 1) = 2;", "x1 = 2 ;"),
            ("#define N 4\n#undef N\nN;", "N ;"),
            ("#define U(n) n ## u\nU(3);", "3u ;"),
            ("#define LOG(...) f(__VA_ARGS__)\nLOG(1);", "f (1) ;"),
            ("{\n#define D 2\n{ D; }\n}\nD;", "{{2 ;}} 2 ;"),
            ("#if 0\na;\n#else\nb;\n#endif\nc;", "b ; c ;"),
            ("#if false\n#ifdef A\na;\n#endif\n#endif\nc;", "c ;"),
        ] {
            assert_eq!(expanded(text), expected, "{text}");
        }
    }

    #[test]
    fn macros_that_grow_without_end_are_left() {
        let mut text = "#define A0 x x\n".to_owned();
        for level in 1..40 {
            text += &format!("#define A{level} A{} A{}\n", level - 1, level - 1);
        }
        let tokens = lex(&format!("{text}A39;")).0;
        assert!(expand(&tokens).tokens.len() < 4 * MOST_TOKENS);
    }
}
