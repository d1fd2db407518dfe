//! Integer expressions over dimensions and template constants, in a normal form that makes equal things look equal.
//!
//! An expression is a polynomial: a sum of integer multiples of products of atoms. An atom is a symbol, or something
//! that a polynomial cannot express: a floor division, a remainder, a smallest or largest value. `B * H` and `H * B`
//! have one normal form, `2 * (R / 2)` stays apart from `R` because the division rounds down.

use std::collections::BTreeMap;
use std::fmt;

/// A sum of products, in normal form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Polynomial {
    /// Coefficients by product; none is zero.
    terms: BTreeMap<Product, i64>,
}

/// A product of atoms with their powers. The empty product is one.
type Product = BTreeMap<Atom, u32>;

/// A variable of a polynomial: a symbol or an operation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Atom {
    /// A dimension or template constant.
    Symbol(String),
    /// An operation of two expressions that does not distribute.
    Operation(Operation, Box<Polynomial>, Box<Polynomial>),
}

/// The operations that stay closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Division, rounded down.
    Quotient,
    /// The remainder of such a division.
    Remainder,
    /// Division, rounded up: how many tiles cover a length.
    CeilingQuotient,
    /// The smaller of two.
    Minimum,
    /// The larger of two.
    Maximum,
}

/// The reason why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvaluationError {
    /// A name without a value.
    Unbound(String),
    /// A division by zero.
    DivisionByZero,
    /// The value exceeds 64 bits.
    Overflow,
}

impl fmt::Display for EvaluationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unbound(name) => write!(formatter, "`{name}` has no value"),
            Self::DivisionByZero => formatter.write_str("division by zero"),
            Self::Overflow => formatter.write_str("the value does not fit 64 bits"),
        }
    }
}

impl Operation {
    fn evaluate(self, left: i64, right: i64) -> Result<i64, EvaluationError> {
        use EvaluationError::{DivisionByZero, Overflow};
        match self {
            Self::Minimum => Ok(left.min(right)),
            Self::Maximum => Ok(left.max(right)),
            _ if right == 0 => Err(DivisionByZero),
            Self::Quotient => left.checked_div_euclid(right).ok_or(Overflow),
            Self::Remainder => left.checked_rem_euclid(right).ok_or(Overflow),
            Self::CeilingQuotient => {
                let floor = left.checked_div_euclid(right).ok_or(Overflow)?;
                let rest = left.checked_rem_euclid(right).ok_or(Overflow)?;
                floor.checked_add(i64::from(rest != 0)).ok_or(Overflow)
            }
        }
    }
}

impl Polynomial {
    /// A literal.
    pub fn constant(value: i64) -> Self {
        let mut terms = BTreeMap::new();
        if value != 0 {
            terms.insert(Product::new(), value);
        }
        Self { terms }
    }

    /// A dimension or template constant alone.
    pub fn symbol(name: impl Into<String>) -> Self {
        Self::atom(Atom::Symbol(name.into()))
    }

    fn atom(atom: Atom) -> Self {
        Self { terms: BTreeMap::from([(Product::from([(atom, 1)]), 1)]) }
    }

    /// The value, if no symbol is left in it.
    pub fn as_constant(&self) -> Option<i64> {
        match self.terms.len() {
            0 => Some(0),
            1 => self.terms.get(&Product::new()).copied(),
            _ => None,
        }
    }

    /// The atom, if the expression is one alone.
    fn as_atom(&self) -> Option<&Atom> {
        let (product, 1) = self.terms.iter().next()? else { return None };
        let (atom, 1) = product.iter().next()? else { return None };
        (self.terms.len() == 1 && product.len() == 1).then_some(atom)
    }

    /// The name, if the expression is one symbol alone: the only form from which a shape binds it.
    pub fn as_symbol(&self) -> Option<&str> {
        match self.as_atom()? {
            Atom::Symbol(name) => Some(name),
            Atom::Operation(..) => None,
        }
    }

    /// The sum, or nothing beyond 64 bits.
    pub fn add(&self, other: &Self) -> Option<Self> {
        let mut terms = self.terms.clone();
        for (product, coefficient) in &other.terms {
            let sum = terms.get(product).copied().unwrap_or(0).checked_add(*coefficient)?;
            if sum == 0 {
                terms.remove(product);
            } else {
                terms.insert(product.clone(), sum);
            }
        }
        Some(Self { terms })
    }

