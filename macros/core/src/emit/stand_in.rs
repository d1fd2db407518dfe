//! The items that replace a kernel after an error, so that the models that use it get no errors of their own.

use proc_macro2::TokenStream;
use quote::quote;

use super::{function, marker};
use crate::model::kernel::DeclarationRole;
use crate::paths::Paths;
use crate::plan::Plan;

/// The kernel's type, its traits and its function, without data and without a body.
pub fn stand_in(plan: &Plan, paths: &Paths) -> TokenStream {
    let name = &plan.kernel.name;
    let marker = marker(plan);
    let kernel_trait = paths.kernel(quote!(Kernel));
    let declaration = paths.kernel(quote!(Declaration));
    let signature = paths.signature(quote!(Signature));
    let traits = match &plan.kernel.role {
        DeclarationRole::Forward(route) => {
            let paired_with = paths.kernel(quote!(PairedWith));
            // Whatever says that it is the backward of this kernel is not blamed for what is wrong here.
            route.backward.as_ref().map_or_else(TokenStream::new, |_| quote!(impl<B> #paired_with<B> for #name {}))
        }
        DeclarationRole::Backward { .. } => {
            let backward_of = paths.kernel(quote!(BackwardOf));
            quote!(impl<F> #backward_of<F> for #name {})
        }
        DeclarationRole::Stage => TokenStream::new(),
    };
    let unreachable = quote!(::core::unreachable!("the kernel did not compile"));
    let function = function::emit_with_body(plan, paths, unreachable.clone(), quote!(#[allow(unused_variables)]));
    quote! {
        #marker
        impl #kernel_trait for #name {
            const SIGNATURE: #signature = #signature::STAND_IN;
            fn declaration() -> &'static #declaration {
                #unreachable
            }
        }
        #traits
        #function
    }
}
