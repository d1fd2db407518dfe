//! Mistakes in a Metal source, each one replacement of a few letters.

use std::fmt;

use cotangent::kernel::signature::{Port, PortRole, ScalarKind, Signature};

use super::tokens::{Kind, Token, tokens};

/// The kinds of mistakes that are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mistake {
    /// A sign is flipped.
    Sign,
    /// A term or factor is dropped or doubled.
    Term,
    /// One port, or one gradient, is taken for another of the same dtype and rank.
    Port,
    /// A number is another.
    Constant,
    /// An element beside the right one is read or written.
    Index,
    /// A stride or an extent is taken for 1.
    Stride,
    /// A scalar is forgotten.
    Scalar,
    /// A barrier is dropped.
    Barrier,
    /// A branch on what is wanted is dropped, or asks for another gradient.
    Wants,
    /// A residual that the forward saves is wrong.
    Saved,
    /// A Rust body has another tensor than it should.
    Operation,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Mistake::Sign => "sign",
            Mistake::Term => "term",
            Mistake::Port => "port",
            Mistake::Constant => "constant",
            Mistake::Index => "index",
            Mistake::Stride => "stride",
            Mistake::Scalar => "scalar",
            Mistake::Barrier => "barrier",
            Mistake::Wants => "wants",
            Mistake::Saved => "saved",
            Mistake::Operation => "operation",
        })
    }
}

/// One replacement in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The kind of mistake.
    pub mistake: Mistake,
    /// The bytes that are replaced.
    pub range: std::ops::Range<usize>,
    /// The text that takes their place.
    pub by: String,
}

impl Edit {
    /// Returns the text with the mistake.
    pub fn apply(&self, text: &str) -> String {
        [&text[..self.range.start], &self.by, &text[self.range.end..]].concat()
    }

    /// Returns the line of the text on which the mistake is made, counted from 0.
    pub fn line(&self, text: &str) -> usize {
        text[..self.range.start].matches('\n').count()
    }
}

/// Returns every mistake in a kernel source; for a forward, only those in the residuals that it saves.
pub fn edits(text: &str, signature: &Signature, only_saved: bool) -> Vec<Edit> {
    let maker = Maker { text, tokens: tokens(text), signature };
    let all = (0..maker.tokens.len()).flat_map(|at| if only_saved { maker.saved(at) } else { maker.at(at) });
    let mut edits: Vec<Edit> = all.filter(|edit| edit.apply(text) != text).collect();
    edits.dedup_by(|left, right| (&left.range, &left.by) == (&right.range, &right.by));
    edits
}

struct Maker<'t> {
    text: &'t str,
    tokens: Vec<Token<'t>>,
    signature: &'t Signature,
}

