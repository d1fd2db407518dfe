//! `#[derive(Parameters)]`: a model's tensors as a tree with names.

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Field, Fields, GenericParam, Ident, LitStr, Type, TypeParamBound};

use crate::catalogue::Code;
use crate::diagnostics::{Diagnostic, Diagnostics, compile_errors};
use crate::paths::{Paths, read_paths};

mod distinct;

use distinct::is_called_alike;

/// Types that can never hold a tensor: named early, because the trait error for them would not say what to do.
const PLAIN_TYPES: &[&str] = &[
    "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "isize", "u8", "u16", "u32", "u64", "usize", "String",
    "PathBuf",
];

/// Expands `#[derive(Parameters)]` on a struct, or on an enum of one unnamed field per variant, that is generic over
/// exactly one mode.
pub fn derive(input: TokenStream) -> TokenStream {
    let mut diagnostics = Diagnostics::new();
    let parsed: Option<DeriveInput> = diagnostics.keep(syn::parse2(input));
    let tree = parsed.as_ref().and_then(|input| Tree::read(input, &mut diagnostics));
    let found = diagnostics.finish();
    let errors = compile_errors(&found);
    // Even a wrong tree gets its implementation, so that the models that use it are not full of errors.
    let implementation = tree.map(|tree| if found.is_empty() { tree.implement() } else { tree.stand_in() });
    quote!(#errors #implementation)
}

/// The type, resolved.
struct Tree {
    name: Ident,
    mode: Ident,
    bounds: TokenStream,
    shape: Shape,
    paths: Paths,
}

enum Shape {
    Struct(Vec<Branch>),
    Enum(Vec<(Ident, Type)>),
}

/// One field of a struct.
struct Branch {
    member: TokenStream,
    ty: Type,
    kind: BranchKind,
}

enum BranchKind {
    Config,
    Named(String),
    Numbered(usize),
    Flat,
}

/// The bodies of the generated methods, and what must hold beside them.
struct Bodies {
    leaves: TokenStream,
    map: TokenStream,
    nodes: TokenStream,
    assertions: TokenStream,
}

impl Tree {
    fn read(input: &DeriveInput, diagnostics: &mut Diagnostics) -> Option<Self> {
        let (mode, bounds) = read_mode(input, diagnostics)?;
        let shape = match &input.data {
            Data::Struct(data) => Shape::Struct(read_fields(&data.fields, &mode, diagnostics)),
            Data::Enum(data) => {
                let mut variants = Vec::new();
                for variant in &data.variants {
                    match &variant.fields {
                        Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
                            let field = &fields.unnamed[0];
                            check_mentions_mode(field, "the field", &mode, diagnostics);
                            variants.push((variant.ident.clone(), field.ty.clone()));
                        }
                        _ => diagnostics.push(
                            Diagnostic::new(
                                variant.ident.span(),
                                format!("variant `{}` must have exactly one unnamed field", variant.ident),
                            )
                            .help("move its fields into a struct that derives `Parameters` and wrap that"),
                        ),
                    }
                }
                if data.variants.is_empty() {
                    diagnostics.push(Diagnostic::new(input.ident.span(), "an enum without variants has no parameters"));
                }
                Shape::Enum(variants)
            }
            Data::Union(data) => {
                diagnostics.push(
                    Diagnostic::new(data.union_token.span, "`Parameters` cannot be derived for a union")
                        .help("use a struct or an enum"),
                );
                return None;
            }
        };
        Some(Self {
            name: input.ident.clone(),
            mode,
            bounds,
            shape,
            paths: read_paths(input, "parameters", diagnostics),
        })
    }

    fn implement(&self) -> TokenStream {
        let bodies = match &self.shape {
            Shape::Struct(branches) => self.struct_bodies(branches),
            Shape::Enum(variants) => self.enum_bodies(variants),
        };
        self.implementation(&bodies)
    }

    /// Implements the traits without bodies that could fail to type-check.
    fn stand_in(&self) -> TokenStream {
        let unreachable = quote!(::core::unreachable!("the declaration did not compile"));
        self.implementation(&Bodies {
            leaves: unreachable.clone(),
            map: unreachable.clone(),
            nodes: unreachable,
            assertions: TokenStream::new(),
        })
    }

    fn implementation(&self, bodies: &Bodies) -> TokenStream {
        let Self { name, mode, bounds, paths, .. } = self;
        let Bodies { leaves, map, nodes, assertions } = bodies;
        let parameters = paths.parameters(quote!(Parameters));
        let path_type = paths.parameters(quote!(Path));
        let leaf = paths.parameters(quote!(Leaf));
        let derived = paths.private(quote!(DerivedParameters));
        let names_of_leaves = self.names_of_leaves();
        let tensor = paths.item(quote!(Tensor));
        let mode_trait = paths.item(quote!(Mode));
        let result_of_self = paths.result(quote!(Self::In<__N>));
        let result_of_tensor = paths.result(quote!(#tensor<__N>));
        let any = quote!(dyn ::core::any::Any);
        quote! {
            #[automatically_derived]
            impl<#mode: #bounds> #derived for #name<#mode> {}

            #[automatically_derived]
            impl<#mode: #bounds> #parameters for #name<#mode> {
                type Mode = #mode;
                type In<__N: #mode_trait> = #name<__N>;
                #names_of_leaves

                #[allow(unused_variables)]
                fn leaves<'__a>(
                    &'__a self,
                    path: &mut #path_type,
                    visitor: &mut dyn ::core::ops::FnMut(&#path_type, #leaf<'__a, #mode>),
                ) {
                    #leaves
                }

                #[allow(unused_variables)]
                fn map<__N: #mode_trait>(
                    &self,
                    path: &mut #path_type,
                    map: &mut dyn ::core::ops::FnMut(&#path_type, #leaf<'_, #mode>) -> #result_of_tensor,
                ) -> #result_of_self {
                    #map
                }

                fn nodes(&mut self, path: &mut #path_type, visitor: &mut dyn ::core::ops::FnMut(&#path_type, &mut #any)) {
                    #nodes
                }
            }
            #assertions
        }
    }

    fn struct_bodies(&self, branches: &[Branch]) -> Bodies {
        let parameters = self.paths.parameters(quote!(Parameters));
        let config = self.paths.parameters(quote!(Config));
        let (mut leaves, mut maps, mut nodes) = (vec![], vec![], vec![quote!(visitor(path, self);)]);
        let (mut fields, mut assertions) = (vec![], vec![]);
        for (index, Branch { member, ty, kind }) in branches.iter().enumerate() {
            let mapped = format_ident!("__field_{index}", span = Span::mixed_site());
            let span = ty.span();
            let (enter, leave) = match kind {
                BranchKind::Named(segment) => (quote!(path.push(#segment);), quote!(path.pop();)),
                BranchKind::Numbered(index) => (quote!(path.push_index(#index);), quote!(path.pop();)),
                BranchKind::Flat => (quote!(), quote!()),
                BranchKind::Config => {
                    fields.push(quote!(#member: ::core::clone::Clone::clone(&self.#member)));
                    assertions.push(quote_spanned!(span=> is_config::<#ty>();));
                    continue;
                }
            };
            let ty = at_one_place(ty);
            leaves.push(quote_spanned! {span=>
                #enter <#ty as #parameters>::leaves(&self.#member, path, &mut *visitor); #leave
            });
            maps.push(quote_spanned! {span=>
                #enter
                let #mapped = <#ty as #parameters>::map::<__N>(&self.#member, path, &mut *map);
                #leave
            });
            nodes.push(quote_spanned! {span=>
                #enter <#ty as #parameters>::nodes(&mut self.#member, path, &mut *visitor); #leave
            });
            fields.push(quote!(#member: #mapped?));
        }
        let name = &self.name;
        let distinct = self.distinct_names(branches);
        let assertions = (!assertions.is_empty()).then(|| {
            quote! {
                const _: () = {
                    #[allow(dead_code)]
                    fn is_config<T: #config>() {}
                    #[allow(dead_code)]
                    fn fields_marked_config_are_plain() { #(#assertions)* }
                };
            }
        });
        Bodies {
            leaves: quote!(#(#leaves)*),
            map: quote!(#(#maps)* ::core::result::Result::Ok(#name { #(#fields),* })),
            nodes: quote!(#(#nodes)*),
            assertions: quote!(#assertions #distinct),
        }
    }

    fn enum_bodies(&self, variants: &[(Ident, Type)]) -> Bodies {
        let parameters = self.paths.parameters(quote!(Parameters));
        let name = &self.name;
        let arms = |call: &dyn Fn(&Ident, &TokenStream) -> TokenStream| {
            let arms = variants.iter().map(|(variant, ty)| {
                let ty = at_one_place(ty);
                let call = call(variant, &ty);
                quote_spanned!(ty.span()=> Self::#variant(field) => #call,)
            });
            quote!(match self { #(#arms)* })
        };
        Bodies {
            leaves: arms(&|_, ty| quote_spanned!(ty.span()=> <#ty as #parameters>::leaves(field, path, visitor))),
            map: arms(
                &|variant, ty| quote_spanned!(ty.span()=> <#ty as #parameters>::map::<__N>(field, path, map).map(#name::#variant)),
            ),
            nodes: {
                let inner =
                    arms(&|_, ty| quote_spanned!(ty.span()=> <#ty as #parameters>::nodes(field, path, visitor)));
                quote!(visitor(path, self); #inner)
            },
            assertions: TokenStream::new(),
        }
    }
}

/// Finds the one type parameter, and its bounds without a default.
fn read_mode(input: &DeriveInput, diagnostics: &mut Diagnostics) -> Option<(Ident, TokenStream)> {
    let generics = &input.generics;
    let mode = generics.type_params().find(|parameter| parameter.bounds.iter().any(is_mode));
    let Some(mode) = mode.or_else(|| generics.type_params().next()) else {
        diagnostics.push(
            Diagnostic::new(input.ident.span(), format!("`{}` has no mode parameter", input.ident))
                .help(format!("write `{}<M: Mode>` and `Tensor<M>` for its tensors", input.ident)),
        );
        return None;
    };
    // A bound in a `where` clause gets the error below.
    if !mode.bounds.iter().any(is_mode) && generics.where_clause.is_none() {
        diagnostics.push(
            Diagnostic::new(mode.ident.span(), format!("`{}` is not a mode", mode.ident))
                .help(format!("write `{}: Mode`", mode.ident)),
        );
    }
    for other in
        generics.params.iter().filter(|other| !matches!(other, GenericParam::Type(other) if other.ident == mode.ident))
    {
        diagnostics.push(
            Diagnostic::new(other.span(), "a parameter tree is generic over one mode and nothing else")
                .help("keep sizes in `#[config]` fields and write the types of the fields out"),
        );
    }
    if let Some(clause) = &generics.where_clause {
        diagnostics.push(
            Diagnostic::new(clause.where_token.span, "a parameter tree has no `where` clause")
                .help("put the bound `Mode` on the parameter itself"),
        );
    }
    // With other parameters no implementation could name the type, and without a mode none would compile.
    (generics.params.len() == 1 && mode.bounds.iter().any(is_mode))
        .then(|| (mode.ident.clone(), mode.bounds.to_token_stream()))
}

/// The type with all its tokens at the place of the first: what the compiler says of it, it says in several places of the
/// expansion, and shows once if these are one.
fn at_one_place(ty: &Type) -> TokenStream {
    fn at(tokens: TokenStream, span: Span) -> TokenStream {
        let moved = tokens.into_iter().map(|token| {
            let mut token = match token {
                TokenTree::Group(group) => Group::new(group.delimiter(), at(group.stream(), span)).into(),
                other => other,
            };
            token.set_span(span);
            token
        });
        moved.collect()
    }
    at(ty.to_token_stream(), ty.span())
}

fn is_mode(bound: &TypeParamBound) -> bool {
    match bound {
        TypeParamBound::Trait(bound) => bound.path.segments.last().is_some_and(|last| last.ident == "Mode"),
        _ => false,
    }
}

fn read_fields(fields: &Fields, mode: &Ident, diagnostics: &mut Diagnostics) -> Vec<Branch> {
    let mut branches = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let (member, label) = match &field.ident {
            Some(name) => (name.to_token_stream(), format!("field `{name}`")),
            None => (syn::Index::from(index).to_token_stream(), format!("field {index}")),
        };
        let options = FieldOptions::read(field, diagnostics);
        let kind = match (options.config, options.path) {
            (Some(config), path) => {
                if path.is_some() {
                    diagnostics.push(
                        Diagnostic::new(config, format!("{label} is both `#[config]` and `#[parameters(..)]`"))
                            .help("keep one of the two: a config field has no place in the tree"),
                    );
                } else if mentions(&field.ty, mode) {
                    diagnostics.push(
                        Diagnostic::new(
                            config,
                            format!("{label} depends on the mode `{mode}`, so it is no plain value"),
                        )
                        .help("remove `#[config]`: what holds tensors is part of the tree"),
                    );
                }
                BranchKind::Config
            }
            (None, path) => {
                check_mentions_mode(field, &label, mode, diagnostics);
                path.unwrap_or_else(|| match &field.ident {
                    Some(name) => BranchKind::Named(syn::ext::IdentExt::unraw(name).to_string()),
                    None => BranchKind::Numbered(index),
                })
            }
        };
        if let (BranchKind::Flat, Type::Path(path)) = (&kind, &field.ty)
            && is_tensor(path)
        {
            diagnostics.push(
                Diagnostic::new(field.ty.span(), format!("{label} is a tensor, which `flatten` leaves without a name"))
                    .help("remove `flatten`, or name it with `rename = \"..\"`"),
            );
        }
        let branch = Branch { member, ty: field.ty.clone(), kind };
        if let Some(other) = branches.iter().find(|other| is_called_alike(&branch, other)) {
            let BranchKind::Named(name) = &other.kind else { continue };
            let span = options.span.unwrap_or_else(|| field.span());
            diagnostics.push(
                Diagnostic::coded(
                    Code::C21,
                    span,
                    format!("{label} is called `{name}`, and so is field `{}`", other.member),
                )
                .help(
                    "give each its own name: gradients of one name are added, and one weight is written over the other",
                ),
            );
            continue;
        }
        branches.push(branch);
    }
    branches
}

/// `Tensor<..>`, `Option<Tensor<..>>`
fn is_tensor(path: &syn::TypePath) -> bool {
    let Some(last) = path.path.segments.last() else { return false };
    match &last.arguments {
        _ if last.ident == "Tensor" => true,
        syn::PathArguments::AngleBracketed(inner) if last.ident == "Option" => {
            matches!(inner.args.first(), Some(syn::GenericArgument::Type(Type::Path(inner))) if is_tensor(inner))
        }
        _ => false,
    }
}

fn check_mentions_mode(field: &Field, label: &str, mode: &Ident, diagnostics: &mut Diagnostics) {
    if mentions(&field.ty, mode) {
        return;
    }
    let ty = field.ty.to_token_stream().to_string().replace(' ', "");
    let plain = matches!(&field.ty, Type::Path(path) if path.path.get_ident().is_some_and(|name| PLAIN_TYPES.iter().any(|plain| name == plain)));
    let message = if plain {
        format!("{label} is a plain `{ty}`, which holds no tensors")
    } else {
        format!("{label} of type `{ty}` does not depend on the mode `{mode}`, so it cannot hold this tree's tensors")
    };
    diagnostics.push(
        Diagnostic::new(field.ty.span(), message)
            .help(format!("mark it `#[config]` if it is a plain value, or make its type generic over `{mode}`")),
    );
}

fn mentions(ty: &Type, mode: &Ident) -> bool {
    fn search(tokens: TokenStream, name: &Ident) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Ident(ident) => ident == *name,
            TokenTree::Group(group) => search(group.stream(), name),
            _ => false,
        })
    }
    search(ty.to_token_stream(), mode)
}

/// The options in a field's attributes.
#[derive(Default)]
struct FieldOptions {
    config: Option<Span>,
    path: Option<BranchKind>,
    /// The place of the field's name in the tree, where that name is given.
    span: Option<Span>,
}

impl FieldOptions {
    fn read(field: &Field, diagnostics: &mut Diagnostics) -> Self {
        let mut options = Self::default();
        for attribute in &field.attrs {
            if attribute.path().is_ident("config") {
                diagnostics.keep(attribute.meta.require_path_only().map(|_| ()));
                options.config = Some(attribute.path().span());
            } else if attribute.path().is_ident("parameters") {
                let parsed = attribute.parse_nested_meta(|meta| {
                    if options.path.is_some() {
                        return Err(meta.error("a field takes one of `rename = \"..\"` and `flatten`, once"));
                    }
                    if meta.path.is_ident("flatten") {
                        options.path = Some(BranchKind::Flat);
                        Ok(())
                    } else if meta.path.is_ident("rename") {
                        let segment: LitStr = meta.value()?.parse()?;
                        if segment.value().is_empty() || segment.value().split('.').any(str::is_empty) {
                            return Err(syn::Error::new(segment.span(), "a path has no empty segment"));
                        }
                        options.path = Some(BranchKind::Named(segment.value()));
                        options.span = Some(segment.span());
                        Ok(())
                    } else {
                        Err(meta.error("unknown option; a field takes `rename = \"..\"` or `flatten`"))
                    }
                });
                diagnostics.keep(parsed);
            }
        }
        options
    }
}
