//! Words of C++ that Metal leaves out, in a source.

use super::token::{Kind, Name, Token};
use crate::left_out::LEFT_OUT;

/// Returns whether Metal leaves a word of C++ out wherever it stands. `static` is left out only of variables.
fn is_left_out(name: &str) -> bool {
    name != "static" && LEFT_OUT.iter().any(|(word, _)| *word == name)
}

/// Returns where words that Metal leaves out stand in what is compiled.
pub(super) fn find(tokens: &[Token]) -> Vec<Name> {
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match &token.kind {
            Kind::Name(text) if is_left_out(text) => {
                let is_member = index > 0 && (tokens[index - 1].is('.') || tokens[index - 1].is('>'));
                if !is_member {
                    found.push(Name { text: text.clone(), place: token.place });
                }
            }
            Kind::Group(_, inner) | Kind::Branch(inner) => found.extend(find(inner)),
            _ => {}
        }
    }
    found
}
