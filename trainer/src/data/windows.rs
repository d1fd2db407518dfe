//! Long texts in tokens, a window of the text at a time.
//!
//! A tokenizer takes some two hundred bytes of memory for a byte of text. A window ends where it seems to make no
//! difference, and the next one begins a little earlier: where both agree on what they share, the tokens are those of the
//! whole text. Where they do not, the window grows.

use std::ops::Range;

/// A token and the bytes that it stands for.
pub(super) type Token = (u32, Range<usize>);

/// The amount of text that is encoded together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows {
    /// Bytes of a window.
    pub size: usize,
    /// Bytes that a window shares with the next; at most a quarter of `size`.
    pub overlap: usize,
}

impl Windows {
    /// Enough for a text of ordinary length in one window.
    pub const DEFAULT: Self = Self { size: 256 << 10, overlap: 8 << 10 };

    /// The tokens of `text`, by `encode`, which is given a part of it.
    pub fn encode<E>(self, text: &str, mut encode: impl FnMut(&str) -> Result<Vec<Token>, E>) -> Result<Vec<Token>, E> {
        if text.len() <= self.size {
            return encode(text);
        }
        let mut tokens: Vec<Token> = Vec::new();
        // The window begins at `start` and ends at `end`.
        let (mut start, mut end) = (0, text.floor_char_boundary(self.size));
        let mut window = encode(&text[..end])?;
        while end < text.len() {
            let next_end = |cut: usize| text.floor_char_boundary(cut + self.size);
            if let Some(cut) = self.cut(&text[start..end], &window) {
                let at = start + window[cut].1.start;
                let next = encode(&text[at..next_end(at)])?;
                if agree(&window[cut..], &next, end - at) {
                    tokens.extend(window.drain(..cut).map(|token| moved(token, start)));
                    (start, end, window) = (at, next_end(at), next);
                    continue;
                }
            }
            end = text.ceil_char_boundary(start + 2 * (end - start));
            window = encode(&text[start..end])?;
        }
        tokens.extend(window.into_iter().map(|token| moved(token, start)));
        Ok(tokens)
    }

    /// The token of a window before which it may end: one at the beginning of a word if there is such, in the half of
    /// the overlap that comes first.
    fn cut(self, text: &str, tokens: &[Token]) -> Option<usize> {
        let (first, last) = (text.len() - self.overlap, text.len() - self.overlap / 2);
        let from = tokens.partition_point(|(_, range)| range.start < first);
        let to = tokens.partition_point(|(_, range)| range.start < last);
        // A window does not end within a character of several tokens.
        let is_whole = |token: &usize| *token > 0 && tokens[token - 1].1.end == tokens[*token].1.start;
        let begins_word = |token: &usize| {
            let (before, after) = text.split_at(tokens[*token].1.start);
            let mut after = after.chars();
            before.ends_with(|char: char| char.is_ascii_alphanumeric())
                && after.next() == Some(' ')
                && after.next().is_some_and(|char| char.is_ascii_alphabetic())
        };
        (from..to).filter(is_whole).find(begins_word).or_else(|| (from..to).find(is_whole))
    }
}

/// A token of the window that begins at `start`, as one of the whole text.
fn moved((id, range): Token, start: usize) -> Token {
    (id, start + range.start..start + range.end)
}

/// Returns whether two windows have the same tokens where both see the text around, which they share for `shared` bytes
/// from where the second begins.
fn agree(first: &[Token], second: &[Token], shared: usize) -> bool {
    let begin = first.first().map_or(0, |(_, range)| range.start);
    let reach = shared - shared / 4;
    let first = first.iter().map(|(id, range)| (*id, range.end - begin)).take_while(|(_, end)| *end <= reach);
    let second = second.iter().map(|(id, range)| (*id, range.end)).take_while(|(_, end)| *end <= reach);
    first.eq(second)
}
