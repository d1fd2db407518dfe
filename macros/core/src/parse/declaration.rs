//! Reads the whole declaration: attributes, the function's head, and which kind of body it has.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{ItemFn, ReturnType, Stmt};

use super::options::{Attribute, Options};
use super::signature::{ConstantSyntax, Parameter, read_generics, read_parameters};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::model::port::Dtype;

/// A declaration as written.
pub struct Decl {
    /// The attribute it stands under.
    pub attribute: Attribute,
    /// Its options.
    pub options: Options,
    /// Documentation and `cfg`.
    pub attributes: Vec<TokenStream>,
    /// Visibility.
    pub visibility: TokenStream,
    /// Name.
    pub name: Ident,
    /// Dtype parameters with their classes.
    pub dtypes: Vec<(Ident, Vec<Dtype>)>,
    /// Template constants.
    pub constants: Vec<ConstantSyntax>,
    /// Ports and scalars.
    pub parameters: Vec<Parameter>,
    /// Body.
    pub body: BodySyntax,
}

/// A body as written.
pub enum BodySyntax {
    /// `metal! { .. }`, perhaps beside `cuda! { .. }`.
    Metal {
        /// Tokens of the Metal text.
        metal: TokenStream,
        /// Where the text begins.
        span: Span,
        /// Tokens of the CUDA text.
        cuda: Option<TokenStream>,
    },
    /// Anything else.
    Rust {
        /// The block.
        block: TokenStream,
        /// Where it begins.
        span: Span,
        /// Every identifier in it.
        identifiers: Vec<Ident>,
    },
}

impl Decl {
    /// Reads an attribute and the item under it. Nothing comes back if the item is no function.
    pub fn read(
        attribute: Attribute,
        options: TokenStream,
        item: TokenStream,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let options = Options::read(attribute, options, diagnostics);
        let function: ItemFn = match syn::parse2(item) {
            Ok(function) => function,
            Err(error) => {
                diagnostics.push(
                    Diagnostic::from(error).help("declare a kernel as `pub fn name(x: In![..], y: Out![..]) { .. }`"),
                );
                return None;
            }
        };
        check_head(&function, diagnostics);
        let (dtypes, constants) = read_generics(&function.sig.generics, diagnostics);
        let parameters = read_parameters(function.sig.inputs.iter(), diagnostics);
        let attributes = function
            .attrs
            .iter()
            .filter(|attribute| {
                let kept = ["doc", "cfg", "deprecated", "must_use"].iter().any(|name| attribute.path().is_ident(name));
                if !kept {
                    diagnostics.push(
                        Diagnostic::new(attribute.path().span(), "this attribute has no meaning on a kernel")
                            .help("remove it, or put it on a function that calls the kernel"),
                    );
                }
                kept
            })
            .map(ToTokens::to_token_stream)
            .collect();
        Some(Self {
            attribute,
            options,
            attributes,
            visibility: function.vis.to_token_stream(),
            name: function.sig.ident.clone(),
            dtypes,
            constants,
            parameters,
            body: BodySyntax::read(&function, diagnostics),
        })
    }
}

fn check_head(function: &ItemFn, diagnostics: &mut Diagnostics) {
    let signature = &function.sig;
    let qualifiers = [
        signature.constness.map(|token| token.span),
        signature.asyncness.map(|token| token.span),
        signature.abi.as_ref().map(|abi| abi.extern_token.span),
        signature.variadic.as_ref().map(Spanned::span),
    ];
    for span in qualifiers.into_iter().flatten() {
        diagnostics.push(Diagnostic::new(span, "a kernel is a plain `fn`").help("remove the qualifier"));
    }
    if let ReturnType::Type(arrow, _) = &signature.output {
        diagnostics.push(
            Diagnostic::new(arrow.span(), "a kernel returns through its `Out!` ports")
                .help("remove the return type; a Rust body ends in `Ok(Outputs { .. })`"),
        );
    }
}

impl BodySyntax {
    fn read(function: &ItemFn, diagnostics: &mut Diagnostics) -> Self {
        let block = &function.block;
        let (mut metal, mut cuda) = (None, None);
        let mut others = false;
        for statement in &block.stmts {
            match statement {
                Stmt::Macro(statement) if statement.mac.path.is_ident("metal") => {
                    let span =
                        statement.mac.tokens.clone().into_iter().next().map_or(block.span(), |token| token.span());
                    if metal.replace((statement.mac.tokens.clone(), span)).is_some() {
                        diagnostics.push(Diagnostic::new(statement.mac.path.span(), "a kernel is one launch").help(
                            "declare each launch with `#[stage]` and compose them in a Rust body with `stages = [..]`",
                        ));
                    }
                }
                Stmt::Macro(statement) if statement.mac.path.is_ident("cuda") => {
                    if cuda.replace(statement.mac.tokens.clone()).is_some() {
                        diagnostics.push(Diagnostic::new(statement.mac.path.span(), "a kernel has one CUDA text"));
                    }
                }
                _ => others = true,
            }
        }
        match metal {
            Some((metal, span)) if !others => Self::Metal { metal, span, cuda },
            Some((metal, span)) => {
                diagnostics.push(
                    Diagnostic::new(span, "a launch stands alone in its kernel")
                        .help("declare it with `#[stage]` and call it from the Rust body"),
                );
                Self::Metal { metal, span, cuda }
            }
            None => {
                if block.stmts.is_empty() {
                    diagnostics.push(
                        Diagnostic::new(
                            function.sig.ident.span(),
                            format!("kernel `{}` has no body", function.sig.ident),
                        )
                        .help("write `metal! { .. }`, or Rust that ends in `Ok(Outputs { .. })`"),
                    );
                }
                let block = block.to_token_stream();
                let mut identifiers = Vec::new();
                collect_identifiers(block.clone(), &mut identifiers);
                Self::Rust { span: function.block.brace_token.span.open(), block, identifiers }
            }
        }
    }
}

/// Every identifier of `tokens`, groups included.
pub fn collect_identifiers(tokens: TokenStream, identifiers: &mut Vec<Ident>) {
    for token in tokens {
        match token {
            TokenTree::Ident(identifier) => identifiers.push(identifier),
            TokenTree::Group(group) => collect_identifiers(group.stream(), identifiers),
            _ => {}
        }
    }
}
