//! A kernel's signature as constant data: the macro writes it, pairing compares it, dispatch binds it.

use crate::Dtype;

/// The contract of a kernel.
#[derive(Debug, Clone, Copy)]
pub struct Signature {
    /// The name of the kernel.
    pub name: &'static str,
    /// The module that declares the kernel.
    pub module: &'static str,
    /// The dtype parameters of the kernel.
    pub dtypes: &'static [DtypeParameter],
    /// The template constants of the kernel.
    pub constants: &'static [TemplateConstant],
    /// The run-time dimensions of the kernel.
    pub dimensions: &'static [Dimension],
    /// The arrays that the kernel reads.
    pub inputs: &'static [Port],
    /// The arrays that the kernel writes.
    pub outputs: &'static [Port],
    /// The plain values that the kernel takes.
    pub scalars: &'static [Scalar],
    /// The conditions on dimensions and constants under which the kernel runs.
    pub requirements: &'static [Requirement],
    /// The outputs of the forward whose cotangents a backward leaves out on purpose.
    pub ignores: &'static [&'static str],
}

impl Signature {
    /// The signature that replaces one that did not compile: it pairs with everything.
    pub const STAND_IN: Signature = Signature {
        name: "",
        module: "",
        dtypes: &[],
        constants: &[],
        dimensions: &[],
        inputs: &[],
        outputs: &[],
        scalars: &[],
        requirements: &[],
        ignores: &[],
    };

    /// Outputs that the caller sees.
    pub fn visible_outputs(&self) -> impl Iterator<Item = &'static Port> {
        self.outputs.iter().filter(|port| port.role == PortRole::Output)
    }

    /// The first requirement that does not hold with `value_of` for each symbol.
    pub fn broken_requirement(&self, value_of: &dyn Fn(&str) -> Option<i64>) -> Option<&'static Requirement> {
        self.requirements.iter().find(|requirement| !requirement.holds(value_of))
    }

    /// The place whose extent binds a dimension or constant, if one does.
    pub fn binding(&self, symbol: &str) -> Option<Binding> {
        let dimension = self.dimensions.iter().find(|dimension| dimension.name == symbol);
        let constant = || self.constants.iter().find(|constant| constant.name == symbol);
        dimension.map(|dimension| dimension.bound).or_else(|| constant()?.bound)
    }

    /// Returns the dtype parameters that no input settles: those of a stage's outputs, which are arguments of its function.
    pub fn free_dtypes(&self) -> impl Iterator<Item = &'static DtypeParameter> {
        let inputs = self.inputs;
        let is_settled = move |name| inputs.iter().any(|port| port.dtype == PortDtype::Parameter(name));
        self.dtypes.iter().filter(move |parameter| parameter.class.len() != 1 && !is_settled(parameter.name))
    }

    /// Returns the dtype of a port if each parameter stands for `wanted`, or for [the nearest dtype](DtypeParameter::near).
    pub fn dtype_near(&self, dtype: PortDtype, wanted: Dtype) -> Dtype {
        let name = match dtype {
            PortDtype::Fixed(dtype) => return dtype,
            PortDtype::Parameter(name) => name,
        };
        let parameter = self.dtypes.iter().find(|parameter| parameter.name == name);
        parameter.map_or(Dtype::F32, |parameter| parameter.near(wanted))
    }

    /// Dimensions and integer constants: what a test case binds.
    pub fn symbols(&self) -> impl Iterator<Item = &'static str> {
        let dimensions = self.dimensions.iter().map(|dimension| dimension.name);
        dimensions.chain(self.constants.iter().map(|constant| constant.name))
    }
}

/// A dtype parameter such as `T: Float`.
#[derive(Debug, Clone, Copy)]
pub struct DtypeParameter {
    /// The name of the parameter.
    pub name: &'static str,
    /// The dtypes that the parameter may stand for.
    pub class: &'static [Dtype],
}

impl DtypeParameter {
    /// Returns `wanted` if the parameter may stand for it, else float32, else the first dtype of the class.
    pub fn near(&self, wanted: Dtype) -> Dtype {
        let known = [wanted, Dtype::F32].into_iter().find(|dtype| self.class.contains(dtype));
        known.or(self.class.first().copied()).unwrap_or(Dtype::F32)
    }
}

/// A constant of the kernel source.
#[derive(Debug, Clone, Copy)]
pub struct TemplateConstant {
    /// The name of the constant.
    pub name: &'static str,
    /// The type of the constant.
    pub kind: ConstantKind,
    /// The place that binds the constant; without one it is an argument.
    pub bound: Option<Binding>,
}