    /// The negative, or nothing beyond 64 bits.
    pub fn negate(&self) -> Option<Self> {
        self.multiply(&Self::constant(-1))
    }

    /// The product, or nothing beyond 64 bits (or beyond a size no shape has).
    pub fn multiply(&self, other: &Self) -> Option<Self> {
        const LARGEST: usize = 256;
        if self.terms.len().checked_mul(other.terms.len())? > LARGEST {
            return None;
        }
        let mut sum = Self::default();
        for (left, left_coefficient) in &self.terms {
            for (right, right_coefficient) in &other.terms {
                let mut product = left.clone();
                for (atom, power) in right {
                    let entry = product.entry(atom.clone()).or_insert(0);
                    *entry = entry.checked_add(*power)?;
                }
                let coefficient = left_coefficient.checked_mul(*right_coefficient)?;
                let term = Self { terms: BTreeMap::from([(product, coefficient)]) };
                sum = sum.add(&term)?;
            }
        }
        Some(sum)
    }

    /// Applies an operation that stays closed, simplified where the result is exact.
    pub fn apply(operation: Operation, left: Self, right: Self) -> Result<Self, EvaluationError> {
        if right.as_constant() == Some(0) && !matches!(operation, Operation::Minimum | Operation::Maximum) {
            return Err(EvaluationError::DivisionByZero);
        }
        if let (Some(left), Some(right)) = (left.as_constant(), right.as_constant()) {
            return operation.evaluate(left, right).map(Self::constant);
        }
        match operation {
            Operation::Quotient | Operation::CeilingQuotient => {
                if let Some(divisor) = right.as_constant()
                    && left.terms.values().all(|coefficient| coefficient.checked_rem(divisor) == Some(0))
                {
                    let terms = left.terms.iter().map(|(product, value)| (product.clone(), value / divisor)).collect();
                    return Ok(Self { terms });
                }
                if left == right {
                    return Ok(Self::constant(1));
                }
            }
            Operation::Remainder if right.as_constant() == Some(1) || left == right => return Ok(Self::constant(0)),
            Operation::Minimum | Operation::Maximum if left == right => return Ok(left),
            _ => {}
        }
        let (left, right) = match operation {
            Operation::Minimum | Operation::Maximum if right < left => (right, left),
            _ => (left, right),
        };
        Ok(Self::atom(Atom::Operation(operation, Box::new(left), Box::new(right))))
    }

    /// Every symbol, each once, in order.
    pub fn symbols(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.collect_symbols(&mut names);
        names.sort();
        names.dedup();
        names
    }

    fn collect_symbols(&self, names: &mut Vec<String>) {
        for atom in self.terms.keys().flat_map(BTreeMap::keys) {
            match atom {
                Atom::Symbol(name) => names.push(name.clone()),
                Atom::Operation(_, left, right) => {
                    left.collect_symbols(names);
                    right.collect_symbols(names);
                }
            }
        }
    }

    /// The value with `value_of` for each symbol.
    pub fn evaluate(&self, value_of: &dyn Fn(&str) -> Option<i64>) -> Result<i64, EvaluationError> {
        use EvaluationError::{Overflow, Unbound};
        let mut sum = 0_i64;
        for (product, coefficient) in &self.terms {
            let mut term = *coefficient;
            for (atom, power) in product {
                let value = match atom {
                    Atom::Symbol(name) => value_of(name).ok_or_else(|| Unbound(name.clone()))?,
                    Atom::Operation(operation, left, right) => {
                        operation.evaluate(left.evaluate(value_of)?, right.evaluate(value_of)?)?
                    }
                };
                for _ in 0..*power {
                    term = term.checked_mul(value).ok_or(Overflow)?;
                }
            }
            sum = sum.checked_add(term).ok_or(Overflow)?;
        }
        Ok(sum)
    }

