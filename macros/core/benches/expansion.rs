//! How long a kernel takes to expand: MRoPE with its backward and its launch, as they stand in `kernels`.

use criterion::{Criterion, criterion_group, criterion_main};
use proc_macro2::TokenStream;
use quote::ToTokens;

/// Every declaration of a source file: whether it is a stage, its options, its function.
fn declarations(source: &str) -> Vec<(bool, TokenStream, TokenStream)> {
    let file = syn::parse_file(source).expect("Rust");
    let mut declarations = Vec::new();
    for item in file.items {
        let syn::Item::Fn(mut function) = item else { continue };
        let place = function
            .attrs
            .iter()
            .position(|attribute| attribute.path().is_ident("differentiable") || attribute.path().is_ident("stage"));
        let Some(place) = place else { continue };
        let attribute = function.attrs.remove(place);
        let options = attribute.meta.require_list().expect("options").tokens.clone();
        declarations.push((attribute.path().is_ident("stage"), options, function.to_token_stream()));
    }
    declarations
}

fn expansion(criterion: &mut Criterion) {
    let declarations = declarations(include_str!("../../../kernels/src/mrope.rs"));
    assert_eq!(declarations.len(), 3);
    criterion.bench_function("three declarations", |bencher| {
        bencher.iter(|| {
            for (is_stage, options, item) in &declarations {
                let expand =
                    if *is_stage { cotangent_macros_core::stage } else { cotangent_macros_core::differentiable };
                std::hint::black_box(expand(options.clone(), item.clone()));
            }
        })
    });
}

criterion_group!(benches, expansion);
criterion_main!(benches);
