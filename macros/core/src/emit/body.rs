//! The body of a kernel: the data of a launch, or a Rust function behind a function pointer.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote, quote_spanned};

use super::data;
use super::function::{input_type, output_type, scalar_type};
use crate::model::body::{Body, Launch, RustBody};
use crate::model::kernel::{ConstantKind, DeclarationRole, Kernel, ScalarKind};
use crate::model::port::{Port, PortRole};
use crate::paths::Paths;
use crate::plan::{Plan, Texts};
use cotangent_metal::tokens::text::{Origin, Text};

/// Tokens of a body.
pub struct BodyTokens {
    /// Items beside the implementation of `Kernel`.
    pub items: TokenStream,
    /// `Body::..`.
    pub value: TokenStream,
}

/// Emits the body and, if the kernel has one, the call of its fallback.
pub fn emit(plan: &Plan, paths: &Paths) -> BodyTokens {
    let fallback = fallback(plan, paths);
    let BodyTokens { items, value } = match (&plan.kernel.body, &plan.texts) {
        (Body::Launch(body), Some(texts)) => launch(body, texts, paths),
        (Body::Rust(body), _) => rust(plan, body, paths),
        (Body::Launch(_), None) => BodyTokens { items: TokenStream::new(), value: TokenStream::new() },
    };
    BodyTokens { items: quote!(#items #fallback), value }
}

fn launch(launch: &Launch, texts: &Texts, paths: &Paths) -> BodyTokens {
    let body_path = paths.kernel(quote!(Body));
    let launch_path = paths.kernel(quote!(Launch));
    let metal = content(&launch.metal);
    let cuda = option(launch.cuda.as_ref().map(content));
    let dimensions = &texts.dimensions;
    let (sizes, headers) = (&texts.sizes, &launch.headers);
    let extents = |given: &Option<(crate::model::kernel::Extents, proc_macro2::Span)>| {
        let extents = given.iter().flat_map(|(extents, _)| extents).map(|extent| data::expression(extent, paths));
        quote!([#(#extents),*])
    };
    let (grid, threads) = (extents(&launch.grid), extents(&launch.threads));
    let threadgroup_bytes = data::expression(&texts.threadgroup_bytes, paths);
    let init = option(launch.init.map(|value| quote!(#value)));
    let (atomic, nondeterministic, strided) = (launch.atomic.is_some(), launch.nondeterministic, launch.strided);
    let (file, line) = match &launch.metal.origin {
        Origin::Macro(span) => (option(None), quote_spanned!(*span=> ::core::line!())),
        Origin::File { written, .. } => (option(Some(written.to_token_stream())), quote!(1u32)),
    };
    let value = quote! {
        #body_path::Launch(#launch_path {
            metal: #metal,
            cuda: #cuda,
            headers: &[#(#headers),*],
            dimensions: &[#(#dimensions),*],
            sizes: &[#(#sizes),*],
            grid: #grid,
            threads: #threads,
            threadgroup_bytes: #threadgroup_bytes,
            init: #init,
            atomic: #atomic,
            nondeterministic: #nondeterministic,
            strided: #strided,
            file: #file,
            line: #line,
        })
    };
    BodyTokens { items: TokenStream::new(), value }
}

/// The text itself, or the file that holds it: then the compiler reads it again when it changes.
fn content(text: &Text) -> TokenStream {
    match &text.origin {
        Origin::Macro(_) => text.content.to_token_stream(),
        Origin::File { written, .. } => quote!(::core::include_str!(#written)),
    }
}

/// `Some(..)` or `None`.
pub fn option(value: Option<TokenStream>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}

/// `Outputs`, the author's function, and the function that unpacks its arguments.
fn rust(plan: &Plan, body: &RustBody, paths: &Paths) -> BodyTokens {
    let kernel = &plan.kernel;
    let infer = paths.item(quote!(Infer));
    let call_type = paths.kernel(quote!(Call));
    let value_type = paths.kernel(quote!(PortValue));
    let body_path = paths.kernel(quote!(Body));
    let result_of_values = paths.result(quote!(::std::vec::Vec<::core::option::Option<#value_type>>));
    let result_of_outputs = paths.result(quote!(Outputs));

    let names = super::allowed_names(kernel);
    let fields = kernel.outputs.iter().map(|port| {
        let name = &port.name;
        let ty = output_type(port, &infer, paths);
        if plan.outputs_are_optional() { quote!(#name: ::core::option::Option<#ty>) } else { quote!(#name: #ty) }
    });
    let mut parameters = Vec::new();
    let mut arguments = Vec::new();
    for (index, port) in kernel.inputs.iter().enumerate() {
        let name = &port.name;
        let ty = input_type(port.role, port.optional, &infer, &TokenStream::new(), paths);
        parameters.push(quote!(#name: #ty));
        arguments.push(input(port, index, paths));
    }
    for (index, scalar) in kernel.scalars.iter().enumerate() {
        let name = &scalar.name;
        let ty = scalar_type(scalar.kind);
        let getter = scalar_getter(scalar.kind);
        parameters.push(quote!(#name: #ty));
        arguments.push(quote!(call.#getter(#index)?));
    }
    for dimension in &kernel.dimensions {
        // The body uses dimensions by name, so they take its hygiene.
        let name = format_ident!("{}", dimension.name, span = body.span.resolved_at(proc_macro2::Span::call_site()));
        let text = &dimension.name;
        parameters.push(quote!(#name: i32));
        arguments.push(quote!(call.dimension(#text)?));
    }
    for size in &kernel.sizes {
        let (name, value) = (&size.name, data::expression(&size.value, paths));
        parameters.push(quote!(#name: i32));
        arguments.push(quote!(call.size(&#value)?));
    }
    for constant in &kernel.constants {
        let name = &constant.name;
        let text = name.to_string();
        let (ty, getter) = match constant.kind {
            ConstantKind::Usize => (quote!(usize), quote!(constant_usize)),
            ConstantKind::I32 => (quote!(i32), quote!(constant_i32)),
            ConstantKind::Bool => (quote!(bool), quote!(constant_bool)),
        };
        parameters.push(quote!(#name: #ty));
        arguments.push(quote!(call.#getter(#text)?));
    }
    let dtype_type = paths.item(quote!(Dtype));
    for parameter in &kernel.dtypes {
        let name = &parameter.name;
        let text = name.to_string();
        parameters.push(quote!(#name: #dtype_type));
        arguments.push(quote!(call.dtype(#text)?));
    }
    for (index, name) in plan.wants.iter().enumerate() {
        parameters.push(quote!(#name: bool));
        arguments.push(quote!(call.wants(#index)));
    }
    let stages_type = paths.kernel(quote!(Stages));
    if !body.stages.is_empty() {
        let name = format_ident!("stages", span = body.span.resolved_at(proc_macro2::Span::call_site()));
        parameters.push(quote!(#name: &#stages_type));
        arguments.push(quote!(&call.stages()));
    }
    let returned = kernel.outputs.iter().map(|port| {
        let name = &port.name;
        if plan.outputs_are_optional() {
            quote!(outputs.#name.map(#value_type::new))
        } else {
            quote!(::core::option::Option::Some(#value_type::new(outputs.#name)))
        }
    });
    let block = &body.block;
    let kernel_trait = paths.kernel(quote!(Kernel));
    let stages = body.stages.iter().map(|stage| quote!(<#stage as #kernel_trait>::declaration));
    let items = quote! {
        /// What the body returns: one field for each output.
        #names
        struct Outputs { #(#fields),* }

        #[allow(non_snake_case, unused_variables, clippy::too_many_arguments)]
        fn body(#(#parameters),*) -> #result_of_outputs #block

        fn run_body(call: &#call_type<'_, #infer>) -> #result_of_values {
            let outputs = body(#(#arguments),*)?;
            ::core::result::Result::Ok(::std::vec![#(#returned),*])
        }
    };
    BodyTokens { items, value: quote!(#body_path::Rust { run: run_body, stages: &[#(#stages),*] }) }
}

/// The function that calls the author's fallback with the arguments of a call.
fn fallback(plan: &Plan, paths: &Paths) -> TokenStream {
    let DeclarationRole::Forward(route) = &plan.kernel.role else { return TokenStream::new() };
    let Some((path, span)) = &route.fallback else { return TokenStream::new() };
    let kernel = &plan.kernel;
    let graph = paths.item(quote!(Graph));
    let call_type = paths.kernel(quote!(Call));
    let value_type = paths.kernel(quote!(PortValue));
    let result = paths.result(quote!(::std::vec::Vec<::core::option::Option<#value_type>>));
    let arguments = fallback_arguments(kernel, paths);
    let (binding, returned) = match &plan.outputs_name {
        Some(outputs) => {
            let values = kernel.visible_outputs().map(|port| {
                let name = &port.name;
                quote!(::core::option::Option::Some(#value_type::new(outputs.#name)))
            });
            let (types, mode) = (&plan.types, plan.outputs_have_a_mode().then(|| quote!(<M>)));
            (quote!(outputs: #types::#outputs #mode), quote!(#(#values),*))
        }
        None => {
            let mode = quote!(M);
            let ty = kernel.visible_outputs().next().map(|port| output_type(port, &mode, paths));
            (quote!(outputs: #ty), quote!(::core::option::Option::Some(#value_type::new(outputs))))
        }
    };
    let parameters = |mode: &TokenStream| match super::inputs::ty(plan, mode) {
        Some(ty) => vec![ty],
        None => super::function::argument_types(kernel, mode, &TokenStream::new(), paths),
    };
    let given = match &plan.inputs_name {
        Some(inputs) => {
            let (types, names) = (&plan.types, kernel.argument_names());
            quote!(#types::#inputs { #(#names: #arguments),* })
        }
        None => quote!(#(#arguments),*),
    };
    let mode = quote!(M);
    let returned_type = paths.result(super::function::returned_type(plan, &mode, paths));
    // The arguments come first, then the rest of the type, so that each mistake is one error, at its name, that shows both types.
    let (taken, every) = (parameters(&quote!(_)), parameters(&mode));
    let function = quote_spanned!(*span=> #path);
    let as_fallback = paths.kernel(quote!(FallbackAs));
    let as_declared = quote_spanned!(*span=> __fallback);
    quote! {
        fn run_fallback<M: #graph>(call: &#call_type<'_, M>) -> #result {
            let __fallback: fn(#(#taken),*) -> _ = #function;
            let fallback = #as_fallback::<fn(#(#every),*) -> #returned_type>::fallback(#as_declared);
            let #binding = fallback(#given)?;
            ::core::result::Result::Ok(::std::vec![#returned])
        }
    }
}

fn fallback_arguments(kernel: &Kernel, paths: &Paths) -> Vec<TokenStream> {
    let mut arguments: Vec<TokenStream> = kernel
        .arguments
        .iter()
        .map(|argument| match argument {
            crate::model::kernel::Argument::Input(index) => input(&kernel.inputs[*index], *index, paths),
            crate::model::kernel::Argument::Scalar(index) => {
                let getter = scalar_getter(kernel.scalars[*index].kind);
                quote!(call.#getter(#index)?)
            }
            crate::model::kernel::Argument::Unreadable(_) => TokenStream::new(),
        })
        .collect();
    for constant in kernel.free_constants() {
        let text = constant.name.to_string();
        let getter = match constant.kind {
            ConstantKind::Usize => quote!(constant_usize),
            ConstantKind::I32 => quote!(constant_i32),
            ConstantKind::Bool => quote!(constant_bool),
        };
        arguments.push(quote!(call.#getter(#text)?));
    }
    arguments
}

/// An input of a call as an argument of the author's function.
fn input(port: &Port, index: usize, paths: &Paths) -> TokenStream {
    let getter = match port.role {
        PortRole::Constant => quote!(constant),
        PortRole::Index => quote!(indices),
        PortRole::Mask => quote!(mask),
        PortRole::Differentiable | PortRole::Output | PortRole::Saved => quote!(tensor),
    };
    if port.optional {
        let call_type = paths.kernel(quote!(Call));
        quote!(call.optional(#index, #call_type::#getter)?.as_ref())
    } else {
        quote!(&call.#getter(#index)?)
    }
}

fn scalar_getter(kind: ScalarKind) -> TokenStream {
    match kind {
        ScalarKind::F32 => quote!(scalar_f32),
        ScalarKind::I32 => quote!(scalar_i32),
        ScalarKind::U32 => quote!(scalar_u32),
        ScalarKind::Bool => quote!(scalar_bool),
    }
}
