//! `#[derive(Config)]`: plain data that a tree of parameters may hold.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Fields, Type};

use crate::diagnostics::{Diagnostic, Diagnostics, compile_errors};
use crate::paths::{Paths, read_paths};

/// Expands `#[derive(Config)]` on a struct or an enum of plain data.
pub fn derive(input: TokenStream) -> TokenStream {
    let mut diagnostics = Diagnostics::new();
    let parsed: Option<DeriveInput> = diagnostics.keep(syn::parse2(input));
    let implementation = parsed.as_ref().and_then(|input| {
        let types = field_types(input, &mut diagnostics)?;
        let paths = read_paths(input, "config", &mut diagnostics);
        Some(implement(input, &types, &paths))
    });
    let errors = compile_errors(&diagnostics.finish());
    quote!(#errors #implementation)
}

fn field_types<'a>(input: &'a DeriveInput, diagnostics: &mut Diagnostics) -> Option<Vec<&'a Type>> {
    if !input.generics.params.is_empty() {
        diagnostics.push(
            Diagnostic::new(input.generics.span(), "plain data has no parameters: they could stand for tensors")
                .help("write the types of the fields out"),
        );
        return None;
    }
    let fields: Vec<&Fields> = match &input.data {
        Data::Struct(data) => vec![&data.fields],
        Data::Enum(data) => data.variants.iter().map(|variant| &variant.fields).collect(),
        Data::Union(data) => {
            diagnostics.push(
                Diagnostic::new(data.union_token.span, "`Config` cannot be derived for a union")
                    .help("use a struct or an enum"),
            );
            return None;
        }
    };
    Some(fields.into_iter().flatten().map(|field| &field.ty).collect())
}

fn implement(input: &DeriveInput, types: &[&Type], paths: &Paths) -> TokenStream {
    let name = &input.ident;
    let config = paths.parameters(quote!(Config));
    let derived = paths.private(quote!(DerivedConfig));
    let checks = types.iter().map(|ty| quote_spanned!(ty.span()=> is_config::<#ty>();));
    quote! {
        #[automatically_derived]
        impl #derived for #name {}

        #[automatically_derived]
        impl #config for #name {}

        const _: () = {
            #[allow(dead_code)]
            fn is_config<T: #config>() {}
            #[allow(dead_code)]
            fn fields_are_plain() { #(#checks)* }
        };
    }
}
