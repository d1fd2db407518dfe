//! The function that models (or, for a stage, Rust bodies) call.

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use super::{documentation, inputs};
use crate::model::kernel::{Argument, ConstantKind, DeclarationRole, Kernel, Route, ScalarKind};
use crate::model::port::{Port, PortRole};
use crate::paths::Paths;
use crate::plan::{FunctionKind, Plan};

/// The function with the structs of its signature.
pub fn emit(plan: &Plan, paths: &Paths) -> TokenStream {
    emit_with_body(plan, paths, call(plan, paths), TokenStream::new())
}

/// Writes the function with another body: after an error nothing may be called.
pub fn emit_with_body(plan: &Plan, paths: &Paths, body: TokenStream, allowance: TokenStream) -> TokenStream {
    if plan.function == FunctionKind::None {
        return TokenStream::new();
    }
    let kernel = &plan.kernel;
    let (name, visibility, attributes) = (&kernel.name, &kernel.visibility, &kernel.attributes);
    let documentation = documentation::lines(plan);
    let infer = paths.item(quote!(Infer));
    let generic_mode = quote!(M);
    let mode = if plan.function == FunctionKind::Stage { &infer } else { &generic_mode };
    let parameters = match inputs::ty(plan, mode) {
        Some(inputs) => vec![quote!(inputs: #inputs)],
        None => parameters(kernel, mode, paths),
    };
    let result = paths.result(returned_type(plan, mode, paths));
    let graph = paths.item(quote!(Graph));
    let (generics, first) = match plan.function {
        FunctionKind::Stage => {
            let stages = paths.kernel(quote!(Stages));
            (quote!(), quote!(__stages: &#stages,))
        }
        FunctionKind::InferenceOnly => {
            let bound = inference_mode(plan, paths);
            (quote!(<M: #graph + #bound>), quote!())
        }
        _ => (quote!(<M: #graph>), quote!()),
    };
    let names = super::allowed_names(kernel);
    let types = types(plan, paths);
    quote! {
        #types
        #(#attributes)*
        #(#[doc = #documentation])*
        #[allow(clippy::too_many_arguments)]
        #names
        #allowance
        #visibility fn #name #generics(#first #(#parameters),*) -> #result {
            #body
        }
    }
}

fn call(plan: &Plan, paths: &Paths) -> TokenStream {
    let kernel = &plan.kernel;
    let name = &kernel.name;
    let value = paths.kernel(quote!(PortValue));
    let scalar_value = paths.kernel(quote!(ScalarValue));
    let constant_value = paths.kernel(quote!(ConstantValue));
    let argument = |name: &Ident| if plan.inputs_name.is_some() { quote!(inputs.#name) } else { quote!(#name) };
    let inputs = kernel.inputs.iter().map(|port| {
        let given = argument(&port.name);
        quote!(#value::new(#given))
    });
    let scalars = kernel.scalars.iter().map(|scalar| {
        let given = argument(&scalar.name);
        quote!(#scalar_value::new(#given))
    });
    let constants = kernel.free_constants().map(|constant| {
        let text = constant.name.to_string();
        let given = argument(&kernel.argument(&constant.name));
        quote!((#text, #constant_value::new(#given)))
    });
    let dtypes = kernel.free_dtypes().map(|parameter| {
        let text = parameter.name.to_string();
        let given = argument(&kernel.argument(&parameter.name));
        quote!((#text, #given))
    });
    let (function, right, dtypes) = match plan.function {
        FunctionKind::Stage => {
            let function = paths.kernel(quote!(call_stage));
            (quote!(#function::<#name>), quote!(__stages,), quote!(&[#(#dtypes),*],))
        }
        _ => {
            let function = paths.kernel(quote!(call));
            (quote!(#function::<#name, M>), quote!(), quote!())
        }
    };
    let returned = match &plan.outputs_name {
        Some(outputs) => {
            let fields = kernel.visible_outputs().enumerate().map(|(index, port)| {
                let name = &port.name;
                let getter = output_getter(port);
                quote!(#name: outputs.#getter(#index)?)
            });
            let types = &plan.types;
            quote!(::core::result::Result::Ok(#types::#outputs { #(#fields),* }))
        }
        None => {
            let getter = kernel.visible_outputs().next().map(output_getter);
            quote!(outputs.#getter(0usize))
        }
    };
    quote! {
        let outputs = #function(
            #right
            ::std::vec![#(#inputs),*],
            &[#(#scalars),*],
            &[#(#constants),*],
            #dtypes
        )?;
        #returned
    }
}

fn parameters(kernel: &Kernel, mode: &TokenStream, paths: &Paths) -> Vec<TokenStream> {
    let types = argument_types(kernel, mode, &TokenStream::new(), paths);
    let written = kernel.arguments.iter().map(Some).chain(std::iter::repeat(None));
    let arguments = kernel.argument_names().into_iter().zip(types).zip(written);
    arguments
        .map(|((name, ty), argument)| match argument {
            // An argument that cannot be read accepts anything, so that its calls give no further errors.
            Some(Argument::Unreadable(_)) => quote!(#name: impl ::core::marker::Sized),
            _ => quote!(#name: #ty),
        })
        .collect()
}

/// The types of the generated function's arguments, in order. References live for `lifetime`, if it is no empty one.
pub fn argument_types(kernel: &Kernel, mode: &TokenStream, lifetime: &TokenStream, paths: &Paths) -> Vec<TokenStream> {
    let arguments = kernel.arguments.iter().map(|argument| match argument {
        Argument::Input(index) => {
            let port = &kernel.inputs[*index];
            input_type(port.role, port.optional, mode, lifetime, paths)
        }
        Argument::Scalar(index) => scalar_type(kernel.scalars[*index].kind),
        Argument::Unreadable(index) => {
            let one = &kernel.unreadable[*index];
            input_type(one.role, one.optional, mode, lifetime, paths)
        }
    });
    let constants = kernel.free_constants().map(|constant| constant_type(constant.kind));
    let dtypes = kernel.free_dtypes().map(|_| paths.item(quote!(Dtype)));
    arguments.chain(constants).chain(dtypes).collect()
}

fn constant_type(kind: ConstantKind) -> TokenStream {
    match kind {
        ConstantKind::Usize => quote!(usize),
        ConstantKind::I32 => quote!(i32),
        ConstantKind::Bool => quote!(bool),
    }
}

/// Returns what the function returns, without the `Result` around it.
pub fn returned_type(plan: &Plan, mode: &TokenStream, paths: &Paths) -> TokenStream {
    let types = &plan.types;
    match &plan.outputs_name {
        Some(outputs) if plan.outputs_have_a_mode() => quote!(#types::#outputs<#mode>),
        Some(outputs) => quote!(#types::#outputs),
        None => plan.kernel.visible_outputs().next().map(|port| output_type(port, mode, paths)).unwrap_or(quote!(())),
    }
}

/// The structs of named inputs and of several outputs, in their module, with the names under which models know them.
fn types(plan: &Plan, paths: &Paths) -> TokenStream {
    let names: Vec<&Ident> = [&plan.inputs_name, &plan.outputs_name].into_iter().flatten().collect();
    if names.is_empty() {
        return TokenStream::new();
    }
    let (types, visibility) = (&plan.types, &plan.kernel.visibility);
    let configuration = super::configuration(plan);
    let inside = visibility_one_module_deeper(visibility);
    let paths = paths.one_module_deeper();
    let inputs = inputs::item(plan, &inside, &paths);
    let outputs = outputs_struct(plan, &inside, &paths);
    let uses = names.into_iter().map(|name| {
        quote! {
            #(#configuration)*
            #[allow(unused_imports)]
            #visibility use #types::#name;
        }
    });
    quote! {
        #(#configuration)*
        #[allow(unused_imports)]
        mod #types {
            use super::*;
            #inputs
            #outputs
        }
        #(#uses)*
    }
}

/// The visibility that an item has to have in a module inside the one in which it has `visibility`.
fn visibility_one_module_deeper(visibility: &TokenStream) -> TokenStream {
    match syn::parse2(visibility.clone()) {
        Ok(syn::Visibility::Inherited) => quote!(pub(super)),
        Ok(syn::Visibility::Restricted(restricted)) => {
            let path = &restricted.path;
            match path.segments.first().map(|first| first.ident.to_string()).as_deref() {
                Some("self") => quote!(pub(super)),
                Some("super") => quote!(pub(in super::#path)),
                _ => visibility.clone(),
            }
        }
        _ => visibility.clone(),
    }
}

fn outputs_struct(plan: &Plan, visibility: &TokenStream, paths: &Paths) -> TokenStream {
    let Some(outputs) = &plan.outputs_name else { return TokenStream::new() };
    let kernel = &plan.kernel;
    let graph = paths.item(quote!(Graph));
    let mode = quote!(M);
    let text = format!("What [`{0}`](fn@{0}) returns.", kernel.name);
    let fields = kernel.visible_outputs().map(|port| {
        let (name, ty) = (&port.name, output_type(port, &mode, paths));
        let text = documentation::port(port);
        quote!(#[doc = #text] #visibility #name: #ty)
    });
    let names = super::allowed_names(kernel);
    let generics = plan.outputs_have_a_mode().then(|| quote!(<M: #graph>));
    quote! {
        #[doc = #text]
        #names
        #visibility struct #outputs #generics { #(#fields),* }
    }
}

/// The bound of the mode of an inference-only kernel, placed where the author gives the reason: the compiler shows that line.
fn inference_mode(plan: &Plan, paths: &Paths) -> TokenStream {
    let bound = paths.kernel(quote!(InferenceMode));
    let name = &plan.kernel.name;
    match &plan.kernel.role {
        DeclarationRole::Forward(Route { inference_only: Some((_, span)), .. }) => {
            super::respan(quote!(#bound<#name>), *span)
        }
        _ => quote!(#bound<#name>),
    }
}

/// The type of an input in a signature: a reference, or an `Option` of one.
pub fn input_type(
    role: PortRole,
    optional: bool,
    mode: &TokenStream,
    lifetime: &TokenStream,
    paths: &Paths,
) -> TokenStream {
    let ty = match role {
        PortRole::Constant => paths.item(quote!(Constant)),
        PortRole::Index => paths.item(quote!(Indices)),
        PortRole::Mask => paths.item(quote!(Mask)),
        PortRole::Differentiable | PortRole::Output | PortRole::Saved => paths.item(quote!(Tensor<#mode>)),
    };
    if optional { quote!(::core::option::Option<&#lifetime #ty>) } else { quote!(&#lifetime #ty) }
}

/// The type of an output in a function's result.
pub fn output_type(port: &Port, mode: &TokenStream, paths: &Paths) -> TokenStream {
    if port.dtype.is_float() {
        paths.item(quote!(Tensor<#mode>))
    } else if port.dtype.is_bool() {
        paths.item(quote!(Mask))
    } else {
        paths.item(quote!(Indices))
    }
}

fn output_getter(port: &Port) -> TokenStream {
    if port.dtype.is_float() {
        quote!(tensor)
    } else if port.dtype.is_bool() {
        quote!(mask)
    } else {
        quote!(indices)
    }
}

/// The type of a scalar.
pub fn scalar_type(kind: ScalarKind) -> TokenStream {
    match kind {
        ScalarKind::F32 => quote!(f32),
        ScalarKind::I32 => quote!(i32),
        ScalarKind::U32 => quote!(u32),
        ScalarKind::Bool => quote!(bool),
    }
}
