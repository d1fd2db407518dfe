//! One example, token by token.

use std::borrow::Cow;
use std::io::{self, Write};

use crate::data::{DataError, EncodedExample, Tokenizer};
use crate::numbers::{counted, percent};

use super::{Paint, Shade};

/// The number of tokens above which the middle of an example is left out, unless all is asked for.
const MOST_TOKENS: usize = 600;
/// The number of tokens that are then shown at its end.
const LAST_TOKENS: usize = 150;

/// The way in which an example is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExampleOptions {
    /// The number of tokens after which the example is cut.
    pub limit: usize,
    /// Whether a long one is written out in full.
    pub all: bool,
}

/// Writes the text of an example with the tokens that are learned marked, and what is lost beyond the cut.
///
/// # Errors
/// If `out` cannot be written, or the tokenizer fails.
pub fn write_example(
    out: &mut impl Write,
    paint: Paint,
    title: &str,
    encoded: &EncodedExample,
    tokenizer: &Tokenizer,
    options: ExampleOptions,
) -> Result<(), ShowError> {
    let ExampleOptions { limit, all } = options;
    let total = encoded.example.tokens.len();
    let kept = total.min(limit);
    let is_learned = |i: usize| i > 0 && encoded.example.is_target[i];
    let count = |range: std::ops::Range<usize>| range.filter(|i| is_learned(*i)).count();
    let counts = format!(
        "{}, {} learned ({})",
        counted(total, "token"),
        crate::numbers::grouped(count(0..total)),
        percent(count(0..total), total)
    );
    let title = format!("--- {title} ---");
    writeln!(out, "{} {}", paint.one(&title, Shade::Strong), counts)?;

    let texts = texts(encoded, tokenizer)?;
    let shade = |i: usize| match (i < kept, is_learned(i)) {
        (true, true) => Shade::Learned { even: i.is_multiple_of(2) },
        (true, false) => Shade::Faint,
        (false, _) => Shade::Lost,
    };
    let pieces = |range: std::ops::Range<usize>| paint.pieces(range.map(|i| (texts[i].as_ref(), shade(i))));
    let show = |out: &mut dyn Write, range: std::ops::Range<usize>| -> io::Result<()> {
        if all || range.len() <= MOST_TOKENS {
            return out.write_all(pieces(range).as_bytes());
        }
        let left_out = range.start + MOST_TOKENS - LAST_TOKENS..range.end - LAST_TOKENS;
        let note = format!("\n... {}, {} learned ...\n", counted(left_out.len(), "token"), count(left_out.clone()));
        out.write_all(pieces(range.start..left_out.start).as_bytes())?;
        out.write_all(paint.one(&note, Shade::Plain).as_bytes())?;
        out.write_all(pieces(left_out.end..range.end).as_bytes())
    };
    show(out, 0..kept)?;
    if kept < total {
        let ends = encoded.ends.iter().filter(|end| **end >= kept).count();
        let note = format!(
            "\n--- cut here, at {}: {} of {} are lost, and {}",
            counted(kept, "token"),
            crate::numbers::grouped(count(kept..total)),
            counted(count(0..total), "learned token"),
            counted(ends, "end-of-turn mark")
        );
        writeln!(out, "{}", paint.one(&note, Shade::Warning))?;
        show(out, kept..total)?;
    }
    out.write_all(if encoded.text.ends_with('\n') { b"\n" } else { b"\n\n" })?;
    Ok(())
}

/// The reason why an example cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// The output cannot be written.
    #[error(transparent)]
    Write(#[from] io::Error),
    /// The tokenizer fails.
    #[error(transparent)]
    Tokenizer(#[from] DataError),
}

/// The text that each token adds. Of tokens that share a character the first has it; a token that stands for no text, as
/// the one that ends plain text, is written by its name.
fn texts<'a>(encoded: &'a EncodedExample, tokenizer: &Tokenizer) -> Result<Vec<Cow<'a, str>>, DataError> {
    let mut position = 0;
    let mut texts = Vec::with_capacity(encoded.offsets.len());
    for (id, range) in encoded.example.tokens.iter().zip(&encoded.offsets) {
        if range.is_empty() {
            texts.push(Cow::Owned(tokenizer.decode(&[*id], true)?));
            continue;
        }
        let start = range.start.max(position);
        position = position.max(range.end);
        texts.push(Cow::Borrowed(encoded.text.get(start..range.end).unwrap_or_default()));
    }
    Ok(texts)
}
