//! Colours, or marks in their place.

use cotangent_models::quoting::visible;

/// The way in which output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Escape sequences mark what is learned, for a terminal.
    Colors,
    /// Brackets mark what is learned, for everything else.
    Marks,
}

/// The way in which a piece of text is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shade {
    /// Text without any mark.
    Plain,
    /// The style of a headline.
    Strong,
    /// Text that matters less: tokens that are given, not learned.
    Faint,
    /// A token that is learned; neighbours differ, so that tokens can be distinguished.
    Learned {
        /// Whether the token has the second of the two colours.
        even: bool,
    },
    /// Text that the cut loses.
    Lost,
    /// Text that needs attention.
    Warning,
}

/// The brackets around what is learned, where there are no colours.
const OPEN: &str = "⟦";
const CLOSE: &str = "⟧";

impl Shade {
    /// The parameters of the escape sequence `SGR`. Backgrounds show blanks too; each comes with its own foreground.
    fn parameters(self) -> &'static str {
        match self {
            Shade::Plain => "",
            Shade::Strong => "1",
            Shade::Faint => "2",
            Shade::Learned { even: true } => "38;5;231;48;5;28",
            Shade::Learned { even: false } => "38;5;231;48;5;22",
            Shade::Lost => "9;31",
            Shade::Warning => "33",
        }
    }
}

impl Paint {
    /// One piece of text in a shade.
    pub fn one(self, text: &str, shade: Shade) -> String {
        self.pieces([(text, shade)])
    }

    /// Pieces of text, each in its shade, with escapes for what a terminal would obey. A line break that is learned is
    /// made visible.
    pub fn pieces<'a>(self, pieces: impl IntoIterator<Item = (&'a str, Shade)>) -> String {
        let mut out = String::new();
        let mut is_open = false;
        for (text, shade) in pieces {
            let learned = matches!(shade, Shade::Learned { .. });
            if self == Paint::Marks && learned != is_open {
                out.push_str(if learned { OPEN } else { CLOSE });
                is_open = learned;
            }
            for (i, line) in visible(text).split('\n').enumerate() {
                if i > 0 {
                    // A background that is open at the end of a line would fill it.
                    out.push_str(&if learned { self.colored("↵", shade) } else { String::new() });
                    out.push('\n');
                }
                out.push_str(&self.colored(line, shade));
            }
        }
        if is_open {
            out.push_str(CLOSE);
        }
        out
    }

    fn colored(self, text: &str, shade: Shade) -> String {
        match (self, shade.parameters()) {
            (Paint::Marks, _) | (_, "") => text.to_owned(),
            _ if text.is_empty() => String::new(),
            (Paint::Colors, parameters) => format!("\u{1b}[{parameters}m{text}\u{1b}[0m"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learned_has_brackets_or_colours_and_nothing_drives_the_terminal() {
        let learned = |even| Shade::Learned { even };
        let pieces =
            [("user\n", Shade::Faint), ("a\u{1b}[2J", learned(true)), ("b\n", learned(false)), ("c", Shade::Lost)];
        assert_eq!(Paint::Marks.pieces(pieces), "user\n⟦a\\u{1b}[2Jb↵\n⟧c");
        assert_eq!(
            Paint::Colors.pieces(pieces),
            "\u{1b}[2muser\u{1b}[0m\n\u{1b}[38;5;231;48;5;28ma\\u{1b}[2J\u{1b}[0m\u{1b}[38;5;231;48;5;22mb\u{1b}[0m\
             \u{1b}[38;5;231;48;5;22m↵\u{1b}[0m\n\u{1b}[9;31mc\u{1b}[0m"
        );
        assert_eq!(Paint::Marks.one("end", learned(true)), "⟦end⟧");
    }
}
