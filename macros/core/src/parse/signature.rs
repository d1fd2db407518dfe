//! Reads the parameters of the function: ports, scalars, dtype parameters, template constants.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{
    Expr, FnArg, GenericArgument, GenericParam, Generics, Ident, LitStr, Pat, PathArguments, RangeLimits, Token, Type,
    TypeParamBound,
};

use super::options::{read_number, read_reason};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::model::kernel::{ConstantKind, ScalarKind, Unreadable};
use crate::model::port::{Dtype, PortDtype, PortRole, dtype_named, dtype_of_class};

/// One parameter of the function.
pub enum Parameter {
    /// An array.
    Port(Box<PortSyntax>),
    /// A plain value, and between which values the function has any: `#[values(low..high, only = "reason")]`.
    Scalar(Ident, ScalarKind, Option<(f64, f64, String)>),
    /// A parameter that is neither, which was reported.
    Unreadable(Unreadable),
}

/// An array as written.
pub struct PortSyntax {
    /// The name of the port.
    pub name: Ident,
    /// `Out!` instead of `In!`.
    pub is_output: bool,
    /// `Option<..>` around it.
    pub optional: Option<Span>,
    /// The dtype's name.
    pub dtype: Ident,
    /// The extents.
    pub shape: Vec<Expr>,
    /// `#[nodiff]`
    pub nodiff: Option<Span>,
    /// `#[saved]`
    pub saved: Option<Span>,
    /// `#[values(low..high)]`, and why there are no others: `#[values(low..high, only = "reason")]`
    pub values: Option<(Expr, Expr, Option<LitStr>, Span)>,
    /// `#[differs("reason")]`
    pub differs: Option<(LitStr, Span)>,
}

/// A template constant as written.
pub struct ConstantSyntax {
    /// The name of the constant.
    pub name: Ident,
    /// The type of the constant.
    pub kind: ConstantKind,
}

/// Reads `<T: Float, const D: usize>`.
pub fn read_generics(
    generics: &Generics,
    diagnostics: &mut Diagnostics,
) -> (Vec<(Ident, Vec<Dtype>)>, Vec<ConstantSyntax>) {
    let (mut dtypes, mut constants) = (Vec::new(), Vec::new());
    for parameter in &generics.params {
        match parameter {
            GenericParam::Type(parameter) => {
                let mut class = Vec::new();
                for bound in &parameter.bounds {
                    class.extend(diagnostics.keep(read_class(bound)).unwrap_or_default());
                }
                // Its class may stand in a `where` clause, which is refused below.
                if parameter.bounds.is_empty() && generics.where_clause.is_none() {
                    diagnostics.push(
                        Diagnostic::new(parameter.ident.span(), format!("`{}` has no dtype class", parameter.ident))
                            .help(CLASS_FORM),
                    );
                } else if class.iter().any(|dtype| dtype.is_float()) && !class.iter().all(|dtype| dtype.is_float()) {
                    diagnostics.push(
                        Diagnostic::new(
                            parameter.ident.span(),
                            format!(
                                "`{}` mixes floats and integers, so whether it has a gradient is open",
                                parameter.ident
                            ),
                        )
                        .help("declare two kernels"),
                    );
                }
                dtypes.push((parameter.ident.clone(), class));
            }
            GenericParam::Const(parameter) => {
                let kind = match &parameter.ty {
                    Type::Path(path) if path.path.is_ident("usize") => Some(ConstantKind::Usize),
                    Type::Path(path) if path.path.is_ident("i32") => Some(ConstantKind::I32),
                    Type::Path(path) if path.path.is_ident("bool") => Some(ConstantKind::Bool),
                    _ => None,
                };
                if kind.is_none() {
                    diagnostics.push(
                        Diagnostic::new(parameter.ty.span(), "a template constant of this type does not exist")
                            .help("use `usize`, `i32` or `bool`; pass floats as scalars: `eps: f32`"),
                    );
                }
                let kind = kind.unwrap_or(ConstantKind::Usize);
                constants.push(ConstantSyntax { name: parameter.ident.clone(), kind });
            }
            GenericParam::Lifetime(lifetime) => diagnostics.push(
                Diagnostic::new(lifetime.span(), "a kernel has no lifetimes").help("remove it: ports are arrays"),
            ),
        }
    }
    if let Some(clause) = &generics.where_clause {
        diagnostics.push(
            Diagnostic::new(clause.where_token.span, "a kernel has no `where` clause")
                .help("put the dtype class on the parameter: `T: Float`"),
        );
    }
    (dtypes, constants)
}

const CLASS_FORM: &str = "write `T: Float`, `T: Int`, or a list such as `T: F32 + BF16`";

