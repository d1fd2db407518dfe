//! The attribute and derive macros of Cotangent. All logic lives in `cotangent-macros-core`, an ordinary library.

use proc_macro::TokenStream;

/// Declares a kernel together with its gradient; see the `cotangent::kernel` module for the whole language.
#[proc_macro_attribute]
pub fn differentiable(options: TokenStream, item: TokenStream) -> TokenStream {
    cotangent_macros_core::differentiable(options.into(), item.into()).into()
}

/// Declares a launch that only the Rust bodies of kernels may call.
#[proc_macro_attribute]
pub fn stage(options: TokenStream, item: TokenStream) -> TokenStream {
    cotangent_macros_core::stage(options.into(), item.into()).into()
}

/// Makes a struct or enum that is generic over one mode a tree of named parameters.
///
/// Every field is itself `Parameters`, or a plain value marked `#[config]`. `#[parameters(rename = "q_proj")]` sets the
/// field's path segment, `#[parameters(flatten)]` leaves it out.
#[proc_macro_derive(Parameters, attributes(config, parameters))]
pub fn parameters(input: TokenStream) -> TokenStream {
    cotangent_macros_core::parameters(input.into()).into()
}
