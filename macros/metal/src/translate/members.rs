//! Calls that threads make together, and components of vectors.

use super::lexer::Kind;
use super::rewrite::Writer;
use crate::names::is_collective;

impl Writer<'_, '_> {
    /// If the identifier at `i` calls a collective: where its parenthesis opens. Explicit template arguments are allowed.
    pub(super) fn collective_call(&self, i: usize, end: usize) -> Option<usize> {
        if !is_collective(self.tokens[i].text) || self.is_member(i) {
            return None;
        }
        let mut at = self.next_significant(i + 1, end)?;
        if self.tokens[at].is('<') {
            let mut depth = 0;
            while at < end {
                depth += i32::from(self.tokens[at].is('<')) - i32::from(self.tokens[at].is('>'));
                at += 1;
                if depth == 0 {
                    break;
                }
            }
            at = self.next_significant(at, end)?;
        }
        self.tokens[at].is('(').then_some(at)
    }

    /// `.xy` after a dot: a call that names its components; where it is assigned, one that can be.
    pub(super) fn swizzle(&self, i: usize) -> Option<String> {
        let name = self.tokens[i].text;
        let set = if name.contains(['x', 'y', 'z', 'w']) { "xyzw" } else { "rgba" };
        let component = |c: char| set.find(c);
        if !(2..=4).contains(&name.len()) || !name.chars().all(|c| component(c).is_some()) || !self.is_member(i) {
            return None;
        }
        let indices: Vec<String> = name.chars().filter_map(component).map(|n| n.to_string()).collect();
        let following: Vec<char> = self.tokens[i + 1..]
            .iter()
            .filter(|t| t.kind != Kind::Space)
            .take(2)
            .map(|t| t.text.chars().next().unwrap_or(' '))
            .collect();
        let assigned = match following[..] {
            ['=', next] => next != '=',
            ['='] => true,
            ['+' | '-' | '*' | '/', '='] => true,
            _ => false,
        };
        let method = if assigned { "lanes" } else { "swizzle" };
        Some(format!("{method}(metal::components<{}>())", indices.join(", ")))
    }
}