fn read_class(bound: &TypeParamBound) -> Result<Vec<Dtype>, Diagnostic> {
    let name = match bound {
        TypeParamBound::Trait(bound) => bound.path.get_ident().map(ToString::to_string),
        _ => None,
    };
    match name.as_deref() {
        Some("Float") => Ok(vec![Dtype::F32, Dtype::F16, Dtype::BF16]),
        Some("Int") => Ok(vec![Dtype::I32, Dtype::U32]),
        Some(name) if dtype_of_class(name).is_some() => Ok(dtype_of_class(name).into_iter().collect()),
        _ => Err(Diagnostic::new(bound.span(), "this is not a class of dtypes").help(CLASS_FORM)),
    }
}

/// Reads the parameters in their order, and counts those that leave nothing.
pub fn read_parameters<'a>(
    inputs: impl Iterator<Item = &'a FnArg>,
    diagnostics: &mut Diagnostics,
) -> (Vec<Parameter>, usize) {
    let read: Vec<Option<Parameter>> = inputs.map(|input| read_parameter(input, diagnostics)).collect();
    let unread = read.iter().filter(|parameter| parameter.is_none()).count();
    (read.into_iter().flatten().collect(), unread)
}

const ATTRIBUTES: &str = "use each of the attributes of a port at most once: `#[nodiff]`, `#[saved]`, `#[values(low..high)]`, \
     `#[differs(\"reason\")]`";

fn read_parameter(input: &FnArg, diagnostics: &mut Diagnostics) -> Option<Parameter> {
    let FnArg::Typed(input) = input else {
        diagnostics.push(Diagnostic::new(input.span(), "a kernel is a free function").help("remove `self`"));
        return None;
    };
    let Pat::Ident(pattern) = &*input.pat else {
        diagnostics.push(Diagnostic::new(input.pat.span(), "a parameter of a kernel is a plain name"));
        return None;
    };
    if let Some(token) = pattern.by_ref.map(|token| token.span).or(pattern.mutability.map(|token| token.span)) {
        diagnostics.push(Diagnostic::new(token, "a parameter of a kernel is a plain name"));
    }
    let name = pattern.ident.clone();
    let (mut nodiff, mut saved, mut values, mut differs) = (None, None, None, None);
    let mut given: Vec<String> = Vec::new();
    for attribute in input.attrs.iter().filter(|attribute| !attribute.path().is_ident("doc")) {
        let span = attribute.path().span();
        let text = attribute.path().to_token_stream().to_string();
        let known = ["nodiff", "saved", "values", "differs"].contains(&text.as_str());
        if !known || given.contains(&text) {
            let message = if known { format!("`#[{text}]` is repeated") } else { format!("a port has no `#[{text}]`") };
            diagnostics.push(Diagnostic::new(span, message).help(ATTRIBUTES));
            continue;
        }
        match text.as_str() {
            "nodiff" => {
                diagnostics.keep(attribute.meta.require_path_only().map(drop));
                nodiff = Some(span);
            }
            "saved" => {
                diagnostics.keep(attribute.meta.require_path_only().map(drop));
                saved = Some(span);
            }
            "differs" => {
                let reason = diagnostics.keep(attribute.parse_args_with(read_reason));
                differs = reason.map(|reason| (reason, span));
            }
            _ => {
                let range = diagnostics.keep(attribute.parse_args_with(read_range));
                values = range.map(|(low, high, only)| (low, high, only, span));
            }
        }
        given.push(text);
    }
    let (ty, optional) = strip_option(&input.ty);
    let unreadable = || {
        let dtype = likely_dtype(ty).unwrap_or(PortDtype::Fixed(Dtype::F32));
        let role = PortRole::from_input(&dtype, nodiff.is_some());
        Unreadable { name: pattern.ident.clone(), role, optional: optional.is_some() }
    };
    match ty {
        Type::Macro(ty) if ty.mac.path.is_ident("In") || ty.mac.path.is_ident("Out") => {
            let is_output = ty.mac.path.is_ident("Out");
            let read = diagnostics.keep(read_port_type(&ty.mac.tokens, ty.mac.path.span()));
            let Some((dtype, shape)) = read else { return (!is_output).then(|| Parameter::Unreadable(unreadable())) };
            Some(Parameter::Port(Box::new(PortSyntax {
                name,
                is_output,
                optional,
                dtype,
                shape,
                nodiff,
                saved,
                values,
                differs,
            })))
        }
        Type::Path(path) => {
            let kind = match path.path.get_ident().map(ToString::to_string).as_deref() {
                Some("f32") => ScalarKind::F32,
                Some("i32") => ScalarKind::I32,
                Some("u32") => ScalarKind::U32,
                Some("bool") => ScalarKind::Bool,
                _ => {
                    diagnostics.push(unknown_type(&input.ty));
                    return Some(Parameter::Unreadable(unreadable()));
                }
            };
            if let Some(span) = optional {
                diagnostics.push(
                    Diagnostic::new(span, format!("scalar `{name}` cannot be optional"))
                        .help("pass a value that means none, or add a template constant `const HAS: bool`"),
                );
            }
            let domain = match values {
                Some((low, high, Some(only), _)) if kind == ScalarKind::F32 => {
                    let ends = read_number(&low).and_then(|low| Ok((low, read_number(&high)?, only.value())));
                    diagnostics.keep(ends)
                }
                Some((.., span)) => {
                    diagnostics.push(
                        Diagnostic::new(span, format!("`{name}` is a scalar, which tests give values of their own"))
                            .help(
                                "remove the attribute; of an `f32` outside whose range there are none, \
                             write `#[values(low..high, only = \"reason\")]`",
                            ),
                    );
                    None
                }
                None => None,
            };
            if let Some(span) = nodiff.or(saved).or(differs.map(|(_, span)| span)) {
                diagnostics.push(
                    Diagnostic::new(span, format!("`{name}` is a scalar, which has no gradient anyway"))
                        .help("remove the attribute"),
                );
            }
            Some(Parameter::Scalar(name, kind, domain))
        }
        other => {
            diagnostics.push(unknown_type(other));
            Some(Parameter::Unreadable(unreadable()))
        }
    }
}

