//! `cargo cotangent explain C03`: what a code in an error message means.

use anyhow::{Result, bail};
use cotangent_macros_core::catalogue::{self, Entry, Source, catalogue};

/// Columns of a line of text.
const WIDTH: usize = 100;

/// The explanation of `code`, or the list of all codes. `caller` is what a person typed: `cargo cotangent`.
///
/// # Errors
/// If there is no such code.
pub fn text(code: Option<&str>, caller: &str) -> Result<String> {
    let Some(code) = code else {
        let lines = catalogue().iter().map(|entry| format!("{}  {}\n", entry.code, entry.title));
        return Ok(lines.collect());
    };
    let Some(entry) = catalogue::find(code) else {
        bail!("no failure has the code `{code}`\n  help: list the codes with `{caller} explain`");
    };
    Ok(describe(entry))
}

fn describe(entry: &Entry) -> String {
    let mut text = format!("{}: {}\n\n{}\n", entry.code, entry.title, wrap(entry.explanation, ""));
    text += &wrap(&format!("What to do: {}", entry.help), "\n");
    text.push('\n');
    if matches!(entry.source, Source::Compiler) {
        text += &wrap("The message is the Rust compiler's own, so it does not carry this code.", "\n");
        text.push('\n');
    }
    if matches!(entry.source, Source::Driver) {
        text += &wrap("The program compiles; the driver that runs it ends in an error that carries this code.", "\n");
        text.push('\n');
    }
    for (title, program) in [("Wrong", entry.wrong), ("Right", entry.right)] {
        text += &format!("\n{title}:\n\n");
        text.extend(program.lines().map(|line| format!("    {line}").trim_end().to_owned() + "\n"));
    }
    text
}

/// Breaks `text` into lines of at most [`WIDTH`] columns, after `start`.
fn wrap(text: &str, start: &str) -> String {
    let mut wrapped = start.to_owned();
    let mut column = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH {
            wrapped.push('\n');
            column = 0;
        } else if column > 0 {
            wrapped.push(' ');
            column += 1;
        }
        wrapped += word;
        column += length;
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: &str = "cargo cotangent";

    #[test]
    fn every_code_in_the_list_is_explained() {
        let list = text(None, CALLER).unwrap();
        assert_eq!(list.lines().count(), catalogue().len());
        for line in list.lines() {
            let code = line.split_whitespace().next().unwrap();
            let explanation = text(Some(code), CALLER).unwrap();
            assert!(explanation.starts_with(&format!("{code}: ")), "{explanation}");
            assert!(explanation.contains("\nWhat to do: "), "{explanation}");
            let (prose, programs) = explanation.split_once("\nWrong:\n").unwrap();
            assert!(prose.lines().skip(1).all(|line| line.chars().count() <= WIDTH), "{explanation}");
            assert!(programs.contains("\nRight:\n"), "{explanation}");
        }
    }

    #[test]
    fn codes_are_read_in_either_case() {
        assert_eq!(text(Some("c03"), CALLER).unwrap(), text(Some("C03"), CALLER).unwrap());
    }

    #[test]
    fn an_unknown_code_is_refused() {
        let error = text(Some("C99"), CALLER).unwrap_err().to_string();
        assert_eq!(error, "no failure has the code `C99`\n  help: list the codes with `cargo cotangent explain`");
    }
}
