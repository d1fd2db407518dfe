//! Words of C++ that Metal leaves out, and words of other languages, in a source.

use super::token::{Kind, Name, Token};
use crate::elsewhere::word_in_metal;
use crate::left_out::{LEFT_OUT, LONG_LONG};

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
            Kind::Name(text) if text == "long" && tokens.get(index + 1).and_then(Token::name) == Some("long") => {
                found.push(Name { text: LONG_LONG.to_owned(), place: token.place });
            }
            Kind::Group(_, inner) | Kind::Branch(inner) => found.extend(find(inner)),
            _ => {}
        }
    }
    found
}

/// Returns the words of other languages in what is compiled, members of structs left out.
pub(super) fn elsewhere(tokens: &[Token]) -> Vec<Name> {
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match &token.kind {
            Kind::Name(text) if word_in_metal(text).is_some() && (index == 0 || !tokens[index - 1].is('.')) => {
                found.push(Name { text: text.clone(), place: token.place });
            }
            Kind::Group(_, inner) | Kind::Branch(inner) => found.extend(elsewhere(inner)),
            _ => {}
        }
    }
    found
}