/// The type of a template constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConstantKind {
    /// `usize`
    Usize,
    /// `i32`
    I32,
    /// `bool`
    Bool,
}

/// A run-time dimension.
#[derive(Debug, Clone, Copy)]
pub struct Dimension {
    /// The name of the dimension.
    pub name: &'static str,
    /// The place that binds the dimension.
    pub bound: Binding,
}

/// A place in a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// Index into the inputs.
    pub input: usize,
    /// Axis of that input.
    pub axis: usize,
}

/// One array that a kernel reads or writes.
#[derive(Debug, Clone, Copy)]
pub struct Port {
    /// The name of the port.
    pub name: &'static str,
    /// The element type of the port.
    pub dtype: PortDtype,
    /// The extents of the port.
    pub shape: &'static [Extent],
    /// The extents as text: `[B, H, S]`.
    pub shape_text: &'static str,
    /// The role of the port in gradients.
    pub role: PortRole,
    /// Whether a call may leave it out; of a backward's output, whether its primal may be absent.
    pub optional: bool,
    /// The values that generated tests fill the port with.
    pub sample: Sample,
}

/// The element type of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortDtype {
    /// Always this dtype.
    Fixed(Dtype),
    /// The dtype that the dtype parameter of this name stands for.
    Parameter(&'static str),
}

/// The role of a port in gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortRole {
    /// A float input with a gradient.
    Differentiable,
    /// A float input without one.
    Constant,
    /// An integer input.
    Index,
    /// A bool input.
    Mask,
    /// An output the caller sees.
    Output,
    /// An output kept for the backward.
    Saved,
}

/// One extent of a shape.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// The normal form of the expression: equal expressions have equal texts.
    pub text: &'static str,
    /// The expression that computes the extent.
    pub value: Expression,
}

