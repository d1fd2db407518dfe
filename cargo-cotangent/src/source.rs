//! Functions that are kernels, found in source files by their attribute.

use anyhow::{Context, Result};
use proc_macro2::TokenStream;
use quote::ToTokens;
use std::fs;
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};
use syn::{Attribute, ItemFn, Meta};

/// The attribute that makes a function a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `#[differentiable]`
    Differentiable,
    /// `#[stage]`
    Stage,
}

/// A kernel as its author wrote it.
pub struct KernelSource {
    /// The attribute of the kernel.
    pub kind: Kind,
    /// The tokens in the attribute's parentheses.
    pub options: TokenStream,
    /// The function, without the attribute.
    pub function: ItemFn,
    /// `kernels/src/mrope.rs`
    pub file: String,
    /// The file with the line: `kernels/src/mrope.rs:12`
    pub place: String,
}

impl KernelSource {
    /// The name of the function.
    pub fn name(&self) -> String {
        self.function.sig.ident.to_string()
    }
}

/// The kernels in the sources below `folders`, by file and line. Places are as seen from `root`.
///
/// # Errors
/// If a file cannot be read or is not Rust.
pub fn find_all(root: &Path, folders: &[PathBuf]) -> Result<Vec<KernelSource>> {
    let mut kernels = Vec::new();
    for folder in folders {
        for file in rust_files(folder)? {
            let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
            let text = fs::read_to_string(&file).with_context(|| format!("cannot read `{name}`"))?;
            kernels.extend(find_in(&text, &name)?);
        }
    }
    Ok(kernels)
}

/// The kernels in the text of the file `name`.
pub(crate) fn find_in(text: &str, name: &str) -> Result<Vec<KernelSource>> {
    // Most files have no declaration, and need not be parsed.
    if !text.contains("differentiable") && !text.contains("stage") {
        return Ok(Vec::new());
    }
    let file = syn::parse_file(text).map_err(|error| {
        let start = error.span().start();
        anyhow::anyhow!("{name}:{}:{}: {error}", start.line, start.column + 1)
    })?;
    let mut finder = Finder { file: name, kernels: Vec::new() };
    finder.visit_file(&file);
    Ok(finder.kernels)
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot list `{}`", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

struct Finder<'f> {
    file: &'f str,
    kernels: Vec<KernelSource>,
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        let attribute = function.attrs.iter().position(|attribute| kind(attribute).is_some());
        if let Some(index) = attribute {
            let mut function = function.clone();
            let attribute = function.attrs.remove(index);
            let line = function.sig.ident.span().start().line;
            self.kernels.push(KernelSource {
                kind: kind(&attribute).expect("it was found by its kind"),
                options: match attribute.meta {
                    Meta::List(list) => list.tokens,
                    Meta::Path(_) => TokenStream::new(),
                    Meta::NameValue(pair) => pair.into_token_stream(),
                },
                function,
                file: self.file.to_owned(),
                place: format!("{}:{line}", self.file),
            });
        }
        visit::visit_item_fn(self, function);
    }
}

/// `#[differentiable(..)]` or `#[cotangent::differentiable(..)]`; so for stages.
fn kind(attribute: &Attribute) -> Option<Kind> {
    match attribute.path().segments.last()?.ident.to_string().as_str() {
        "differentiable" => Some(Kind::Differentiable),
        "stage" => Some(Kind::Stage),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
        /// Doubles.
        #[differentiable(fallback = double_ops, cases = [(N = 7)])]
        pub fn double(x: In![f32; N], y: Out![f32; N]) { metal! { y[i] = 2 * x[i]; } }

        mod inner {
            #[cotangent::stage]
            fn sum(x: In![f32; N]) {}
        }

        #[test]
        fn differentiable() {}
    ";

    #[test]
    fn kernels_are_found_by_their_attribute_in_any_module() {
        let kernels = find_in(TEXT, "kernels/src/double.rs").unwrap();
        let found: Vec<_> = kernels.iter().map(|kernel| (kernel.name(), kernel.kind, kernel.place.as_str())).collect();
        assert_eq!(
            found,
            [
                ("double".to_owned(), Kind::Differentiable, "kernels/src/double.rs:4"),
                ("sum".to_owned(), Kind::Stage, "kernels/src/double.rs:8"),
            ]
        );
        assert_eq!(kernels[0].options.to_string(), "fallback = double_ops , cases = [(N = 7)]");
        assert_eq!(kernels[0].function.attrs.len(), 1, "its documentation stays");
        assert!(kernels[1].options.is_empty());
    }

    #[test]
    fn what_is_not_rust_is_refused_with_its_place() {
        let error = find_in("#[differentiable]\nfn f( {", "kernels/src/f.rs").err().unwrap().to_string();
        assert!(error.starts_with("kernels/src/f.rs:2:"), "{error}");
    }
}
