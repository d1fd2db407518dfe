//! The requirements of a kernel on the sizes at which it runs.

use std::fmt;

use proc_macro2::Span;

use super::expression::Polynomial;

/// A comparison of two expressions over dimensions and template constants, such as `D % 16 == 0`.
#[derive(Debug, Clone)]
pub struct Requirement {
    /// The left side of the comparison.
    pub left: Polynomial,
    /// The relation of the two sides.
    pub relation: Relation,
    /// The right side of the comparison.
    pub right: Polynomial,
    /// The place where the requirement is written.
    pub span: Span,
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

impl Relation {
    /// Returns whether the relation holds.
    pub fn holds(self, left: i64, right: i64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }

    /// The name of the variant in the runtime's `Relation`.
    pub fn variant(self) -> &'static str {
        match self {
            Self::Equal => "Equal",
            Self::NotEqual => "NotEqual",
            Self::Less => "Less",
            Self::LessOrEqual => "LessOrEqual",
            Self::Greater => "Greater",
            Self::GreaterOrEqual => "GreaterOrEqual",
        }
    }
}

impl Requirement {
    /// Every symbol in it, each once.
    pub fn symbols(&self) -> Vec<String> {
        let mut names = self.left.symbols();
        names.extend(self.right.symbols());
        names.sort();
        names.dedup();
        names
    }

    /// Returns whether it holds with `value_of` for each symbol; what has no value does not hold.
    pub fn holds(&self, value_of: &dyn Fn(&str) -> Option<i64>) -> bool {
        match (self.left.evaluate(value_of), self.right.evaluate(value_of)) {
            (Ok(left), Ok(right)) => self.relation.holds(left, right),
            _ => false,
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        })
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {}", self.left, self.relation, self.right)
    }
}
