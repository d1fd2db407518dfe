//! The attribute and derive macros of Cotangent.
//!
//! The crate `cotangent` exports them, so a program depends on that one:
//!
//! | macro | what it does |
//! |---|---|
//! | `#[differentiable]` | declares a kernel together with its gradient, and generates the function that runs it and its test |
//! | `#[stage]` | declares a launch that the Rust body of a kernel calls |
//! | `#[derive(Parameters)]` | makes a struct a tree of named tensors |
//! | `#[derive(Config)]` | marks plain data that such a tree may hold |
//!
//! The logic is in `cotangent-macros-core`, an ordinary library.

use proc_macro::TokenStream;

/// The crate `cotangent` exports this attribute, and documents it there option by option.
#[proc_macro_attribute]
pub fn differentiable(options: TokenStream, item: TokenStream) -> TokenStream {
    cotangent_macros_core::differentiable_as_one(options.into(), item.into()).into()
}

/// The crate `cotangent` exports this attribute, and documents it.
#[proc_macro_attribute]
pub fn stage(options: TokenStream, item: TokenStream) -> TokenStream {
    cotangent_macros_core::stage_as_one(options.into(), item.into()).into()
}

/// Expands to the tokens in its brackets, in place of the item under it.
///
/// The other attributes expand to one item that bears this one. Several items would be refused one by one where no item may
/// stand.
#[doc(hidden)]
#[proc_macro_attribute]
pub fn items(items: TokenStream, _: TokenStream) -> TokenStream {
    items
}

/// Makes a struct or enum that is generic over one mode a tree of named parameters.
///
/// Every field is itself `Parameters`, or a plain value marked `#[config]`. `#[parameters(rename = "q_proj")]` sets the
/// field's path segment, `#[parameters(flatten)]` leaves it out. On the type, `#[parameters(crate = path)]` says where the
/// runtime is, if not at `::cotangent`.
#[proc_macro_derive(Parameters, attributes(config, parameters))]
pub fn parameters(input: TokenStream) -> TokenStream {
    cotangent_macros_core::parameters(input.into()).into()
}

/// Marks a struct or enum of plain data, so that a field of a tree of parameters may hold it under `#[config]`.
///
/// Every field is plain data itself: a number, a bool, a string, a type that derives `Config`, or a vector, option or array
/// of these. `#[config(crate = path)]` says where the runtime is, if not at `::cotangent`.
#[proc_macro_derive(Config, attributes(config))]
pub fn config(input: TokenStream) -> TokenStream {
    cotangent_macros_core::config(input.into()).into()
}
