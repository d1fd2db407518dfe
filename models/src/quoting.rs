//! Foreign strings, made safe for a message on a terminal.
//!
//! A name or a text from a file may hold escape sequences that move the cursor, rename the window or reverse letters,
//! and it may be megabytes long.

use std::borrow::Cow;
use std::path::Path;

/// The most characters of a foreign string that a message quotes.
const LONGEST: usize = 200;

/// A foreign text for a message: its first 200 characters, with escapes such as `\n` and `\u{1b}` for those that a
/// terminal obeys or hides.
pub fn quoted(text: impl AsRef<str>) -> String {
    let mut characters = text.as_ref().chars();
    let mut out = String::new();
    for char in characters.by_ref().take(LONGEST) {
        push_visible(&mut out, char);
    }
    if characters.next().is_some() {
        out.push_str("...");
    }
    out
}

/// A path for a message, with escapes as in [`quoted`]; of a long one the end.
pub fn quoted_path(path: &Path) -> String {
    let text = path.to_string_lossy();
    let skipped = text.chars().count().saturating_sub(LONGEST);
    let mut out = String::from(if skipped > 0 { "..." } else { "" });
    text.chars().skip(skipped).for_each(|char| push_visible(&mut out, char));
    out
}

/// A whole message with escapes for all that a terminal obeys or hides, its line breaks excepted.
pub fn visible(message: &str) -> Cow<'_, str> {
    if !message.chars().any(|char| char != '\n' && is_obeyed(char)) {
        return Cow::Borrowed(message);
    }
    let mut out = String::with_capacity(message.len());
    for char in message.chars() {
        match char {
            '\n' => out.push(char),
            char => push_visible(&mut out, char),
        }
    }
    Cow::Owned(out)
}

/// Returns whether a terminal does something with `char` other than to show it: control characters, and those that
/// change the direction of text or have no width. The joiners that scripts and emoji need are not among them.
fn is_obeyed(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn push_visible(out: &mut String, char: char) {
    if is_obeyed(char) {
        out.extend(char.escape_debug());
    } else {
        out.push(char);
    }
}

/// Takes out of a text that arrives in pieces what a terminal would obey: escape sequences as a whole, and control
/// characters other than line breaks and tabs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WithoutControls {
    inside: Sequence,
}

/// The kind of escape sequence that a text has opened and not closed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Sequence {
    #[default]
    None,
    /// The state after ESC.
    Escape,
    /// ESC `[` and its parameters, up to a letter.
    Control,
    /// ESC `]` and similar ones: a text up to BEL or ESC.
    Text,
}

impl WithoutControls {
    /// The part of `piece`, which follows the pieces before it, that may be shown.
    pub fn filter(&mut self, piece: &str) -> String {
        piece.chars().filter(|char| self.shows(*char)).collect()
    }

    fn shows(&mut self, char: char) -> bool {
        let (next, shown) = match (self.inside, char) {
            (_, '\u{1b}') => (Sequence::Escape, false),
            (_, '\u{9b}') => (Sequence::Control, false),
            (_, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') => (Sequence::Text, false),
            (Sequence::None, char) => (Sequence::None, matches!(char, '\n' | '\t') || !is_obeyed(char)),
            (Sequence::Escape, '[') => (Sequence::Control, false),
            (Sequence::Escape, ']' | 'P' | 'X' | '^' | '_') => (Sequence::Text, false),
            (Sequence::Escape, ' '..='/') => (Sequence::Escape, false),
            (Sequence::Control, ' '..='?') => (Sequence::Control, false),
            (Sequence::Escape | Sequence::Control, char) => (Sequence::None, matches!(char, '\n' | '\t')),
            // An escape sequence that is never closed must not hide the rest of an answer.
            (Sequence::Text, '\n') => (Sequence::None, true),
            (Sequence::Text, '\u{7}' | '\u{9c}') => (Sequence::None, false),
            (Sequence::Text, _) => (Sequence::Text, false),
        };
        self.inside = next;
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped_and_all_else_stays() {
        for (text, expected) in [
            ("plain `text` \"as\" it\\is", "plain `text` \"as\" it\\is"),
            ("a\u{1b}[31mred\u{7}", "a\\u{1b}[31mred\\u{7}"),
            ("two\nlines\r\t\0", "two\\nlines\\r\\t\\0"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("abc\u{202e}cba", "abc\\u{202e}cba"),
            ("हिन्दी e\u{301} 👩\u{200d}🚀", "हिन्दी e\u{301} 👩\u{200d}🚀"),
        ] {
            assert_eq!(quoted(text), expected);
        }
        assert_eq!(visible("`a\u{1b}c`: bad\nhelp: mend it"), "`a\\u{1b}c`: bad\nhelp: mend it");
    }

    #[test]
    fn long_texts_keep_their_beginning_and_long_paths_their_end() {
        assert_eq!(quoted("ä".repeat(200)), "ä".repeat(200));
        assert_eq!(quoted("ä".repeat(201)), "ä".repeat(200) + "...");
        let path = "a/".repeat(300) + "file\u{1b}";
        let short = quoted_path(Path::new(&path));
        assert!(short.starts_with("...") && short.ends_with("a/file\\u{1b}"), "{short}");
    }

    #[test]
    fn sequences_are_taken_out_wherever_the_text_is_cut() {
        for (text, expected) in [
            ("a\u{1b}[1;31mb\u{1b}[0m\n\tc", "ab\n\tc"),
            ("a\u{1b}]0;title\u{7}b", "ab"),
            ("a\u{1b}]0;title\u{1b}\\b", "ab"),
            ("a\u{1b}]0;never closed\nb", "a\nb"),
            ("a\u{9b}2Jb\u{9d}x\u{9c}c", "abc"),
            ("a\u{1b}(Bb\u{1b}cd\r\u{8}", "abd"),
            ("a\u{1b}[31\nb", "a\nb"),
        ] {
            assert_eq!(WithoutControls::default().filter(text), expected, "{text:?}");
            let mut filter = WithoutControls::default();
            let pieces: String = text.chars().map(|char| filter.filter(&char.to_string())).collect();
            assert_eq!(pieces, expected, "{text:?}");
        }
    }
}
