//! The variables of a source: what each name means, what pointers point to, and which values are used.

use std::collections::BTreeSet;

/// The destinations of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sink {
    /// The value goes to memory, a condition or a call, so it counts.
    Used,
    /// The value goes into a variable.
    Local(usize),
    /// The value goes nowhere.
    Nothing,
}

/// The relation of an expression or a variable to the arrays of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Level {
    /// A value.
    #[default]
    Value,
    /// A pointer into one.
    Pointer,
    /// An element of one, which can be assigned to.
    Element,
}

/// A variable.
#[derive(Debug, Clone, Default)]
pub(super) struct Local {
    /// The arrays that it points into or is an element of, where that is known.
    pub(super) roots: BTreeSet<String>,
    /// Pointer or reference, if `roots` is known.
    pub(super) level: Level,
    /// Whether it is declared as a pointer or reference: what is assigned through it goes elsewhere.
    pub(super) is_indirect: bool,
    /// Whether it points to atomics.
    pub(super) is_atomic: bool,
    /// Whether it is constant, of what is constant itself.
    pub(super) is_constant: bool,
    /// Names of the signature that its value is made of.
    pub(super) made_of: Vec<String>,
    /// The number of lanes: that of a vector, 1 for a number, `None` for any other type.
    pub(super) lanes: Option<usize>,
    /// The name of a variable that is `const` itself, and not what it points to.
    pub(super) constant: Option<String>,
}

/// Variables by name, the innermost scope last.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    open: Vec<Vec<(String, usize)>>,
    outermost: Vec<(String, usize)>,
    pub(super) locals: Vec<Local>,
    /// Each variable that is read, and where its value goes.
    uses: Vec<(usize, Sink)>,
}

impl Scopes {
    pub(super) fn enter(&mut self) {
        self.open.push(Vec::new());
    }

    pub(super) fn leave(&mut self) {
        self.open.pop();
    }

    pub(super) fn is_outermost(&self) -> bool {
        self.open.is_empty()
    }

    /// A new variable, not yet to be found by name.
    pub(super) fn add(&mut self, local: Local) -> usize {
        self.locals.push(local);
        self.locals.len() - 1
    }

    /// Makes a variable known by a name, in the innermost scope.
    pub(super) fn declare(&mut self, name: &str, local: usize) {
        self.open.last_mut().unwrap_or(&mut self.outermost).push((name.to_owned(), local));
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let scopes = self.open.iter().rev().chain([&self.outermost]);
        scopes.flat_map(|scope| scope.iter().rev()).find(|(known, _)| known == name).map(|(_, local)| *local)
    }

    /// Notes that a variable is read; the number under which that can be changed.
    pub(super) fn read(&mut self, local: usize, sink: Sink) -> usize {
        self.uses.push((local, sink));
        self.uses.len() - 1
    }

    pub(super) fn redirect(&mut self, uses: &[usize], sink: Sink) {
        for use_ in uses {
            // A value that is discarded stays so.
            if self.uses[*use_].1 != Sink::Nothing {
                self.uses[*use_].1 = sink;
            }
        }
    }

    /// Returns for each variable whether anything is done with its value.
    pub(super) fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.locals.len()];
        loop {
            let mut changed = false;
            for (local, sink) in &self.uses {
                let is_used = match sink {
                    Sink::Used => true,
                    Sink::Nothing => false,
                    Sink::Local(other) => live[*other],
                };
                changed |= is_used && !std::mem::replace(&mut live[*local], true);
            }
            if !changed {
                return live;
            }
        }
    }
}
