//! `docs/errors`, a page for each code, and `docs/codes.md`, the files that raise each.

use anyhow::{Context, Result};
use cotangent_macros_core::catalogue::{Source, catalogue};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Writes `docs/errors`, a page for each code, which the documentation of `cotangent::errors` shows as well.
pub fn write(root: &Path) -> Result<()> {
    let folder = root.join(PAGES);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    for entry in catalogue() {
        let path = folder.join(format!("{}.md", entry.code));
        fs::write(&path, entry.page()).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    fs::write(root.join(TABLE), table(root)?).with_context(|| format!("cannot write `{TABLE}`"))
}

const TABLE: &str = "docs/codes.md";

/// The folders in which codes are raised; the catalogue only explains them.
const SOURCES: [&str; 5] = ["macros/core/src", "runtime/src", "kernels/src", "models/src", "trainer/src"];
const CATALOGUE: &str = "macros/core/src/catalogue.rs";

/// The files that raise each code, as a page.
fn table(root: &Path) -> Result<String> {
    let mut files: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for folder in SOURCES {
        collect(root, &root.join(folder), &mut files)?;
    }
    let mut page = String::from(
        "# Where each code is raised\n\n`cargo xtask explain --write` writes this page from the sources; a test holds it to them. \
         `cargo cotangent explain C05`\nand [`errors`](errors) say what a code means.\n\n| code | what is wrong | raised in |\n\
         |---|---|---|\n",
    );
    for entry in catalogue() {
        let mut places: Vec<String> = match files.get(entry.code.name()) {
            Some(files) => files.iter().map(|file| format!("`{file}`")).collect(),
            None => Vec::new(),
        };
        if entry.source == Source::Compiler {
            places.insert(0, "the Rust compiler".to_owned());
        }
        let _ = writeln!(page, "| [{0}](errors/{0}.md) | {1} | {2} |", entry.code, entry.title, places.join(", "));
    }
    Ok(page)
}

/// Adds what the sources below `folder` raise.
fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, BTreeSet<String>>) -> Result<()> {
    let context = || format!("cannot read `{}`", folder.display());
    for entry in fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if name.ends_with(".rs") && !name.contains("/tests") && name != CATALOGUE {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{name}`"))?;
            for code in raised(&text) {
                files.entry(code).or_default().insert(name.clone());
            }
        }
    }
    Ok(())
}

/// The codes that a source raises: `Code::C05`, or in the text of a message `[C05]` or `"C05"`, except for tests and comments.
fn raised(text: &str) -> BTreeSet<String> {
    const BEFORE: [&str; 3] = ["Code::", "[", "\""];
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let codes = lines.flat_map(|line| {
        line.match_indices('C').filter_map(|(at, _)| {
            let code = line.get(at..at + 3).filter(|code| code[1..].bytes().all(|byte| byte.is_ascii_digit()))?;
            let ends = !line[at + 3..].starts_with(|next: char| next.is_alphanumeric() || next == '_');
            (ends && BEFORE.iter().any(|before| line[..at].ends_with(before))).then(|| code.to_owned())
        })
    });
    codes.collect()
}

const PAGES: &str = "docs/errors";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_raised_where_it_stands_in_code() {
        let text = "// [C01]\nfault(Code::C02, C03);\nconst MESSAGE: &str = \"two of them [C08] [C11]\";\nrefused(\"C20\")\n\
                    see(\"C1\", \"C123\");\n#[cfg(test)]\nmod tests { Code::C04 }\n";
        assert_eq!(Vec::from_iter(raised(text)), ["C02", "C08", "C11", "C20"]);
    }

    #[test]
    fn the_table_names_the_files_that_raise_each_code() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let expected = table(root).unwrap();
        let found = fs::read_to_string(root.join(TABLE)).unwrap_or_default();
        assert!(found == expected, "`cargo xtask explain --write` writes `{TABLE}`:\n{expected}");
        let nowhere: Vec<&str> = expected.lines().filter(|line| line.ends_with("|  |")).collect();
        assert_eq!(nowhere, [""; 0], "codes that nothing raises");
    }

    #[test]
    fn every_code_has_the_page_that_the_catalogue_makes() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let module = fs::read_to_string(root.join("runtime/src/errors.rs")).unwrap();
        for entry in catalogue() {
            let page = fs::read_to_string(root.join(PAGES).join(format!("{}.md", entry.code))).unwrap_or_default();
            assert!(page == entry.page(), "`cargo xtask explain --write` writes the page of {}", entry.code);
            let listed = module.contains(&format!("{},", entry.code));
            assert!(listed, "`{}` is missing in the list of runtime/src/errors.rs", entry.code);
        }
        assert_eq!(fs::read_dir(root.join(PAGES)).unwrap().count(), catalogue().len());
    }
}
