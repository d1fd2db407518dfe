//! The test that a kernel brings into the crate that declares it.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::ext::IdentExt as _;

use crate::paths::Paths;
use crate::plan::Plan;

/// A module `kernel_NAME` with one test, unless the author took it out. A backward is tested with its forward.
///
/// Inside a function the kernel cannot be named from a module, and Rust's harness finds no test there either. So the name
/// stands for a kernel that is never run, unless the glob import, which is nearer, finds the kernel itself.
pub fn emit(plan: &Plan, paths: &Paths) -> TokenStream {
    let kernel = &plan.kernel;
    if kernel.is_backward() || kernel.untested.is_some() {
        return TokenStream::new();
    }
    let name = &kernel.name;
    let configuration = super::configuration(plan);
    let module = format_ident!("kernel_{}", name.unraw(), span = name.span());
    let paths = paths.one_module_deeper();
    let unnamed = paths.private(quote!(InsideFunction));
    let assert = paths.kernel(quote!(check::assert_declared));
    quote! {
        #(#configuration)*
        #[cfg(test)]
        #[allow(non_camel_case_types, unnameable_test_items, unused_imports, clippy::all, clippy::pedantic)]
        mod #module {
            use super::*;

            #[::core::prelude::v1::test]
            fn is_as_declared() {
                use #unnamed as #name;
                {
                    use super::*;
                    #assert::<#name>();
                }
            }
        }
    }
}
