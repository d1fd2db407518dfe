//! Constant assertions that hold a backward against its forward, wherever that is declared.
//!
//! Each stands alone, outside generic items, so that `cargo check` evaluates it; each is spanned on the port it is about.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};

use crate::model::kernel::Role;
use crate::paths::Paths;
use crate::plan::Plan;

/// The assertions of a backward, or the question of a forward whether its backward is meant for it.
pub fn emit(plan: &Plan, paths: &Paths) -> TokenStream {
    let kernel = &plan.kernel;
    let name = &kernel.name;
    let configuration = super::configuration(plan);
    let items = match &kernel.role {
        Role::Forward(route) => {
            let Some((backward, span)) = &route.backward else { return TokenStream::new() };
            let backward_of = paths.kernel(quote!(BackwardOf));
            let paired_with = paths.kernel(quote!(PairedWith));
            let asked = quote_spanned!(*span=> asks::<#backward>(););
            quote! {
                #(#configuration)*
                const _: () = {
                    impl #paired_with<#backward> for #name {}
                    #[allow(dead_code)]
                    fn asks<B: #backward_of<#name>>() {}
                    #[allow(dead_code)]
                    fn the_backward_belongs_to_this_kernel() { #asked }
                };
            }
        }
        Role::Backward { of, span, .. } => {
            let kernel_trait = paths.kernel(quote!(Kernel));
            let paired_with = paths.kernel(quote!(PairedWith));
            let assertions = paths.kernel(quote!(pairing));
            let both =
                |span| quote_spanned!(span=> &<#of as #kernel_trait>::SIGNATURE, &<#name as #kernel_trait>::SIGNATURE);
            let ports = kernel.inputs.iter().enumerate().map(|(index, port)| {
                let span = port.name.span();
                let both = both(span);
                quote_spanned!(span=> const _: () = #assertions::assert_input(#both, #index);)
            });
            let gradients = kernel.outputs.iter().enumerate().map(|(index, port)| {
                let span = port.name.span();
                let both = both(span);
                quote_spanned!(span=> const _: () = #assertions::assert_gradient(#both, #index);)
            });
            let scalars = kernel.scalars.iter().enumerate().map(|(index, scalar)| {
                let span = scalar.name.span();
                let both = both(span);
                quote_spanned!(span=> const _: () = #assertions::assert_scalar(#both, #index);)
            });
            let constants = kernel.constants.iter().enumerate().map(|(index, constant)| {
                let span = constant.name.span();
                let both = both(span);
                quote_spanned!(span=> const _: () = #assertions::assert_constant(#both, #index);)
            });
            let whole_span = name.span();
            let both = both(whole_span);
            let whole = quote_spanned! {whole_span=>
                const _: () = #assertions::assert_every_gradient(#both);
                const _: () = #assertions::assert_every_cotangent(#both);
                const _: () = #assertions::assert_every_residual(#both);
            };
            let asked = quote_spanned!(*span=> asks::<#of>(););
            let items = quote!(#(#ports)* #(#gradients)* #(#scalars)* #(#constants)* #whole);
            if configuration.is_empty() {
                quote! {
                    #items
                    const _: () = {
                        #[allow(dead_code)]
                        fn asks<F: #paired_with<#name>>() {}
                        #[allow(dead_code)]
                        fn the_forward_names_this_kernel() { #asked }
                    };
                }
            } else {
                quote!(#(#configuration)* const _: () = { #items };)
            }
        }
        Role::Stage => TokenStream::new(),
    };
    quote!(#items)
}
