//! Constant assertions that compare a backward with its forward, in whatever crate that is.
//!
//! Each stands alone, outside generic items, so that `cargo check` evaluates it; each is spanned on the port it is about.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt as _;

use super::respan;
use crate::model::kernel::DeclarationRole;
use crate::paths::Paths;
use crate::plan::Plan;

/// The assertions of a backward, or the pairing of a forward, for the block of the kernel's implementation. That the other
/// kernel is the one that is meant is asked where its declaration is named, in the route.
pub fn emit(plan: &Plan, paths: &Paths) -> TokenStream {
    let kernel = &plan.kernel;
    let name = &kernel.name;
    match &kernel.role {
        DeclarationRole::Forward(route) => {
            let Some((backward, _)) = &route.backward else { return TokenStream::new() };
            let paired_with = paths.kernel(quote!(PairedWith));
            let partner = partner(plan).expect("it is named");
            let alias = alias(&partner, backward);
            quote! {
                #alias
                impl #paired_with<#partner> for #name {}
            }
        }
        DeclarationRole::Backward { of, span, .. } => {
            let kernel_trait = paths.kernel(quote!(Kernel));
            let backward_of = paths.kernel(quote!(BackwardOf));
            let paired_with = paths.kernel(quote!(PairedWith));
            let signature = paths.signature(quote!(Signature));
            let assertions = paths.kernel(quote!(pairing));
            let partner = partner(plan).expect("it is named");
            let alias = alias(&partner, of);
            // One constant for the forward: if that is no kernel, or has another backward, this is the only error.
            let forward = format_ident!("__FORWARD_OF_{}", name.unraw(), span = *span);
            let asked = quote_spanned!(*span=> <#partner as #paired_with<#name>>::FORWARD);
            let assertion = |span: Span, function: TokenStream, index: Option<usize>| {
                let index = index.map(|index| quote!(, #index));
                let assertion = quote! {
                    const _: () = #assertions::#function(&#forward, &<#name as #kernel_trait>::SIGNATURE #index);
                };
                respan(assertion, span)
            };
            let each = |names: Vec<&Ident>, function: TokenStream| -> TokenStream {
                let names = names.into_iter().enumerate();
                names.map(|(index, name)| assertion(name.span(), function.clone(), Some(index))).collect()
            };
            let ports = each(kernel.inputs.iter().map(|port| &port.name).collect(), quote!(assert_input));
            let gradients = each(kernel.outputs.iter().map(|port| &port.name).collect(), quote!(assert_gradient));
            let scalars = each(kernel.scalars.iter().map(|scalar| &scalar.name).collect(), quote!(assert_scalar));
            let constants =
                each(kernel.constants.iter().map(|constant| &constant.name).collect(), quote!(assert_constant));
            let whole: TokenStream =
                [quote!(assert_every_gradient), quote!(assert_every_cotangent), quote!(assert_every_residual)]
                    .into_iter()
                    .map(|function| assertion(name.span(), function, None))
                    .collect();
            quote! {
                #alias
                impl #backward_of<#partner> for #name {}
                #[allow(non_upper_case_globals)]
                const #forward: #signature = #asked;
                #ports #gradients #scalars #constants #whole
            }
        }
        DeclarationRole::Stage => TokenStream::new(),
    }
}

/// The name under which the expansion speaks of the other kernel of a pair, so that a path that leads nowhere is one error.
pub fn partner(plan: &Plan) -> Option<Ident> {
    let (role, span) = match &plan.kernel.role {
        DeclarationRole::Forward(route) => ("backward_of", route.backward.as_ref()?.1),
        DeclarationRole::Backward { span, .. } => ("forward_of", *span),
        DeclarationRole::Stage => return None,
    };
    Some(format_ident!("__{role}_{}", plan.kernel.name.unraw(), span = span))
}

fn alias(partner: &Ident, path: &TokenStream) -> TokenStream {
    quote! {
        #[allow(non_camel_case_types)]
        type #partner = #path;
    }
}
