//! Parses, checks and expands kernel declarations.
//!
//! `tokens -> Decl -> Kernel -> checks -> Plan -> Rust items`: each stage is a type, and none reads an earlier one's input.
//! `parse` reads the syntax, [`model`] holds the resolved kernel without syntax trees, `check` refuses what cannot be right,
//! [`mod@plan`] decides what is generated, and `emit` writes it.

pub mod catalogue;
mod check;
mod config;
pub mod diagnostics;
mod emit;
pub mod model;
mod parameters;
mod parse;
mod paths;
pub mod plan;

use proc_macro2::{Ident, TokenStream};
use quote::quote;

pub use catalogue::catalogue;
pub use cotangent_metal::tokens::text::in_file;

use diagnostics::{Diagnostic, Diagnostics, compile_errors};
use parse::declaration::Decl;
use parse::options::Attribute;
use paths::Paths;
use plan::Plan;

/// Expands `#[differentiable(..)]`.
pub fn differentiable(options: TokenStream, item: TokenStream) -> TokenStream {
    expand(Attribute::Differentiable, options, item).items
}

/// Expands `#[stage(..)]`.
pub fn stage(options: TokenStream, item: TokenStream) -> TokenStream {
    expand(Attribute::Stage, options, item).items
}

/// Expands `#[differentiable(..)]` to one item, which contains all of them.
pub fn differentiable_as_one(options: TokenStream, item: TokenStream) -> TokenStream {
    as_one(Attribute::Differentiable, options, item)
}

/// Expands `#[stage(..)]` to one item, which contains all of them.
pub fn stage_as_one(options: TokenStream, item: TokenStream) -> TokenStream {
    as_one(Attribute::Stage, options, item)
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
    // A mistake in the declaration would make a second error in these checks.
    if let Some(kernel) = kernel.as_ref().filter(|kernel| !kernel.is_partial && diagnostics.is_empty()) {
        check::check(kernel, &mut diagnostics);
    }
    Analysed { plan: kernel.map(Plan::new), paths, mistakes: diagnostics.finish() }
}

/// The items of a kernel, with its name if it has one.
struct Expanded {
    name: Option<Ident>,
    items: TokenStream,
    paths: Paths,
}

fn as_one(attribute: Attribute, options: TokenStream, item: TokenStream) -> TokenStream {
    let Expanded { name, items, paths } = expand(attribute, options, item);
    match name {
        Some(name) => emit::as_one(&name, items, &paths),
        None => items,
    }
}

fn expand(attribute: Attribute, options: TokenStream, item: TokenStream) -> Expanded {
    let Analysed { plan, paths, mistakes } = analyse(attribute, options, item.clone());
    let name = plan.as_ref().map(|plan| plan.kernel.name.clone());
    let items = match plan {
        Some(plan) if mistakes.is_empty() => emit::emit(&plan, &paths),
        Some(plan) => {
            let errors = compile_errors(&mistakes);
            let stand_in = emit::stand_in(&plan, &paths);
            quote!(#errors #stand_in)
        }
        // The attribute stands on something that is not a function. Other code may still use that item.
        None => {
            let errors = compile_errors(&mistakes);
            // A function without a body cannot be kept.
            let kept = matches!(syn::parse2(item.clone()), Ok(item) if !matches!(item, syn::Item::Verbatim(_)));
            let kept = kept.then_some(item);
            quote!(#errors #kept)
        }
    };
    Expanded { name, items, paths }
}
