//! `docs/mistakes.md` quotes what was said: each line of a quotation stands in the file that is linked before it.

use std::fs;
use std::path::{Path, PathBuf};

/// A quotation and the file it is from.
struct Quotation {
    file: PathBuf,
    lines: Vec<String>,
}

fn quotations(page: &str, folder: &Path) -> Vec<Quotation> {
    let mut quotations = Vec::new();
    let mut file = None;
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line == "```text" {
            let quoted = lines.by_ref().take_while(|line| *line != "```").map(str::to_owned).collect();
            let file = folder.join::<&str>(file.expect("a link before the first quotation"));
            quotations.push(Quotation { file, lines: quoted });
        } else if let Some((_, target)) = line.rsplit_once("](") {
            file = target.split_once(')').map(|(target, _)| target);
        }
    }
    quotations
}

/// Returns the text without the compiler's gutter, and with one space where there are several.
fn words(text: &str) -> String {
    let words = text.split_whitespace().filter(|word| *word != "|" && *word != "=");
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn every_quotation_is_from_the_file_that_is_linked() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let page = fs::read_to_string(folder.join("mistakes.md")).unwrap();
    let quotations = quotations(&page, &folder);
    assert!(quotations.len() > 30, "{} quotations were found", quotations.len());
    for Quotation { file, lines } in quotations {
        let text = words(&fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())));
        for line in lines {
            assert!(text.contains(&words(&line)), "`{line}` is not in {}", file.display());
        }
    }
}

#[test]
fn every_mistake_of_the_script_is_on_the_page() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let said = fs::read_to_string(folder.join("reference/mistakes.txt")).unwrap();
    let script = fs::read_to_string(folder.join("reference/mistakes.py")).unwrap();
    let page = words(&fs::read_to_string(folder.join("../docs/mistakes.md")).unwrap());
    let made = script.lines().filter(|line| *line == "@mistake").count();
    let answers: Vec<&str> = said.lines().filter(|line| line.starts_with("  ")).collect();
    assert_eq!(answers.len(), made);
    for answer in answers {
        assert!(page.contains(&words(answer)), "`{answer}` is not on the page");
    }
}
