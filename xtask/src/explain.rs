//! `cargo xtask explain C03`: what a code in an error message means.

use anyhow::{Context, Result, bail};
use cotangent_macros_core::catalogue::{self, Entry, Source, catalogue};
use std::path::Path;

/// Columns of a line of text.
const WIDTH: usize = 100;

/// The explanation of `code`, or the list of all codes.
pub fn text(code: Option<&str>) -> Result<String> {
    let Some(code) = code else {
        let lines = catalogue().iter().map(|entry| format!("{}  {}\n", entry.code, entry.title));
        return Ok(lines.collect());
    };
    let Some(entry) = catalogue::find(code) else {
        bail!("no failure has the code `{code}`\n  help: list the codes with `cargo xtask explain`");
    };
    Ok(describe(entry))
}

/// Writes `docs/errors`, a page for each code, which the documentation of `cotangent::errors` shows as well.
pub fn write_pages(root: &Path) -> Result<()> {
    let folder = root.join(PAGES);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    for entry in catalogue() {
        let path = folder.join(format!("{}.md", entry.code));
        std::fs::write(&path, entry.page()).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

const PAGES: &str = "docs/errors";

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

    #[test]
    fn every_code_in_the_list_is_explained() {
        let list = text(None).unwrap();
        assert_eq!(list.lines().count(), catalogue().len());
        for line in list.lines() {
            let code = line.split_whitespace().next().unwrap();
            let explanation = text(Some(code)).unwrap();
            assert!(explanation.starts_with(&format!("{code}: ")), "{explanation}");
            assert!(explanation.contains("\nWhat to do: "), "{explanation}");
            let (prose, programs) = explanation.split_once("\nWrong:\n").unwrap();
            assert!(prose.lines().skip(1).all(|line| line.chars().count() <= WIDTH), "{explanation}");
            assert!(programs.contains("\nRight:\n"), "{explanation}");
        }
    }

    #[test]
    fn every_code_has_the_page_that_the_catalogue_makes() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let module = std::fs::read_to_string(root.join("runtime/src/errors.rs")).unwrap();
        for entry in catalogue() {
            let page = std::fs::read_to_string(root.join(PAGES).join(format!("{}.md", entry.code))).unwrap_or_default();
            assert!(page == entry.page(), "`cargo xtask explain --write` writes the page of {}", entry.code);
            let listed = module.contains(&format!("{},", entry.code));
            assert!(listed, "`{}` is missing in the list of runtime/src/errors.rs", entry.code);
        }
        assert_eq!(std::fs::read_dir(root.join(PAGES)).unwrap().count(), catalogue().len());
    }

    #[test]
    fn codes_are_read_in_either_case() {
        assert_eq!(text(Some("c03")).unwrap(), text(Some("C03")).unwrap());
    }

    #[test]
    fn an_unknown_code_is_refused() {
        assert!(text(Some("C99")).unwrap_err().to_string().starts_with("no failure has the code `C99`"));
    }
}
