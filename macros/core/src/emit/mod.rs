//! Writes a plan as Rust items: data first, then small calls into the runtime.

mod body;
mod data;
mod documentation;
mod function;
mod inputs;
mod pairing;
mod stand_in;
mod test;

use body::option;
use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::{quote, quote_spanned};

pub use stand_in::stand_in;

use crate::model::kernel::Kernel;
use crate::paths::Paths;
use crate::plan::Plan;

/// Writes every item of a kernel.
pub fn emit(plan: &Plan, paths: &Paths) -> TokenStream {
    let marker = marker(plan);
    let kernel = kernel(plan, paths);
    let function = function::emit(plan, paths);
    let test = test::emit(plan, paths);
    quote!(#marker #kernel #function #test)
}

/// The items of a kernel as one: an attribute that stands for them, on a struct that stands where they will. In an `impl`,
/// where no macro can see that it stands there, the compiler refuses one struct instead of every item.
pub fn as_one(name: &Ident, items: TokenStream, paths: &Paths) -> TokenStream {
    let attribute = paths.private(quote!(items));
    let carrier = quote_spanned!(name.span()=> struct #name;);
    quote!(#[#attribute { #items }] #carrier)
}

/// The type that stands for the kernel wherever types are asked about it. Shares its name with the function.
fn marker(plan: &Plan) -> TokenStream {
    let kernel = &plan.kernel;
    let (name, visibility) = (&kernel.name, &kernel.visibility);
    let configuration = configuration(plan);
    let documentation = format!("Stands for the kernel `{name}` wherever a type is asked about it.");
    quote! {
        #(#configuration)*
        #[doc = #documentation]
        #[allow(non_camel_case_types)]
        #visibility struct #name {}
    }
}

/// Ports that are written in upper case, as in the papers they are from, are no mistake.
fn allowed_names(kernel: &Kernel) -> Option<TokenStream> {
    let names = kernel.ports().map(|port| &port.name).chain(kernel.scalars.iter().map(|scalar| &scalar.name));
    let is_upper = |name: &proc_macro2::Ident| name.to_string().contains(|letter: char| letter.is_ascii_uppercase());
    names.into_iter().any(is_upper).then(|| quote!(#[allow(non_snake_case)]))
}

/// Puts every token at `span`: the compiler points at the whole extent of an expression, so one token elsewhere would
/// move the caret there.
fn respan(tokens: TokenStream, span: Span) -> TokenStream {
    tokens
        .into_iter()
        .map(|token| match token {
            TokenTree::Group(group) => {
                let mut group = Group::new(group.delimiter(), respan(group.stream(), span));
                group.set_span(span);
                TokenTree::Group(group)
            }
            mut other => {
                other.set_span(span);
                other
            }
        })
        .collect()
}

/// The `cfg` attributes, which every item repeats.
fn configuration(plan: &Plan) -> Vec<&TokenStream> {
    let is_configuration = |attribute: &&TokenStream| attribute.to_string().replace(' ', "").starts_with("#[cfg(");
    plan.kernel.attributes.iter().filter(is_configuration).collect()
}

/// The implementation of `Kernel`, its registration, and its pairing with another kernel, in one block: a second kernel of this
/// name has no other names in common with it.
fn kernel(plan: &Plan, paths: &Paths) -> TokenStream {
    let kernel = &plan.kernel;
    let name = &kernel.name;
    let configuration = configuration(plan);
    let kernel_trait = paths.kernel(quote!(Kernel));
    let declaration_type = paths.kernel(quote!(Declaration));
    let signature_type = paths.signature(quote!(Signature));
    let signature = data::signature(plan, paths);
    let cases = data::cases(plan);
    let case_type = paths.signature(quote!(Case));
    let route = data::route(plan, paths);
    let untested = option(kernel.untested.as_ref().map(|reason| quote!(#reason)));
    let body = body::emit(plan, paths);
    let body_value = &body.value;
    let body_items = &body.items;
    let registered = paths.kernel(quote!(registry::Registered));
    let submit = paths.kernel(quote!(registry::submit));
    let span = name.span();
    let position = quote_spanned!(span=> file: ::core::file!(), line: ::core::line!(),);
    let pairing = pairing::emit(plan, paths);
    quote! {
        #(#configuration)*
        const _: () = {
            #body_items

            impl #kernel_trait for #name {
                const SIGNATURE: #signature_type = #signature;

                fn declaration() -> &'static #declaration_type {
                    static SIGNATURE: #signature_type = <#name as #kernel_trait>::SIGNATURE;
                    static CASES: &[#case_type] = &#cases;
                    static DECLARATION: #declaration_type = #declaration_type {
                        signature: &SIGNATURE,
                        route: #route,
                        body: #body_value,
                        cases: CASES,
                        untested: #untested,
                        #position
                    };
                    &DECLARATION
                }
            }

            #pairing

            #submit! { #registered(<#name as #kernel_trait>::declaration) }
        };
    }
}
