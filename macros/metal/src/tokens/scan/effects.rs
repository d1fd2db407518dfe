//! The effects of assignments, changes and calls on the names in them.

use super::operand::Operand;
use super::scopes::{Level, Sink};
use super::{AccessKind, Scanner};

impl Scanner {
    /// Notes that memory behind the operand may be written where the operand goes.
    pub(super) fn hand_on(&mut self, operand: &Operand) {
        if operand.level == Level::Pointer {
            self.mark(operand, AccessKind::Address);
        }
    }

    pub(super) fn mark(&mut self, operand: &Operand, kind: AccessKind) {
        let is_certain = operand.accesses.len() == 1 || kind == AccessKind::Alias;
        for access in &operand.accesses {
            let access = &mut self.found.accesses[*access];
            // It is not known which of several arrays is accessed.
            (access.kind, access.one_of) = if is_certain { (kind, None) } else { (AccessKind::Address, Some(kind)) };
        }
    }

    pub(super) fn store(&mut self, left: &Operand, right: &Operand) {
        self.constant_changed(left);
        self.scopes.redirect(&left.uses, Sink::Nothing);
        if left.is_bare && (left.level == Level::Pointer || self.is_pointer(left.local)) {
            match left.local {
                // From here on a pointer variable points to something else.
                Some(local) => {
                    self.mark(left, AccessKind::Alias);
                    self.point(local, right);
                }
                None => {
                    let same = |access: &usize| left.accesses.iter().any(|own| self.name(*own) == self.name(*access));
                    let moves = right.accesses.iter().all(same);
                    self.mark(left, AccessKind::Move);
                    if moves {
                        self.mark(right, AccessKind::Alias);
                    } else {
                        self.hand_on(right);
                    }
                }
            }
            return;
        }
        self.mark(left, AccessKind::Store);
        self.hand_on(right);
    }

    pub(super) fn name(&self, access: usize) -> &str {
        &self.found.accesses[access].name.text
    }

    pub(super) fn is_pointer(&self, local: Option<usize>) -> bool {
        local.is_some_and(|local| {
            let local = &self.scopes.locals[local];
            local.is_indirect && local.level != Level::Element
        })
    }

    /// A variable points where `operand` does.
    pub(super) fn point(&mut self, local: usize, operand: &Operand) {
        if operand.accesses.is_empty() || operand.level == Level::Value {
            return;
        }
        self.mark(operand, AccessKind::Alias);
        let roots: Vec<String> = operand.accesses.iter().map(|access| self.name(*access).to_owned()).collect();
        let local = &mut self.scopes.locals[local];
        local.roots.extend(roots);
        local.level = operand.level;
        local.is_atomic |= operand.is_atomic;
    }

    /// `operand += ..`, `++operand`
    pub(super) fn change(&mut self, operand: &Operand) {
        self.constant_changed(operand);
        let owner = operand.local.filter(|local| !self.scopes.locals[*local].is_indirect);
        self.scopes.redirect(&operand.uses, owner.map_or(Sink::Used, Sink::Local));
        let moves = operand.is_bare && operand.level == Level::Pointer;
        let kind = match (moves, operand.local) {
            (true, Some(_)) => AccessKind::Alias,
            (true, None) => AccessKind::Move,
            (false, _) => AccessKind::Accumulate,
        };
        self.mark(operand, kind);
    }
}
