//! The struct of named inputs, which a function of many ports takes.

use proc_macro2::TokenStream;
use quote::quote;

use super::{documentation, function};
use crate::paths::Paths;
use crate::plan::Plan;

/// The struct, for a module inside that of the function. It has no default, so that a call names every field, optional ones
/// too.
pub fn item(plan: &Plan, visibility: &TokenStream, paths: &Paths) -> TokenStream {
    let Some(inputs) = &plan.inputs_name else { return TokenStream::new() };
    let kernel = &plan.kernel;
    let text = format!("What [`{0}`](fn@{0}) takes, by name.", kernel.name);
    let types = function::argument_types(kernel, &quote!(M), &quote!('a), paths);
    let fields = kernel.argument_names().into_iter().zip(types).zip(documentation::arguments(kernel));
    let fields = fields.map(|((name, ty), text)| quote!(#[doc = #text] #visibility #name: #ty));
    let names = super::allowed_names(kernel);
    let graph = paths.item(quote!(Graph));
    let mode = plan.inputs_have_a_mode().then(|| quote!(, M: #graph));
    quote! {
        #[doc = #text]
        #[allow(dead_code)]
        #names
        #visibility struct #inputs<'a #mode> { #(#fields),* }
    }
}

/// The struct as the type of an argument, if the function takes one.
pub fn ty(plan: &Plan, mode: &TokenStream) -> Option<TokenStream> {
    let (inputs, types) = (plan.inputs_name.as_ref()?, &plan.types);
    let mode = plan.inputs_have_a_mode().then(|| quote!(, #mode));
    Some(quote!(#types::#inputs<'_ #mode>))
}
