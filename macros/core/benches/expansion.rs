//! How long kernels take to expand: all of `kernels/src` as they stand there, and the one that takes longest.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use proc_macro2::TokenStream;
use quote::ToTokens;

/// A declaration as the compiler passes it.
struct Declaration {
    name: String,
    file: PathBuf,
    expand: fn(TokenStream, TokenStream) -> TokenStream,
    options: TokenStream,
    item: TokenStream,
}

impl Declaration {
    fn expand(&self) -> TokenStream {
        cotangent_macros_core::in_file(&self.file, || (self.expand)(self.options.clone(), self.item.clone()))
    }

    /// The quickest of a few.
    fn time(&self) -> Duration {
        let once = || {
            let start = Instant::now();
            black_box(self.expand());
            start.elapsed()
        };
        (0..5).map(|_| once()).min().unwrap_or_default()
    }
}

/// Every declaration of a folder's source files.
fn declarations(folder: &Path) -> Vec<Declaration> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder of kernels") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(declarations(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.extend(declarations_in(&path));
        }
    }
    found
}

fn declarations_in(path: &Path) -> Vec<Declaration> {
    let source = std::fs::read_to_string(path).expect("a source file");
    let file = syn::parse_file(&source).expect("Rust");
    let mut declarations = Vec::new();
    for item in file.items {
        let syn::Item::Fn(mut function) = item else { continue };
        let is_kernel =
            |attribute: &syn::Attribute| ["differentiable", "stage"].iter().any(|name| attribute.path().is_ident(name));
        let Some(place) = function.attrs.iter().position(is_kernel) else { continue };
        let attribute = function.attrs.remove(place);
        let is_stage = attribute.path().is_ident("stage");
        declarations.push(Declaration {
            name: function.sig.ident.to_string(),
            file: path.to_owned(),
            expand: if is_stage { cotangent_macros_core::stage } else { cotangent_macros_core::differentiable },
            options: attribute.meta.require_list().expect("options").tokens.clone(),
            item: function.to_token_stream(),
        });
    }
    declarations
}

fn expansion(criterion: &mut Criterion) {
    let declarations = declarations(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kernels/src"));
    for declaration in &declarations {
        let expanded = declaration.expand().to_string();
        assert!(!expanded.contains("compile_error"), "`{}` is refused", declaration.name);
    }
    let mut group = criterion.benchmark_group("expansion");
    group.throughput(Throughput::Elements(declarations.len() as u64));
    group.bench_function("all kernels", |bencher| {
        bencher.iter(|| declarations.iter().for_each(|declaration| drop(black_box(declaration.expand()))));
    });
    let slowest = declarations.iter().max_by_key(|declaration| declaration.time()).expect("a kernel");
    group.throughput(Throughput::Elements(1));
    group.bench_function(format!("the slowest, {}", slowest.name), |bencher| bencher.iter(|| slowest.expand()));
    group.finish();
}

criterion_group!(benches, expansion);
criterion_main!(benches);