/// An integer expression over dimensions and constants.
#[derive(Debug, Clone, Copy)]
pub enum Expression {
    /// A literal.
    Constant(i64),
    /// A dimension or template constant.
    Symbol(&'static str),
    /// The sum of all.
    Sum(&'static [Expression]),
    /// The product of all.
    Product(&'static [Expression]),
    /// Division, rounded down.
    Quotient(&'static Expression, &'static Expression),
    /// The remainder of such a division.
    Remainder(&'static Expression, &'static Expression),
    /// Division, rounded up.
    CeilingQuotient(&'static Expression, &'static Expression),
    /// The smaller.
    Minimum(&'static Expression, &'static Expression),
    /// The larger.
    Maximum(&'static Expression, &'static Expression),
}

impl Expression {
    /// The value with `value_of` for each symbol; none for an unbound symbol, a division by zero, or beyond 64 bits.
    pub fn evaluate(&self, value_of: &dyn Fn(&str) -> Option<i64>) -> Option<i64> {
        let both = |left: &Expression, right: &Expression| Some((left.evaluate(value_of)?, right.evaluate(value_of)?));
        match self {
            Self::Constant(value) => Some(*value),
            Self::Symbol(name) => value_of(name),
            Self::Sum(terms) => terms.iter().try_fold(0_i64, |sum, term| sum.checked_add(term.evaluate(value_of)?)),
            Self::Product(factors) => {
                factors.iter().try_fold(1_i64, |product, factor| product.checked_mul(factor.evaluate(value_of)?))
            }
            Self::Quotient(left, right) => both(left, right).and_then(|(left, right)| left.checked_div_euclid(right)),
            Self::Remainder(left, right) => both(left, right).and_then(|(left, right)| left.checked_rem_euclid(right)),
            Self::CeilingQuotient(left, right) => {
                let (left, right) = both(left, right)?;
                let floor = left.checked_div_euclid(right)?;
                floor.checked_add(i64::from(left.checked_rem_euclid(right)? != 0))
            }
            Self::Minimum(left, right) => both(left, right).map(|(left, right)| left.min(right)),
            Self::Maximum(left, right) => both(left, right).map(|(left, right)| left.max(right)),
        }
    }

    /// Adds the symbols that are not yet among `names`.
    fn collect_symbols(&self, names: &mut Vec<&'static str>) {
        match self {
            Self::Constant(_) => {}
            Self::Symbol(name) if names.contains(name) => {}
            Self::Symbol(name) => names.push(name),
            Self::Sum(parts) | Self::Product(parts) => parts.iter().for_each(|part| part.collect_symbols(names)),
            Self::Quotient(left, right)
            | Self::Remainder(left, right)
            | Self::CeilingQuotient(left, right)
            | Self::Minimum(left, right)
            | Self::Maximum(left, right) => {
                left.collect_symbols(names);
                right.collect_symbols(names);
            }
        }
    }
}

/// A comparison that must hold for the kernel to run.
#[derive(Debug, Clone, Copy)]
pub struct Requirement {
    /// The requirement as text: `D % 16 == 0`.
    pub text: &'static str,
    /// The left side of the comparison.
    pub left: Expression,
    /// The relation of the two sides.
    pub relation: Relation,
    /// The right side of the comparison.
    pub right: Expression,
}

/// The ways to compare two integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Requirement {
    /// Returns whether it holds with `value_of` for each symbol; what has no value does not hold.
    pub fn holds(&self, value_of: &dyn Fn(&str) -> Option<i64>) -> bool {
        let (Some(left), Some(right)) = (self.left.evaluate(value_of), self.right.evaluate(value_of)) else {
            return false;
        };
        match self.relation {
            Relation::Equal => left == right,
            Relation::NotEqual => left != right,
            Relation::Less => left < right,
            Relation::LessOrEqual => left <= right,
            Relation::Greater => left > right,
            Relation::GreaterOrEqual => left >= right,
        }
    }

    /// The symbols in it, in the order of their first appearance.
    pub fn symbols(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        self.left.collect_symbols(&mut names);
        self.right.collect_symbols(&mut names);
        names
    }
}

/// A plain value that a kernel takes.
#[derive(Debug, Clone, Copy)]
pub struct Scalar {
    /// The name of the scalar.
    pub name: &'static str,
    /// The type of the scalar.
    pub kind: ScalarKind,
    /// The lower and upper end of the range in which the function has values, and the reason why it has none elsewhere.
    pub domain: Option<(f64, f64, &'static str)>,
}

/// The type of a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalarKind {
    /// `f32`
    F32,
    /// `i32`
    I32,
    /// `u32`
    U32,
    /// `bool`
    Bool,
}

/// The values that generated tests fill an input with, uniform between the two ends.
#[derive(Debug, Clone, Copy)]
pub enum Sample {
    /// Floats in -1..1, indices in 0..8, both bools.
    Default,
    /// Floats in this range.
    Floats(f64, f64),
    /// Floats in this range only: outside it the function has no value, for the given reason.
    Domain(f64, f64, &'static str),
    /// A gradient that is not the derivative, on purpose, for this reason.
    Differs(&'static str),
    /// Integers in this range, the upper end excluded.
    Integers(Expression, Expression),
}

/// A value for every symbol of a signature.
pub type Case = &'static [(&'static str, i64)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_follow_integer_arithmetic() {
        const S: Expression = Expression::Symbol("S");
        const SIXTY_FOUR: Expression = Expression::Constant(64);
        let value = |name: &str| (name == "S").then_some(130);
        for (expression, expected) in [
            (Expression::CeilingQuotient(&S, &SIXTY_FOUR), Some(3)),
            (Expression::Quotient(&S, &SIXTY_FOUR), Some(2)),
            (Expression::Remainder(&S, &SIXTY_FOUR), Some(2)),
            (Expression::Product(&[S, S, SIXTY_FOUR]), Some(130 * 130 * 64)),
            (Expression::Sum(&[S, Expression::Constant(-1)]), Some(129)),
            (Expression::Quotient(&S, &Expression::Constant(0)), None),
            (Expression::Product(&[S, Expression::Constant(i64::MAX)]), None),
            (Expression::Symbol("T"), None),
        ] {
            assert_eq!(expression.evaluate(&value), expected, "{expression:?}");
        }
    }

    #[test]
    fn requirements_compare_what_has_a_value() {
        use Relation::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        const S: Expression = Expression::Symbol("S");
        let value = |name: &str| (name == "S").then_some(130);
        for (relation, right, expected) in [
            (Equal, 130, true),
            (Equal, 129, false),
            (NotEqual, 129, true),
            (NotEqual, 130, false),
            (Less, 131, true),
            (Less, 130, false),
            (LessOrEqual, 130, true),
            (LessOrEqual, 129, false),
            (Greater, 129, true),
            (Greater, 130, false),
            (GreaterOrEqual, 130, true),
            (GreaterOrEqual, 131, false),
        ] {
            let requirement = Requirement { text: "", left: S, relation, right: Expression::Constant(right) };
            assert_eq!(requirement.holds(&value), expected, "{requirement:?}");
            assert_eq!(requirement.symbols(), ["S"]);
        }
        for nothing in [Expression::Symbol("T"), Expression::Quotient(&S, &Expression::Constant(0))] {
            let requirement =
                Requirement { text: "", left: nothing, relation: NotEqual, right: Expression::Constant(0) };
            assert!(!requirement.holds(&value), "{requirement:?}");
        }
    }
}
