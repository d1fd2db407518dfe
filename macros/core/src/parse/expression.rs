//! Reads integer expressions over dimensions.

use syn::spanned::Spanned;
use syn::{BinOp, Expr, Lit, UnOp};

use crate::diagnostics::Diagnostic;
use crate::model::expression::{Operation, Polynomial};
use crate::model::kernel::Size;
use crate::model::requirement::{Relation, Requirement};

/// The meanings of names in the expressions of one declaration.
#[derive(Debug, Default)]
pub struct Names {
    /// Template constants, which need not be upper-case.
    pub constants: Vec<String>,
    /// Names of `dims`, with their values.
    pub sizes: Vec<Size>,
}

/// Brings `expression` into normal form, with values in the place of the names of `dims`.
///
/// # Errors
/// Anything but integers, upper-case names, `+ - * / %`, brackets and `ceil_div`, `min`, `max`; divisions by zero and
/// values beyond 64 bits.
pub fn read(names: &Names, expression: &Expr) -> Result<Polynomial, Diagnostic> {
    Reader { names }.read(expression)
}

struct Reader<'a> {
    names: &'a Names,
}

impl Reader<'_> {
    fn read(&self, expression: &Expr) -> Result<Polynomial, Diagnostic> {
        let overflow = || Diagnostic::new(expression.span(), "this expression is larger than any shape");
        match expression {
            Expr::Paren(inner) => self.read(&inner.expr),
            Expr::Group(inner) => self.read(&inner.expr),
            Expr::Lit(literal) => match &literal.lit {
                Lit::Int(value) if value.suffix().is_empty() => {
                    value.base10_parse().map(Polynomial::constant).map_err(|_| overflow())
                }
                _ => Err(unknown(expression)),
            },
            Expr::Path(path) => {
                let name = path.path.get_ident().ok_or_else(|| unknown(expression))?;
                let text = name.to_string();
                if let Some(size) = self.names.sizes.iter().find(|size| size.name == text) {
                    return Ok(size.value.clone());
                }
                if !text.starts_with(|first: char| first.is_ascii_uppercase()) && !self.names.constants.contains(&text)
                {
                    return Err(Diagnostic::new(name.span(), format!("`{text}` is not a dimension"))
                        .help("begin dimensions and template constants with an upper-case letter"));
                }
                Ok(Polynomial::symbol(text))
            }
            Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_)) => {
                self.read(&unary.expr)?.negate().ok_or_else(overflow)
            }
            Expr::Binary(binary) => {
                let (left, right) = (self.read(&binary.left)?, self.read(&binary.right)?);
                match binary.op {
                    BinOp::Add(_) => left.add(&right).ok_or_else(overflow),
                    BinOp::Sub(_) => right.negate().and_then(|right| left.add(&right)).ok_or_else(overflow),
                    BinOp::Mul(_) => left.multiply(&right).ok_or_else(overflow),
                    BinOp::Div(_) => apply(Operation::Quotient, left, right, expression),
                    BinOp::Rem(_) => apply(Operation::Remainder, left, right, expression),
                    _ => Err(unknown(expression)),
                }
            }
            Expr::Call(call) => {
                let operation = match &*call.func {
                    Expr::Path(path) if path.path.is_ident("ceil_div") => Operation::CeilingQuotient,
                    Expr::Path(path) if path.path.is_ident("min") => Operation::Minimum,
                    Expr::Path(path) if path.path.is_ident("max") => Operation::Maximum,
                    _ => return Err(unknown(expression)),
                };
                let mut arguments = call.args.iter();
                let (Some(left), Some(right), None) = (arguments.next(), arguments.next(), arguments.next()) else {
                    return Err(Diagnostic::new(call.func.span(), "this function takes two arguments"));
                };
                apply(operation, self.read(left)?, self.read(right)?, expression)
            }
            Expr::Array(_) => Err(Diagnostic::new(expression.span(), "a shape has no brackets of its own")
                .help("write the extents one by one: `In![f32; B, D]`")),
            _ => Err(unknown(expression)),
        }
    }
}

/// Brings both sides of the comparison `expression` into normal form.
///
/// # Errors
/// Anything but one of `==`, `!=`, `<`, `<=`, `>`, `>=` between what [`read`] accepts.
pub fn read_requirement(names: &Names, expression: &Expr) -> Result<Requirement, Diagnostic> {
    let unknown = || {
        Diagnostic::new(expression.span(), "this compares nothing")
            .help("write a comparison such as `D % 16 == 0`, with one of `==`, `!=`, `<`, `<=`, `>`, `>=`")
    };
    match expression {
        Expr::Paren(inner) => read_requirement(names, &inner.expr),
        Expr::Group(inner) => read_requirement(names, &inner.expr),
        Expr::Binary(binary) => {
            let relation = match binary.op {
                BinOp::Eq(_) => Relation::Equal,
                BinOp::Ne(_) => Relation::NotEqual,
                BinOp::Lt(_) => Relation::Less,
                BinOp::Le(_) => Relation::LessOrEqual,
                BinOp::Gt(_) => Relation::Greater,
                BinOp::Ge(_) => Relation::GreaterOrEqual,
                BinOp::And(_) => {
                    return Err(Diagnostic::new(binary.op.span(), "a requirement is one comparison")
                        .help("write two requirements: all of them must hold"));
                }
                BinOp::Or(_) => {
                    return Err(Diagnostic::new(binary.op.span(), "a requirement is one comparison")
                        .help("declare two kernels, or require what both sides have in common"));
                }
                _ => return Err(unknown()),
            };
            let (left, right) = (read(names, &binary.left)?, read(names, &binary.right)?);
            Ok(Requirement { left, relation, right, span: expression.span() })
        }
        _ => Err(unknown()),
    }
}

fn apply(operation: Operation, left: Polynomial, right: Polynomial, at: &Expr) -> Result<Polynomial, Diagnostic> {
    Polynomial::apply(operation, left, right).map_err(|error| Diagnostic::new(at.span(), error.to_string()))
}

fn unknown(expression: &Expr) -> Diagnostic {
    Diagnostic::new(expression.span(), "this is not an expression over dimensions")
        .help("use integers, upper-case names, `+ - * / %`, `ceil_div(a, b)`, `min(a, b)` and `max(a, b)`")
}