    /// The expression in C++, in brackets. Where a name in a division may stand for less than zero, which C++ rounds the other
    /// way, the result is set right.
    pub fn in_cpp(&self, may_be_negative: &dyn Fn(&str) -> bool) -> String {
        let terms = self.terms().map(|(coefficient, atoms)| {
            let atoms = atoms.into_iter().map(|atom| atom.in_cpp(may_be_negative));
            std::iter::once(coefficient.to_string()).filter(|_| coefficient != 1).chain(atoms).collect::<Vec<_>>()
        });
        let terms = terms.map(|factors| if factors.is_empty() { "1".to_owned() } else { factors.join(" * ") });
        let terms: Vec<String> = terms.collect();
        match terms.as_slice() {
            [] => "0".to_owned(),
            // Names, numbers and operations have brackets of their own.
            [one] if self.as_atom().is_some() || self.as_constant().is_some_and(|value| value >= 0) => one.clone(),
            several => format!("({})", several.join(" + ")),
        }
    }

    fn is_never_negative(&self, may_be_negative: &dyn Fn(&str) -> bool) -> bool {
        self.terms().all(|(coefficient, atoms)| {
            let is_fine = |atom: &Atom| match atom {
                Atom::Symbol(name) => !may_be_negative(name),
                Atom::Operation(_, left, right) => {
                    left.is_never_negative(may_be_negative) && right.is_never_negative(may_be_negative)
                }
            };
            coefficient >= 0 && atoms.into_iter().all(is_fine)
        })
    }

    /// The terms, for printing as data: coefficient and atoms with repetition.
    pub fn terms(&self) -> impl Iterator<Item = (i64, Vec<&Atom>)> {
        self.terms.iter().map(|(product, coefficient)| {
            let atoms = product.iter().flat_map(|(atom, power)| std::iter::repeat_n(atom, *power as usize)).collect();
            (*coefficient, atoms)
        })
    }
}

impl fmt::Display for Polynomial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terms.is_empty() {
            return formatter.write_str("0");
        }
        if let Some(Atom::Operation(operation @ (Operation::Quotient | Operation::Remainder), left, right)) =
            self.as_atom()
        {
            let sign = if *operation == Operation::Quotient { '/' } else { '%' };
            return write!(formatter, "{} {sign} {}", Factor(left), Factor(right));
        }
        // Products with more atoms come first, and the constant last: `B * H + B + 1`.
        let mut terms: Vec<_> = self.terms().collect();
        terms.sort_by_key(|(_, atoms)| std::cmp::Reverse(atoms.len()));
        for (index, (coefficient, atoms)) in terms.into_iter().enumerate() {
            match (index, coefficient < 0) {
                (0, true) => formatter.write_str("-")?,
                (0, false) => {}
                (_, true) => formatter.write_str(" - ")?,
                (_, false) => formatter.write_str(" + ")?,
            }
            let magnitude = coefficient.unsigned_abs();
            let mut factors: Vec<String> = atoms.iter().map(ToString::to_string).collect();
            if magnitude != 1 || factors.is_empty() {
                factors.insert(0, magnitude.to_string());
            }
            formatter.write_str(&factors.join(" * "))?;
        }
        Ok(())
    }
}

impl Atom {
    fn in_cpp(&self, may_be_negative: &dyn Fn(&str) -> bool) -> String {
        let Self::Operation(operation, left, right) = self else { return self.to_string() };
        let (l, r) = (left.in_cpp(may_be_negative), right.in_cpp(may_be_negative));
        let is_plain = left.is_never_negative(may_be_negative) && right.is_never_negative(may_be_negative);
        // C++ rounds towards zero; `Polynomial::evaluate` rounds so that the remainder is never negative.
        let remainder = if is_plain {
            format!("({l} % {r})")
        } else {
            format!("({l} % {r} < 0 ? {l} % {r} + ({r} < 0 ? -{r} : {r}) : {l} % {r})")
        };
        let quotient = if is_plain { format!("({l} / {r})") } else { format!("(({l} - {remainder}) / {r})") };
        match operation {
            Operation::Quotient => quotient,
            Operation::Remainder => remainder,
            Operation::CeilingQuotient => format!("({quotient} + ({l} % {r} != 0))"),
            Operation::Minimum => format!("({l} < {r} ? {l} : {r})"),
            Operation::Maximum => format!("({l} < {r} ? {r} : {l})"),
        }
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol(name) => formatter.write_str(name),
            Self::Operation(Operation::Quotient, left, right) => {
                write!(formatter, "({} / {})", Factor(left), Factor(right))
            }
            Self::Operation(Operation::Remainder, left, right) => {
                write!(formatter, "({} % {})", Factor(left), Factor(right))
            }
            Self::Operation(Operation::CeilingQuotient, left, right) => {
                write!(formatter, "ceil_div({left}, {right})")
            }
            Self::Operation(Operation::Minimum, left, right) => write!(formatter, "min({left}, {right})"),
            Self::Operation(Operation::Maximum, left, right) => write!(formatter, "max({left}, {right})"),
        }
    }
}

