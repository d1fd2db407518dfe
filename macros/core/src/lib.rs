//! Parses, checks and expands kernel declarations.
//!
//! `tokens -> Decl -> Kernel -> checks -> Plan -> Rust items`; each stage is a type and nothing looks back: `parse`
//! reads the syntax, [`model`] holds the resolved kernel without any, `check` refuses what cannot be right,
//! [`mod@plan`] decides what is generated, `emit` writes it.

pub mod catalogue;
mod check;
mod config;
pub mod diagnostics;
mod emit;
mod metal;
pub mod model;
mod parameters;
mod parse;
mod paths;
pub mod plan;

use proc_macro2::TokenStream;
use quote::quote;

pub use catalogue::catalogue;
pub use metal::source::in_file;

use diagnostics::{Diagnostic, Diagnostics, compile_errors};
use parse::declaration::Decl;
use parse::options::Attribute;
use paths::Paths;
use plan::Plan;

/// Expands `#[differentiable(..)]`.
pub fn differentiable(options: TokenStream, item: TokenStream) -> TokenStream {
    expand(Attribute::Differentiable, options, item)
}

/// Expands `#[stage(..)]`.
pub fn stage(options: TokenStream, item: TokenStream) -> TokenStream {
    expand(Attribute::Stage, options, item)
}

/// Expands `#[derive(Parameters)]`.
pub fn parameters(input: TokenStream) -> TokenStream {
    parameters::derive(input)
}

/// Expands `#[derive(Config)]`.
pub fn config(input: TokenStream) -> TokenStream {
    config::derive(input)
}

/// Everything up to the tokens: the plan of a `#[differentiable]` kernel, or the mistakes found in it.
///
/// # Errors
/// The mistakes, in the order in which they were found.
pub fn plan(options: TokenStream, item: TokenStream) -> Result<Plan, Vec<Diagnostic>> {
    analyse(Attribute::Differentiable, options, item).sound()
}

/// The same of a `#[stage]`.
///
/// # Errors
/// As [`plan`](fn@plan).
pub fn plan_stage(options: TokenStream, item: TokenStream) -> Result<Plan, Vec<Diagnostic>> {
    analyse(Attribute::Stage, options, item).sound()
}

struct Analysed {
    plan: Option<Plan>,
    paths: Paths,
    mistakes: Vec<Diagnostic>,
}

impl Analysed {
    fn sound(self) -> Result<Plan, Vec<Diagnostic>> {
        match self.plan {
            Some(plan) if self.mistakes.is_empty() => Ok(plan),
            _ => Err(self.mistakes),
        }
    }
}

fn analyse(attribute: Attribute, options: TokenStream, item: TokenStream) -> Analysed {
    let mut diagnostics = Diagnostics::new();
    let declaration = Decl::read(attribute, options, item, &mut diagnostics);
    let root = declaration.as_ref().and_then(|declaration| declaration.options.root.clone());
    let paths = root.map_or_else(Paths::default, Paths::at);
    let kernel = declaration.map(|declaration| parse::resolve::resolve(declaration, &mut diagnostics));
    if let Some(kernel) = kernel.as_ref().filter(|kernel| !kernel.is_partial) {
        check::check(kernel, &mut diagnostics);
    }
    Analysed { plan: kernel.map(Plan::new), paths, mistakes: diagnostics.finish() }
}

fn expand(attribute: Attribute, options: TokenStream, item: TokenStream) -> TokenStream {
    let Analysed { plan, paths, mistakes } = analyse(attribute, options, item.clone());
    match plan {
        Some(plan) if mistakes.is_empty() => emit::emit(&plan, &paths),
        Some(plan) => {
            let errors = compile_errors(&mistakes);
            let stand_in = emit::stand_in(&plan, &paths);
            quote!(#errors #stand_in)
        }
        // No function was found under the attribute; whatever stands there may still be used by others.
        None => {
            let errors = compile_errors(&mistakes);
            let kept = syn::parse2::<syn::Item>(item.clone()).is_ok().then_some(item);
            quote!(#errors #kept)
        }
    }
}
