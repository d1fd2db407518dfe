//! Reads the whole declaration: attributes, the function's head, and which kind of body it has.

use proc_macro2::{Delimiter, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::spanned::Spanned;
use syn::{Expr, ItemFn, LitStr, Macro, ReturnType, Safety, Stmt};

use super::options::{Attribute, Options};
use super::signature::{ConstantSyntax, Parameter, read_generics, read_parameters};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::model::port::Dtype;
use cotangent_metal::tokens::text::Text;

/// A declaration as written.
pub struct Decl {
    /// The attribute of the declaration.
    pub attribute: Attribute,
    /// The options of the attribute.
    pub options: Options,
    /// The documentation and `cfg` attributes.
    pub attributes: Vec<TokenStream>,
    /// The visibility of the function.
    pub visibility: TokenStream,
    /// The name of the kernel.
    pub name: Ident,
    /// Dtype parameters with their classes.
    pub dtypes: Vec<(Ident, Vec<Dtype>)>,
    /// Template constants.
    pub constants: Vec<ConstantSyntax>,
    /// Ports and scalars.
    pub parameters: Vec<Parameter>,
    /// The number of outputs that could not be read, which was reported.
    pub unread_outputs: usize,
    /// The body, which says what kind of kernel it is.
    pub body: BodySyntax,
}

/// A body as written.
pub enum BodySyntax {
    /// `metal! { .. }` or `metal_file!("..")`, perhaps beside the same for CUDA.
    Metal {
        /// The Metal source.
        metal: Text,
        /// The CUDA source.
        cuda: Option<Text>,
    },
    /// Anything else.
    Rust {
        /// The block.
        block: TokenStream,
        /// The place where the block begins.
        span: Span,
        /// Every identifier in it.
        identifiers: Vec<Ident>,
    },
}

impl Decl {
    /// Reads an attribute and the item under it. Returns `None` if the item is not a function.
    pub fn read(
        attribute: Attribute,
        options: TokenStream,
        item: TokenStream,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let options = Options::read(attribute, options, diagnostics);
        let function: ItemFn = match syn::parse2(item.clone()) {
            Ok(function) => function,
            Err(error) => {
                let help = if has_a_head(item) {
                    "write the source of a launch in `metal! { .. }`: what stands in the body alone is Rust"
                } else {
                    "declare a kernel as `pub fn name(x: In![..], y: Out![..]) { .. }`"
                };
                diagnostics.push(Diagnostic::from(error).help(help));
                return None;
            }
        };
        check_head(&function, diagnostics);
        let (dtypes, constants) = read_generics(&function.sig.generics, diagnostics);
        let (parameters, unread_outputs) = read_parameters(function.sig.inputs.iter(), diagnostics);
        let attributes = function
            .attrs
            .iter()
            .filter(|attribute| match treatment(attribute) {
                Treatment::Keep => true,
                Treatment::Drop => false,
                Treatment::Refuse => {
                    diagnostics.push(
                        Diagnostic::new(attribute.path().span(), "this attribute has no meaning on a kernel")
                            .help("remove it, or put it on a function that calls the kernel"),
                    );
                    false
                }
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
            unread_outputs,
            body: BodySyntax::read(&function, diagnostics),
        })
    }
}

/// Whether all but the body is a function.
fn has_a_head(item: TokenStream) -> bool {
    let mut tokens: Vec<TokenTree> = item.into_iter().collect();
    let is_body = matches!(tokens.pop(), Some(TokenTree::Group(body)) if body.delimiter() == Delimiter::Brace);
    let head = tokens.into_iter().collect::<TokenStream>();
    is_body && syn::parse2::<ItemFn>(quote!(#head {})).is_ok()
}

/// The treatment of another attribute on the function.
enum Treatment {
    /// The attribute is put on what is generated.
    Keep,
    /// The attribute concerns only the written declaration, and is removed.
    Drop,
    Refuse,
}

fn treatment(attribute: &syn::Attribute) -> Treatment {
    const KEPT: &[&str] = &[
        "allow",
        "cfg",
        "cfg_attr",
        "cold",
        "deny",
        "deprecated",
        "doc",
        "expect",
        "forbid",
        "inline",
        "must_use",
        "track_caller",
        "warn",
    ];
    let path = attribute.path();
    let tool = path.segments.first().map(|segment| segment.ident.to_string());
    match (path.get_ident(), tool.as_deref()) {
        (Some(name), _) if KEPT.iter().any(|kept| name == kept) => Treatment::Keep,
        (None, Some("rustfmt")) => Treatment::Drop,
        (None, Some("clippy" | "diagnostic")) => Treatment::Keep,
        _ => Treatment::Refuse,
    }
}

fn check_head(function: &ItemFn, diagnostics: &mut Diagnostics) {
    let signature = &function.sig;
    let qualifiers = [
        signature.constness.map(|token| token.span),
        signature.asyncness.map(|token| token.span),
        match &signature.safety {
            Safety::Unsafe(token) => Some(token.span),
            Safety::Safe(token) => Some(token.span),
            Safety::Default => None,
        },
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
            let Some((target, invocation)) = text_of(statement) else {
                others = true;
                continue;
            };
            let span = invocation.path.span();
            let text = match target {
                Target::Metal => &mut metal,
                Target::Cuda => &mut cuda,
            };
            match (target, text.is_some()) {
                (Target::Metal, true) => {
                    diagnostics.push(Diagnostic::new(span, "a kernel is one launch").help(
                        "declare each launch with `#[stage]` and compose them in a Rust body with `stages = [..]`",
                    ))
                }
                (Target::Cuda, true) => {
                    diagnostics.push(Diagnostic::new(span, "a kernel has one CUDA text").help("remove all but one"))
                }
                (_, false) => *text = Some((read_text(invocation, block.span(), diagnostics), span)),
            }
        }
        let cuda = cuda.map(|(cuda, _)| cuda);
        match metal {
            Some((metal, span)) => {
                if others {
                    diagnostics.push(
                        Diagnostic::new(span, "a launch stands alone in its kernel")
                            .help("declare it with `#[stage]` and call it from the Rust body"),
                    );
                }
                Self::Metal { metal, cuda }
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

/// The language of a source.
#[derive(Clone, Copy)]
enum Target {
    Metal,
    Cuda,
}

/// The macro that holds or names a text, if the statement is one.
fn text_of(statement: &Stmt) -> Option<(Target, &Macro)> {
    let invocation = match statement {
        Stmt::Macro(statement) => &statement.mac,
        Stmt::Expr(Expr::Macro(expression), _) => &expression.mac,
        _ => return None,
    };
    let is = |name: &str| invocation.path.is_ident(name);
    match () {
        () if is("metal") || is("metal_file") => Some((Target::Metal, invocation)),
        () if is("cuda") || is("cuda_file") => Some((Target::Cuda, invocation)),
        () => None,
    }
}

fn read_text(invocation: &Macro, block: Span, diagnostics: &mut Diagnostics) -> Text {
    let tokens = &invocation.tokens;
    let file = if invocation.path.is_ident("cuda") { "cuda_file" } else { "metal_file" };
    let is_file = invocation.path.is_ident("metal_file") || invocation.path.is_ident("cuda_file");
    if let Some((span, what)) = quoted(tokens).filter(|_| !is_file) {
        diagnostics.push(
            Diagnostic::new(span, format!("{what}, and a text stands here as it is, without quotes")).help(format!(
                "write the text itself, or the path of its file as seen from this one: `{file}!(\"name.metal\")`"
            )),
        );
        return Text { is_whole: false, ..Text::from_macro(&TokenStream::new(), span) };
    }
    if !is_file {
        return Text::from_macro(tokens, tokens.clone().into_iter().next().map_or(block, |token| token.span()));
    }
    match invocation.parse_body::<LitStr>() {
        Ok(path) => {
            let (text, faults) = Text::from_file(&path);
            for fault in faults {
                diagnostics.push(Diagnostic::in_text(&text, None, fault.place, fault.message).help(fault.help));
            }
            text
        }
        Err(error) => {
            diagnostics.push(
                Diagnostic::new(error.span(), "expected the path of a file in quotes")
                    .help("write `metal_file!(\"name.metal\")`, with the path as seen from this file"),
            );
            Text { is_whole: false, ..Text::from_macro(&TokenStream::new(), invocation.path.span()) }
        }
    }
}

/// Returns what stands in the place of a text if that is a string, or a macro that makes one.
fn quoted(tokens: &TokenStream) -> Option<(Span, &'static str)> {
    let mut tokens = tokens.clone().into_iter();
    let first = tokens.next()?;
    let span = first.span();
    match (first, tokens.next(), tokens.next(), tokens.next()) {
        (TokenTree::Literal(text), None, ..) if text.to_string().contains('"') => Some((span, "this is a string")),
        (TokenTree::Ident(_), Some(TokenTree::Punct(mark)), Some(TokenTree::Group(_)), None)
            if mark.as_char() == '!' =>
        {
            Some((span, "this is a macro that makes a string"))
        }
        _ => None,
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
