//! Parses, checks and expands kernel declarations.
//!
//! `tokens -> Decl -> Kernel -> checks -> Plan -> Rust items`; each stage is a type and nothing looks back:
//! [`parse`] reads the syntax, [`model`] holds the resolved kernel without any, [`check`] refuses what cannot be right,
//! [`plan`] decides what is generated, [`emit`] writes it.

pub mod catalogue;
pub mod diagnostics;
mod parameters;
mod paths;

use proc_macro2::TokenStream;

pub use catalogue::catalogue;

/// Expands `#[derive(Parameters)]`.
pub fn parameters(input: TokenStream) -> TokenStream {
    parameters::derive(input)
}

/// x
pub fn differentiable(options: TokenStream, item: TokenStream) -> TokenStream {
    item
}
/// x
pub fn stage(options: TokenStream, item: TokenStream) -> TokenStream {
    item
}