/// A polynomial inside a division: in brackets unless it is one atom or literal.
struct Factor<'a>(&'a Polynomial);

impl fmt::Display for Factor<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.as_constant().is_some() || self.0.as_symbol().is_some() {
            write!(formatter, "{}", self.0)
        } else {
            write!(formatter, "({})", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Polynomial {
        crate::parse::expression::read(&Default::default(), &syn::parse_str(text).unwrap()).unwrap()
    }

    #[test]
    fn equal_expressions_have_one_normal_form() {
        for (left, right) in [
            ("B * H", "H * B"),
            ("B * (H + 1)", "B + H * B"),
            ("2 * D / 2", "D"),
            ("(B - B) + 3", "3"),
            ("ceil_div(4 * S, 4)", "S"),
            ("min(S, T)", "min(T, S)"),
            ("B * H * S * D / 2", "(S * B * D * H) / 2"),
            ("-(A - B)", "B - A"),
        ] {
            assert_eq!(parse(left), parse(right), "{left} and {right}");
        }
    }

    #[test]
    fn different_expressions_stay_apart() {
        for (left, right) in [("2 * (R / 2)", "R"), ("R / 2", "ceil_div(R, 2)"), ("B * B", "B"), ("S % 4", "S / 4")] {
            assert_ne!(parse(left), parse(right), "{left} and {right}");
        }
    }

    #[test]
    fn text_reads_back_as_the_same_expression() {
        for text in ["B * H + 1", "(R / 2)", "ceil_div(S, 64) * 64", "((B + 1) / 2) - 3", "min(B, H) % 5", "-B", "0"] {
            let expression = parse(text);
            assert_eq!(parse(&expression.to_string()), expression, "{text} printed as {expression}");
        }
    }

    #[test]
    fn cpp_divides_as_the_expression_does() {
        for (text, expected) in [
            ("C / 16 * 256", "(256 * (C / 16))"),
            ("ceil_div(T, C)", "((T / C) + (T % C != 0))"),
            ("max(16, C)", "(16 < C ? C : 16)"),
            ("I % 3", "(I % 3 < 0 ? I % 3 + (3 < 0 ? -3 : 3) : I % 3)"),
            ("I / 2", "((I - (I % 2 < 0 ? I % 2 + (2 < 0 ? -2 : 2) : I % 2)) / 2)"),
            ("T - 1", "(-1 + T)"),
            ("S - S", "0"),
        ] {
            assert_eq!(parse(text).in_cpp(&|name| name == "I"), expected, "{text}");
        }
    }

    #[test]
    fn values_follow_the_written_arithmetic() {
        let value = |name: &str| match name {
            "S" => Some(130),
            "B" => Some(3),
            _ => None,
        };
        for (text, expected) in [
            ("ceil_div(S, 64)", Ok(3)),
            ("S / 64", Ok(2)),
            ("S % 64 + B * B", Ok(11)),
            ("max(S, B) - min(S, B)", Ok(127)),
        ] {
            assert_eq!(parse(text).evaluate(&value), expected, "{text}");
        }
        assert_eq!(parse("S / (B - 3)").evaluate(&value), Err(EvaluationError::DivisionByZero));
        assert_eq!(parse("Q").evaluate(&value), Err(EvaluationError::Unbound("Q".into())));
        assert_eq!(parse("S * 9223372036854775807").evaluate(&value), Err(EvaluationError::Overflow));
    }
}
