//! Words of C++ that Metal leaves out (Metal Shading Language Specification, "Metal and C++17").

use super::token::{Kind, Name, Token};

/// Words of C++ that Metal leaves out, each with what to do instead.
const LEFT_OUT: &[(&str, &str)] = &[
    ("asm", "use Metal's functions: Metal has no assembly"),
    ("catch", "return a value: Metal has no exceptions"),
    ("delete", "declare arrays: Metal has no heap"),
    ("dynamic_cast", "use templates: Metal has no types at run time"),
    ("goto", "write `if`, `for` and `while`: Metal has no `goto`"),
    ("new", "declare arrays: Metal has no heap"),
    ("printf", "write the value to an output: Metal kernels do not print"),
    ("register", "leave the word out"),
    ("static", "make it `constexpr`, or pass its value from launch to launch through an output"),
    ("std", "use namespace `metal`: Metal has no C++ standard library"),
    ("thread_local", "declare a variable: each thread has its own"),
    ("throw", "return a value: Metal has no exceptions"),
    ("try", "return a value: Metal has no exceptions"),
    ("typeid", "use templates: Metal has no types at run time"),
    ("virtual", "use templates: Metal has no virtual functions"),
];

/// Whether Metal leaves a word of C++ out wherever it stands. `static` is left out only of variables.
fn is_left_out(name: &str) -> bool {
    name != "static" && LEFT_OUT.iter().any(|(word, _)| *word == name)
}

/// What to do instead of using a word that Metal leaves out.
pub fn instead_of(word: &str) -> &'static str {
    LEFT_OUT.iter().find(|(known, _)| *known == word).map_or("leave it out", |(_, instead)| instead)
}

/// Where such words stand in what is compiled.
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
