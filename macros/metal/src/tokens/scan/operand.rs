//! The operands of expressions: which arrays and variables they read, and what they are.

use super::scopes::Level;
use crate::tokens::operator::operator;
use crate::tokens::token::{Kind, Place, Token};

/// A part of an expression that has been read.
#[derive(Debug, Default)]
pub(super) struct Operand {
    /// The accesses of the names that it is made of, where they can still turn out to be more than reads.
    pub(super) accesses: Vec<usize>,
    /// The variable that it is, or is a part of.
    pub(super) local: Option<usize>,
    /// The uses of that variable.
    pub(super) uses: Vec<usize>,
    pub(super) level: Level,
    /// Whether it is a name alone.
    pub(super) is_bare: bool,
    /// Whether it points to atomics.
    pub(super) is_atomic: bool,
    /// The place of the variable.
    pub(super) place: Option<Place>,
}

/// Tokens and how far they are read.
pub(super) struct Cursor<'t> {
    pub(super) tokens: &'t [Token],
    pub(super) index: usize,
}

impl Cursor<'_> {
    pub(super) fn kind(&self) -> Option<&Kind> {
        self.tokens.get(self.index).map(|token| &token.kind)
    }

    /// Steps over an operator, if it is one that `wanted` takes.
    pub(super) fn take(&mut self, wanted: impl Fn(&str) -> bool) -> Option<&'static str> {
        let (found, length) = operator(self.tokens, self.index).filter(|(found, _)| wanted(found))?;
        self.index += length;
        Some(found)
    }
}

/// Returns what an index or `->` leaves of an operand.
pub(super) fn element(operand: Operand) -> Operand {
    let level = if operand.level == Level::Value { Level::Value } else { Level::Element };
    Operand { level, is_bare: false, ..operand }
}
