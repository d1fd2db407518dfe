//! The constant data of a kernel: signature, cases, route.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote, quote_spanned};

use crate::model::expression::{Atom, Operation, Polynomial};
use crate::model::kernel::{Binding, ConstantKind, DeclarationRole, ScalarKind};
use crate::model::port::{Dtype, Port, PortDtype, PortRole, Sample};
use crate::paths::Paths;
use crate::plan::Plan;

/// `Signature { .. }`.
pub fn signature(plan: &Plan, paths: &Paths) -> TokenStream {
    let kernel = &plan.kernel;
    let signature = paths.signature(quote!(Signature));
    let name = kernel.name.to_string();
    let dtypes = kernel.dtypes.iter().map(|parameter| {
        let path = paths.signature(quote!(DtypeParameter));
        let name = parameter.name.to_string();
        let class = parameter.class.iter().map(|dtype| self::dtype(*dtype, paths));
        quote!(#path { name: #name, class: &[#(#class),*] })
    });
    let constants = kernel.constants.iter().map(|constant| {
        let path = paths.signature(quote!(TemplateConstant));
        let kind_path = paths.signature(quote!(ConstantKind));
        let name = constant.name.to_string();
        let kind = match constant.kind {
            ConstantKind::Usize => quote!(Usize),
            ConstantKind::I32 => quote!(I32),
            ConstantKind::Bool => quote!(Bool),
        };
        let bound = match constant.bound {
            Some(bound) => {
                let bound = binding(bound, paths);
                quote!(::core::option::Option::Some(#bound))
            }
            None => quote!(::core::option::Option::None),
        };
        quote!(#path { name: #name, kind: #kind_path::#kind, bound: #bound })
    });
    let dimensions = kernel.dimensions.iter().map(|dimension| {
        let path = paths.signature(quote!(Dimension));
        let name = &dimension.name;
        let bound = binding(dimension.bound, paths);
        quote!(#path { name: #name, bound: #bound })
    });
    let inputs = kernel.inputs.iter().map(|input| port(input, paths));
    let outputs = kernel.outputs.iter().map(|output| port(output, paths));
    let scalars = kernel.scalars.iter().map(|scalar| {
        let path = paths.signature(quote!(Scalar));
        let kind_path = paths.signature(quote!(ScalarKind));
        let name = scalar.name.to_string();
        let kind = match scalar.kind {
            ScalarKind::F32 => quote!(F32),
            ScalarKind::I32 => quote!(I32),
            ScalarKind::U32 => quote!(U32),
            ScalarKind::Bool => quote!(Bool),
        };
        let domain = super::option(scalar.domain.as_ref().map(|(low, high, reason)| quote!((#low, #high, #reason))));
        quote!(#path { name: #name, kind: #kind_path::#kind, domain: #domain })
    });
    let requirements = kernel.requirements.iter().map(|requirement| {
        let path = paths.signature(quote!(Requirement));
        let relation_path = paths.signature(quote!(Relation));
        let relation = format_ident!("{}", requirement.relation.variant());
        let (left, right) = (expression(&requirement.left, paths), expression(&requirement.right, paths));
        let text = requirement.to_string();
        quote!(#path { text: #text, left: #left, relation: #relation_path::#relation, right: #right })
    });
    let ignores: Vec<String> = match &kernel.role {
        DeclarationRole::Backward { ignores, .. } => ignores.iter().map(Ident::to_string).collect(),
        _ => Vec::new(),
    };
    quote! {
        #signature {
            name: #name,
            module: ::core::module_path!(),
            dtypes: &[#(#dtypes),*],
            constants: &[#(#constants),*],
            dimensions: &[#(#dimensions),*],
            inputs: &[#(#inputs),*],
            outputs: &[#(#outputs),*],
            scalars: &[#(#scalars),*],
            requirements: &[#(#requirements),*],
            ignores: &[#(#ignores),*],
        }
    }
}

fn binding(bound: Binding, paths: &Paths) -> TokenStream {
    let path = paths.signature(quote!(Binding));
    let Binding { input, axis } = bound;
    quote!(#path { input: #input, axis: #axis })
}

fn dtype(dtype: Dtype, paths: &Paths) -> TokenStream {
    let path = paths.item(quote!(Dtype));
    let variant = format_ident!("{dtype:?}");
    quote!(#path::#variant)
}

fn port(port: &Port, paths: &Paths) -> TokenStream {
    let path = paths.signature(quote!(Port));
    let role_path = paths.signature(quote!(PortRole));
    let dtype_path = paths.signature(quote!(PortDtype));
    let extent_path = paths.signature(quote!(Extent));
    let name = port.name.to_string();
    let dtype = match &port.dtype {
        PortDtype::Fixed(fixed) => {
            let fixed = self::dtype(*fixed, paths);
            quote!(#dtype_path::Fixed(#fixed))
        }
        PortDtype::Parameter { name, .. } => quote!(#dtype_path::Parameter(#name)),
    };
    let shape = port.shape.iter().map(|(extent, _)| {
        let text = extent.to_string();
        let value = expression(extent, paths);
        quote!(#extent_path { text: #text, value: #value })
    });
    let shape_text = port.shape_text();
    let role = match port.role {
        PortRole::Differentiable => quote!(Differentiable),
        PortRole::Constant => quote!(Constant),
        PortRole::Index => quote!(Index),
        PortRole::Mask => quote!(Mask),
        PortRole::Output => quote!(Output),
        PortRole::Saved => quote!(Saved),
    };
    let optional = port.optional;
    let sample_path = paths.signature(quote!(Sample));
    let sample = match &port.sample {
        Sample::Default => quote!(#sample_path::Default),
        Sample::Floats(low, high) => quote!(#sample_path::Floats(#low, #high)),
        Sample::Domain(low, high, reason) => quote!(#sample_path::Domain(#low, #high, #reason)),
        Sample::Differs(reason) => quote!(#sample_path::Differs(#reason)),
        Sample::Integers(low, high) => {
            let (low, high) = (expression(low, paths), expression(high, paths));
            quote!(#sample_path::Integers(#low, #high))
        }
    };
    quote! {
        #path {
            name: #name,
            dtype: #dtype,
            shape: &[#(#shape),*],
            shape_text: #shape_text,
            role: #role_path::#role,
            optional: #optional,
            sample: #sample,
        }
    }
}

/// `Expression::..`, the value of an extent as data.
pub fn expression(value: &Polynomial, paths: &Paths) -> TokenStream {
    let path = paths.signature(quote!(Expression));
    let terms: Vec<TokenStream> = value
        .terms()
        .map(|(coefficient, atoms)| {
            let mut factors: Vec<TokenStream> = atoms.iter().map(|atom| self::atom(atom, paths)).collect();
            if coefficient != 1 || factors.is_empty() {
                factors.insert(0, quote!(#path::Constant(#coefficient)));
            }
            if factors.len() == 1 { factors.remove(0) } else { quote!(#path::Product(&[#(#factors),*])) }
        })
        .collect();
    match terms.as_slice() {
        [] => quote!(#path::Constant(0i64)),
        [one] => one.clone(),
        several => quote!(#path::Sum(&[#(#several),*])),
    }
}

fn atom(atom: &Atom, paths: &Paths) -> TokenStream {
    let path = paths.signature(quote!(Expression));
    match atom {
        Atom::Symbol(name) => quote!(#path::Symbol(#name)),
        Atom::Operation(operation, left, right) => {
            let variant = match operation {
                Operation::Quotient => quote!(Quotient),
                Operation::Remainder => quote!(Remainder),
                Operation::CeilingQuotient => quote!(CeilingQuotient),
                Operation::Minimum => quote!(Minimum),
                Operation::Maximum => quote!(Maximum),
            };
            let (left, right) = (expression(left, paths), expression(right, paths));
            quote!(#path::#variant(&#left, &#right))
        }
    }
}

/// `[&[("B", 1), ..], ..]`.
pub fn cases(plan: &Plan) -> TokenStream {
    let cases = plan.kernel.cases.iter().map(|case| {
        let values = case.values.iter().map(|(name, value)| {
            let name = name.to_string();
            quote!((#name, #value))
        });
        quote!(&[#(#values),*])
    });
    quote!([#(#cases),*])
}

/// `Route::..`: where gradients come from, with functions instead of references so that two kernels may name each other.
pub fn route(plan: &Plan, paths: &Paths) -> TokenStream {
    let route_path = paths.kernel(quote!(Route));
    let name = &plan.kernel.name;
    let none = quote!(::core::option::Option::None);
    match &plan.kernel.role {
        DeclarationRole::Forward(route) => {
            if let Some((reason, _)) = &route.inference_only {
                return quote!(#route_path::InferenceOnly { reason: #reason });
            }
            let backward = route.backward.as_ref().map_or(none.clone(), |(_, span)| {
                let partner = super::pairing::partner(plan);
                let backward_of = paths.kernel(quote!(BackwardOf));
                // One question asks both whether it is a kernel and whether it is the backward of this one.
                let declaration = quote_spanned!(*span=> <#partner as #backward_of<#name>>::backward);
                quote!(::core::option::Option::Some(#declaration))
            });
            let fallback = route.fallback.as_ref().map_or(none, |_| {
                let fallback = paths.kernel(quote!(Fallback));
                let (train, infer) = (paths.item(quote!(Train)), paths.item(quote!(Infer)));
                let backend = paths.item(quote!(Backend));
                let preferred_on = route.fallback_on.iter().map(|gpu| {
                    let variant = format_ident!("{}", gpu.variant());
                    quote!(#backend::#variant)
                });
                quote! {
                    ::core::option::Option::Some(#fallback {
                        train: run_fallback::<#train>,
                        infer: run_fallback::<#infer>,
                        preferred_on: &[#(#preferred_on),*],
                    })
                }
            });
            let expensive = route.expensive;
            quote!(#route_path::Gradient { backward: #backward, fallback: #fallback, expensive: #expensive })
        }
        DeclarationRole::Backward { span, .. } => {
            let partner = super::pairing::partner(plan);
            let paired_with = paths.kernel(quote!(PairedWith));
            let declaration = quote_spanned!(*span=> <#partner as #paired_with<#name>>::forward);
            quote!(#route_path::Backward { of: #declaration })
        }
        DeclarationRole::Stage => quote!(#route_path::Stage),
    }
}