impl Maker<'_> {
    fn at(&self, at: usize) -> Vec<Edit> {
        let token = self.tokens[at];
        match token.kind {
            Kind::Number => self.constant(at).into_iter().collect(),
            Kind::Word => [self.port(at), self.size(at), self.scalar(at), self.barrier(at), self.wants(at)].concat(),
            Kind::Symbol => match token.text {
                "+" | "-" => self.additive(at),
                "*" | "/" => self.factor(at),
                "+=" | "-=" => self.accumulation(at),
                "=" => self.store(at, &[PortRole::Output, PortRole::Saved], Mistake::Term),
                "[" => self.index(at),
                _ => Vec::new(),
            },
        }
    }

    fn saved(&self, at: usize) -> Vec<Edit> {
        if self.tokens[at].text == "=" { self.store(at, &[PortRole::Saved], Mistake::Saved) } else { Vec::new() }
    }

    fn text_at(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text)
    }

    fn before(&self, at: usize) -> Option<Token<'_>> {
        at.checked_sub(1).map(|before| self.tokens[before])
    }

    fn edit(&self, mistake: Mistake, from: usize, to: usize, by: impl Into<String>) -> Edit {
        let end = to.checked_sub(1).map_or(0, |last| self.tokens[last].end());
        Edit { mistake, range: self.tokens[from].start..end, by: by.into() }
    }

    /// The letters of tokens `from..to`.
    fn written(&self, from: usize, to: usize) -> &str {
        if from >= to { "" } else { &self.text[self.tokens[from].start..self.tokens[to - 1].end()] }
    }

    /// The token at which what begins at `from` ends: one of `stops`, or a bracket that closes one before `from`.
    fn end(&self, from: usize, stops: &[&str]) -> usize {
        let mut depth = 0_usize;
        for (at, token) in self.tokens.iter().enumerate().skip(from) {
            match token.text {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" if depth == 0 => return at,
                ")" | "]" | "}" => depth -= 1,
                other if depth == 0 && stops.contains(&other) => return at,
                _ => {}
            }
        }
        self.tokens.len()
    }

    /// Returns the place after the operand that begins at `from`: signs, a name, a number or a bracket, and its calls
    /// and indices.
    fn operand_end(&self, mut from: usize) -> usize {
        while ["-", "+", "!", "~", "*", "&"].contains(&self.text_at(from)) {
            from += 1;
        }
        if ["(", "["].contains(&self.text_at(from)) {
            from = self.end(from + 1, &[]);
        }
        let mut at = from + 1;
        loop {
            match self.text_at(at) {
                "(" | "[" => at = self.end(at + 1, &[]) + 1,
                "." | "->" | "::" => at += 2,
                _ => return at.min(self.tokens.len()),
            }
        }
    }

    fn additive(&self, at: usize) -> Vec<Edit> {
        const STOPS: [&str; 18] =
            ["+", "-", ",", ";", "?", ":", "<", ">", "<=", ">=", "==", "!=", "&&", "||", "<<", ">>", "&", "|"];
        let sign = self.text_at(at);
        if !self.before(at).is_some_and(|before| before.ends_operand()) {
            return if sign == "-" { vec![self.edit(Mistake::Sign, at, at + 1, " ")] } else { Vec::new() };
        }
        let end = self.end(at + 1, &STOPS);
        let term = self.written(at + 1, end);
        vec![
            self.edit(Mistake::Sign, at, at + 1, if sign == "+" { "-" } else { "+" }),
            self.edit(Mistake::Term, at, end, " "),
            self.edit(Mistake::Term, at, end, format!("{sign} 2 * ({term})")),
        ]
    }

    fn factor(&self, at: usize) -> Vec<Edit> {
        let Some(before) = self.before(at).filter(Token::ends_operand) else { return Vec::new() };
        // `const device T* x` declares a pointer.
        let is_parameter = self.signature.dtypes.iter().any(|parameter| parameter.name == before.text);
        if before.is_type() || is_parameter {
            return Vec::new();
        }
        let end = self.operand_end(at + 1);
        let mut edits = vec![self.edit(Mistake::Term, at, end, " ")];
        if self.text_at(at) == "*" {
            edits.push(self.edit(Mistake::Term, at, at + 1, "* 2 *"));
        }
        edits
    }

    fn accumulation(&self, at: usize) -> Vec<Edit> {
        let end = self.end(at + 1, &[";", ","]);
        let (sign, term) = (self.text_at(at), self.written(at + 1, end));
        vec![
            self.edit(Mistake::Sign, at, at + 1, if sign == "+=" { "-=" } else { "+=" }),
            self.edit(Mistake::Term, at, end, format!("{sign} 0 * ({term})")),
            self.edit(Mistake::Term, at, end, format!("{sign} 2 * ({term})")),
        ]
    }

    /// Returns what is stored into an output of one of `roles`.
    fn store(&self, at: usize, roles: &[PortRole], mistake: Mistake) -> Vec<Edit> {
        let (mut from, mut depth) = (at, 0_usize);
        while from > 0 {
            match self.text_at(from - 1) {
                "]" => depth += 1,
                // In `if (..) d_x[i] = ..` this is the bracket of the condition.
                ")" if depth == 0 => break,
                ")" => depth += 1,
                "[" | "(" if depth == 0 => break,
                "[" | "(" => depth -= 1,
                ";" | "{" | "}" if depth == 0 => break,
                _ => {}
            }
            from -= 1;
        }
        let target = self.text_at(from);
        let is_stored = self.signature.outputs.iter().any(|port| port.name == target && roles.contains(&port.role));
        if !is_stored {
            return Vec::new();
        }
        let end = self.end(at + 1, &[";"]);
        let value = self.written(at + 1, end);
        let sign = if mistake == Mistake::Saved { mistake } else { Mistake::Sign };
        vec![self.edit(sign, at, end, format!("= -({value})")), self.edit(mistake, at, end, format!("= 2 * ({value})"))]
    }

    fn constant(&self, at: usize) -> Option<Edit> {
        let number = self.text_at(at);
        let digits = number.trim_end_matches(['u', 'U', 'l', 'L']);
        let by = if let Ok(whole) = digits.parse::<u64>() {
            format!("{}{}", whole + 1, &number[digits.len()..])
        } else if number.starts_with("0x") {
            return None;
        } else {
            let value: f64 = number.trim_end_matches(['f', 'F', 'h', 'H']).parse().ok()?;
            if value == 0.0 { "1.0f".to_owned() } else { format!("(2 * {number})") }
        };
        Some(self.edit(Mistake::Constant, at, at + 1, by))
    }

    fn index(&self, at: usize) -> Vec<Edit> {
        let Some(before) = self.before(at).filter(Token::ends_operand) else { return Vec::new() };
        // `float sums[4]` declares an array.
        let declares = at.checked_sub(2).is_some_and(|before| {
            let before = self.tokens[before];
            before.kind == Kind::Word && before.text != "return" || before.text == ">"
        });
        if declares || before.is_type() {
            return Vec::new();
        }
        let end = self.end(at + 1, &[]);
        let index = self.written(at + 1, end);
        vec![
            self.edit(Mistake::Index, at, end + 1, format!("[({index}) + 1]")),
            self.edit(Mistake::Index, at, end + 1, format!("[({index}) ^ 1]")),
        ]
    }

    fn size(&self, at: usize) -> Vec<Edit> {
        let word = self.text_at(at);
        let known = self.signature.symbols().any(|symbol| symbol == word);
        let of_port = word.ends_with("_strides") || word.ends_with("_shape");
        if of_port && self.text_at(at + 1) == "[" {
            let end = self.end(at + 2, &[]);
            return vec![self.edit(Mistake::Stride, at, end + 1, "1")];
        }
        let is_declared = self.before(at).is_some_and(|before| before.is_type()) || self.text_at(at + 1) == "=";
        let is_stride = word.contains("stride") && !of_port;
        if (known || is_stride) && !is_declared {
            vec![self.edit(Mistake::Stride, at, at + 1, "1")]
        } else {
            Vec::new()
        }
    }

    fn scalar(&self, at: usize) -> Vec<Edit> {
        let scalar = self.signature.scalars.iter().find(|scalar| scalar.name == self.text_at(at));
        let by = scalar.map(|scalar| match scalar.kind {
            ScalarKind::F32 => "1.0f",
            ScalarKind::I32 => "1",
            ScalarKind::U32 => "1u",
            ScalarKind::Bool => "true",
        });
        by.map(|by| self.edit(Mistake::Scalar, at, at + 1, by)).into_iter().collect()
    }

    fn barrier(&self, at: usize) -> Vec<Edit> {
        if !["threadgroup_barrier", "simdgroup_barrier"].contains(&self.text_at(at)) {
            return Vec::new();
        }
        let end = self.end(at + 2, &[]);
        vec![self.edit(Mistake::Barrier, at, end + 1, " ")]
    }

    fn wants(&self, at: usize) -> Vec<Edit> {
        let Some(wanted) = self.text_at(at).strip_prefix("WANTS_") else { return Vec::new() };
        let others = self.signature.outputs.iter().filter(|port| port.name != wanted);
        let others = others.map(|port| format!("WANTS_{}", port.name));
        let by = ["false".to_owned(), "true".to_owned()].into_iter().chain(others);
        by.map(|by| self.edit(Mistake::Wants, at, at + 1, by)).collect()
    }

    /// The next port of the same dtype and rank, on the same side of the signature.
    fn port(&self, at: usize) -> Vec<Edit> {
        if self.before(at).is_some_and(|before| [".", "->"].contains(&before.text)) {
            return Vec::new();
        }
        let twin = |ports: &'static [Port]| {
            let place = ports.iter().position(|port| port.name == self.text_at(at))?;
            let (own, count) = (&ports[place], ports.len());
            let next = (1..count).map(|step| &ports[(place + step) % count]);
            let class = |port: &Port| (format!("{:?}", port.dtype), port.shape.len());
            next.into_iter().find(|port| class(port) == class(own)).map(|port| port.name)
        };
        let twin = twin(self.signature.inputs).or_else(|| twin(self.signature.outputs));
        twin.map(|name| self.edit(Mistake::Port, at, at + 1, name)).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use cotangent::kernel::Kernel;
    use cotangent::stage;

    use super::*;

    #[stage(
        untested = "its text is read only",
        strided,
        grid = (N, 1, 1),
        threads = (32, 1, 1),
        cases = [(N = 3)],
    )]
    fn fixture(a: In![f32; N], b: In![f32; N], by: f32, y: Out![f32; N], z: Out![f32; N]) {
        metal! {
            threadgroup float shared[32];
            uint i = thread_position_in_grid.x;
            shared[i % 32] = a[i * a_strides[0]] - b[i];
            threadgroup_barrier(mem_flags::mem_threadgroup);
            y[i] = by * shared[i % 32] + 0.5f;
            z[i] = 1.0f;
        }
    }

    /// Every line as it is with each mistake of a kind.
    #[test]
    fn each_kind_of_mistake_is_one_replacement() {
        let text = "uint i = thread_position_in_grid.x;\nif (WANTS_y) y[at(i)] = by * a[i] - b[i * a_strides[0]] + 0.5f;\n\
                    threadgroup_barrier(mem_flags::mem_threadgroup);\nz[N] = -sum;";
        let edits = edits(text, fixture::declaration().signature, false);
        let of = |mistake: Mistake| -> Vec<String> {
            let lines = edits.iter().filter(|edit| edit.mistake == mistake);
            lines.map(|edit| edit.apply(text).lines().nth(edit.line(text)).unwrap().to_owned()).collect()
        };
        let line = |right: &str| format!("if (WANTS_y) y[at(i)] = {right}");
        assert_eq!(
            of(Mistake::Sign),
            [
                line("-(by * a[i] - b[i * a_strides[0]] + 0.5f);"),
                line("by * a[i] + b[i * a_strides[0]] + 0.5f;"),
                line("by * a[i] - b[i * a_strides[0]] - 0.5f;"),
                "z[N] = -(-sum);".to_owned(),
                "z[N] =  sum;".to_owned(),
            ]
        );
        let terms = of(Mistake::Term);
        for expected in [
            "by   - b[i * a_strides[0]] + 0.5f;",
            "by * a[i]   + 0.5f;",
            "by * a[i] - b[i * a_strides[0]] + 2 * (0.5f);",
        ] {
            assert!(terms.contains(&line(expected)), "{expected} in {terms:#?}");
        }
        assert!(
            of(Mistake::Port).contains(&line("by * b[i] - b[i * a_strides[0]] + 0.5f;")),
            "{:?}",
            of(Mistake::Port)
        );
        assert_eq!(of(Mistake::Constant)[1], line("by * a[i] - b[i * a_strides[0]] + (2 * 0.5f);"));
        assert!(of(Mistake::Index).contains(&line("by * a[(i) + 1] - b[i * a_strides[0]] + 0.5f;")));
        assert_eq!(of(Mistake::Stride), [line("by * a[i] - b[i * 1] + 0.5f;"), "z[1] = -sum;".to_owned()]);
        assert_eq!(of(Mistake::Scalar), [line("1.0f * a[i] - b[i * a_strides[0]] + 0.5f;")]);
        assert_eq!(of(Mistake::Barrier), [" ;"]);
        let wants = of(Mistake::Wants);
        assert!(wants.len() == 3 && wants[2].starts_with("if (WANTS_z) "), "{wants:?}");
    }
}