/// The dtype that a misspelt port begins with.
fn likely_dtype(ty: &Type) -> Option<PortDtype> {
    let Type::Macro(ty) = ty else { return None };
    let first = ty.mac.tokens.clone().into_iter().next()?;
    dtype_named(&first.to_string()).map(PortDtype::Fixed)
}

/// The type inside `Option<..>`, and where that is written; any other type as it is.
fn strip_option(ty: &Type) -> (&Type, Option<Span>) {
    if let Type::Path(path) = ty
        && let Some(segment) = path.path.segments.last()
        && segment.ident == "Option"
        && let PathArguments::AngleBracketed(arguments) = &segment.arguments
        && let (1, Some(GenericArgument::Type(inner))) = (arguments.args.len(), arguments.args.first())
    {
        return (inner, Some(segment.ident.span()));
    }
    (ty, None)
}

fn unknown_type(ty: &Type) -> Diagnostic {
    Diagnostic::new(ty.span(), "this is neither a port nor a scalar").help(
        "write `In![dtype; shape]`, `Option<In![dtype; shape]>`, `Out![dtype; shape]`, or a scalar of type `f32`, `i32`, \
         `u32` or `bool`",
    )
}

fn read_port_type(tokens: &TokenStream, span: Span) -> syn::Result<(Ident, Vec<Expr>)> {
    let form = "expected `dtype; extent, extent, ..`, as in `In![f32; B, H, S]`";
    let parser = |input: ParseStream<'_>| {
        let dtype: Ident = input.parse()?;
        input.parse::<Token![;]>()?;
        let shape = Punctuated::<Expr, Token![,]>::parse_terminated(input)?;
        Ok((dtype, shape.into_iter().collect()))
    };
    if tokens.is_empty() {
        return Err(syn::Error::new(span, form));
    }
    // Tokens that end too early have no token at the error's place.
    let last = tokens.clone().into_iter().last().map_or(span, |token| token.span());
    let place = |error: syn::Error| match syn::parse2::<Ident>(tokens.clone()) {
        Ok(_) => last,
        Err(_) => error.span(),
    };
    parser.parse2(tokens.clone()).map_err(|error| syn::Error::new(place(error), form))
}

fn read_range(input: ParseStream<'_>) -> syn::Result<(Expr, Expr, Option<LitStr>)> {
    let expression: Expr = input.parse()?;
    let mut only = None;
    if input.peek(Token![,]) {
        input.parse::<Token![,]>()?;
        let name: Ident = input.parse()?;
        if name != "only" {
            return Err(syn::Error::new(
                name.span(),
                "expected `only = \"reason\"`, where values outside the range are none",
            ));
        }
        input.parse::<Token![=]>()?;
        only = Some(read_reason(input)?);
    }
    if let Expr::Range(range) = &expression
        && let (Some(start), RangeLimits::HalfOpen(_), Some(end)) = (&range.start, &range.limits, &range.end)
    {
        return Ok(((**start).clone(), (**end).clone(), only));
    }
    Err(syn::Error::new(expression.span(), "expected a range such as `0..V` or `-2.0..0.0`"))
}
