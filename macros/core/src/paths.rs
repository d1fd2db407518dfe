//! Every path that generated code uses, in one place.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::DeriveInput;

use crate::diagnostics::Diagnostics;

/// The path of the runtime crate: `::cotangent`, or the author's `crate = path`.
#[derive(Debug, Clone)]
pub struct Paths {
    root: TokenStream,
}

impl Default for Paths {
    fn default() -> Self {
        Self { root: quote!(::cotangent) }
    }
}

impl Paths {
    /// The runtime at another path.
    pub fn at(root: impl ToTokens) -> Self {
        Self { root: root.to_token_stream() }
    }

    /// The same paths, for a module inside the one that holds the kernel. A path that begins with a name needs no change
    /// where that module imports all names around it.
    pub fn one_module_deeper(&self) -> Self {
        let mut root = self.root.clone().into_iter();
        let rest = |root: &mut dyn Iterator<Item = TokenTree>| root.collect::<TokenStream>();
        let root = match root.next() {
            Some(TokenTree::Ident(first)) if first == "self" => {
                let rest = rest(&mut root);
                quote!(super #rest)
            }
            Some(TokenTree::Ident(first)) if first == "super" => {
                let rest = rest(&mut root);
                quote!(super::super #rest)
            }
            _ => self.root.clone(),
        };
        Self { root }
    }

    /// A public item at the root of the runtime, such as `Tensor`.
    pub fn item(&self, name: TokenStream) -> TokenStream {
        let root = &self.root;
        quote!(#root::#name)
    }

    /// An item of the runtime's `kernel` module.
    pub fn kernel(&self, name: TokenStream) -> TokenStream {
        let root = &self.root;
        quote!(#root::kernel::#name)
    }

    /// An item of the runtime's `kernel::signature` module, the constant data of a declaration.
    pub fn signature(&self, name: TokenStream) -> TokenStream {
        let root = &self.root;
        quote!(#root::kernel::signature::#name)
    }

    /// An item of the runtime's `parameters` module.
    pub fn parameters(&self, name: TokenStream) -> TokenStream {
        let root = &self.root;
        quote!(#root::parameters::#name)
    }

    /// An item that only generated code may name.
    pub fn private(&self, name: TokenStream) -> TokenStream {
        let root = &self.root;
        quote!(#root::__private::#name)
    }

    /// `::cotangent::Result<inner>`.
    pub fn result(&self, inner: TokenStream) -> TokenStream {
        let root = &self.root;
        quote!(#root::Result<#inner>)
    }
}

/// Returns where the runtime is, for a derive: `#[attribute(crate = path)]` on the type, else `::cotangent`.
pub fn read_paths(input: &DeriveInput, attribute: &str, diagnostics: &mut Diagnostics) -> Paths {
    let mut root: Option<syn::Path> = None;
    for found in input.attrs.iter().filter(|found| found.path().is_ident(attribute)) {
        let parsed = found.parse_nested_meta(|meta| {
            if !meta.path.is_ident("crate") {
                return Err(meta.error("unknown option; a type takes `crate = path::to::cotangent`"));
            }
            if root.is_some() {
                return Err(meta.error("a type takes `crate = path::to::cotangent` once"));
            }
            root = Some(meta.value()?.parse()?);
            Ok(())
        });
        diagnostics.keep(parsed);
    }
    root.map_or_else(Paths::default, Paths::at)
}
