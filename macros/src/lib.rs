//! The attribute and derive macros of Cotangent. All logic lives in `cotangent-macros-core`, an ordinary library.

use proc_macro::TokenStream;

/// Declares a kernel together with its gradient; the documentation of `cotangent::kernel` describes the whole language.
///
/// The attribute stands on a `fn` whose parameters are ports, `In![f32; B, D]` and `Out![f32; B, D]`, and scalars, and whose
/// body is one launch, `metal! { .. }` or `metal_file!("name.metal")`, or Rust that ends in `Ok(Outputs { .. })`. Options:
///
/// - `backward = kernel`: the paired gradient, which names this kernel with `backward_of = ..`,
/// - `fallback = function`: the same function made of differentiable operations; its gradient is the kernel's where the
///   pair cannot run, or where there is no pair,
/// - `inference_only = "reason"`: no gradient; no training graph can reach the kernel,
/// - `backward_of = kernel`, and `ignores(y)` for outputs whose cotangent it leaves out,
/// - `fallback_on = [metal, cuda]`: backends on which the fallback is measured to be faster, and so runs,
/// - `expensive`: its outputs are worth their memory to a backward pass that would have to compute them again,
/// - `requires = [D % 16 == 0, D <= 256]`: at which sizes the kernel runs; at others its fallback does,
/// - `dims = [CHUNKS = ceil_div(T, C), ..]`: names for expressions that shapes, extents, requirements and the body repeat,
/// - `cases = [(B = 1, D = 7), ..]`: sizes at which the kernel is tested,
/// - `untested = "reason"`: the crate gets no test of the kernel, which it would otherwise find under `kernel_NAME`,
/// - `stages = [launch, ..]`: launches that a Rust body makes,
/// - `grid`, `threads`, `init`, `atomic`, `nondeterministic`, `strided`, `headers`: how a launch runs,
/// - `crate = path`: where the runtime is, if not at `::cotangent`.
#[proc_macro_attribute]
pub fn differentiable(options: TokenStream, item: TokenStream) -> TokenStream {
    cotangent_macros_core::differentiable_as_one(options.into(), item.into()).into()
}

/// Declares a launch that only the Rust bodies of kernels may call, those that list it in `stages = [..]`.
///
/// It is written like a kernel of one launch and takes the options of a launch, `dims`, `cases`, `untested` and `crate`. It has no gradient of
/// its own: that of the kernel which calls it is declared there.
#[proc_macro_attribute]
pub fn stage(options: TokenStream, item: TokenStream) -> TokenStream {
    cotangent_macros_core::stage_as_one(options.into(), item.into()).into()
}

/// Stands for the tokens in its brackets, in place of the item under it.
///
/// The other attributes expand to one item that bears this: what is more than one item would be refused one by one where
/// no item may stand.
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
