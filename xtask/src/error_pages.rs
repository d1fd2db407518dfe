//! `docs/errors`: a page for each code.

use anyhow::{Context, Result};
use cotangent_macros_core::catalogue::catalogue;
use std::path::Path;

/// Writes `docs/errors`, a page for each code, which the documentation of `cotangent::errors` shows as well.
pub fn write(root: &Path) -> Result<()> {
    let folder = root.join(PAGES);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    for entry in catalogue() {
        let path = folder.join(format!("{}.md", entry.code));
        std::fs::write(&path, entry.page()).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

const PAGES: &str = "docs/errors";

#[cfg(test)]
mod tests {
    use super::*;

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
}
