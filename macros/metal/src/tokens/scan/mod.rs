//! The use of names in a kernel source: which it declares, reads, stores to and accumulates into.
//!
//! This is no C++ compiler. It follows declarations, scopes, pointers and expressions well enough to be sure of what it
//! reports. An access that it cannot follow may be a write, and is left to the emulator.

mod calls;
mod conditions;
mod declarations;
mod effects;
mod expressions;
mod mistakes;
mod operand;
mod primary;
mod scopes;
mod statements;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::expand::expand;
pub use super::mistake::Mistake;
use super::token::{Name, Place, Token};
use super::{juxtaposed, left_out, unended};
use crate::names::{is_attribute, is_collective};
pub(super) use expressions::WORDS;
use scopes::{Scopes, Sink};

/// The names and accesses found in a source.
#[derive(Debug, Default)]
pub struct Scan {
    /// Names that the text declares itself: variables, parameters, types, macros.
    pub declared: BTreeSet<String>,
    /// The names among these that are known in the whole source: all but variables, which have a scope.
    pub everywhere: BTreeSet<String>,
    /// Macros and their parameters.
    macros: BTreeSet<String>,
    /// Variables of the outermost block, in order.
    pub outermost: Vec<Name>,
    /// Variables of inner blocks, in order.
    pub inner: Vec<Name>,
    /// Names in the place of a value, in the order of the text.
    pub accesses: Vec<Access>,
    /// Threadgroup arrays.
    pub threadgroup: Vec<Shared>,
    /// Names in the lengths of arrays, constants of the text left out.
    pub lengths: Vec<Length>,
    /// Attributes with the component that is read of them.
    pub components: Vec<(Name, Name)>,
    /// Places where the text says `double`.
    pub doubles: Vec<Place>,
    /// Variables named by a word that the language keeps for itself.
    pub reserved: Vec<Name>,
    /// Quotes that begin no character: numbers with separators, which Rust lexes as a lifetime.
    pub quotes: Vec<Place>,
    /// Words of C++ that Metal leaves out.
    pub left_out: Vec<Name>,
    /// Words of other languages, of which the text may declare some.
    pub elsewhere: Vec<Name>,
    /// Types that begin a declaration before the statement in front of it has ended.
    pub unended: Vec<Name>,
    /// Places where lambdas begin.
    pub lambdas: Vec<Place>,
    /// Variables that a condition assigns to: `if (i = 3)`.
    pub assigning: Vec<Name>,
    /// Arrays with the member that is read of them, which a pointer does not have.
    pub members: Vec<(Name, Name)>,
    /// `#include`s.
    pub includes: Vec<Place>,
    /// Operators at the end of a macro, which goes on with the next line.
    pub unfinished: Vec<Place>,
    /// Code that no compiler of Metal accepts, or that it accepts with another meaning than it seems to have.
    pub mistakes: Vec<Mistake>,
    /// Names that have an index, but stand for neither an array nor a variable.
    pub indexed: Vec<Name>,
    /// Names before a `::` that neither Metal nor the text declares.
    pub namespaces: Vec<Name>,
}

/// An array in threadgroup memory.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The name of the array.
    pub name: Name,
    /// The size of one element, where its type has a name.
    pub element: Option<Element>,
    /// The lengths as Rust's expressions, with the values of the source's constants in place of their names.
    pub lengths: Vec<String>,
    /// Whether it is there in every case: outside all braces and branches.
    pub is_outermost: bool,
}

/// The size of one element of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Element {
    /// This number of bytes.
    Bytes(i64),
    /// The size of a value of this type, which the source does not define: a dtype of the declaration.
    Type(String),
}

/// A name in the length of an array.
#[derive(Debug, Clone)]
pub struct Length {
    /// The array.
    pub array: Name,
    /// The name.
    pub name: String,
    /// Whether it is a variable of the text.
    pub is_local: bool,
}

/// One use of a name as a value.
#[derive(Debug, Clone)]
pub struct Access {
    /// The name: of an array also where the text uses a pointer into it.
    pub name: Name,
    /// The kind of access.
    pub kind: AccessKind,
    /// The pointer or reference that the text writes instead of the array.
    pub through: Option<String>,
    /// Whether anything is done with what was read. It is not in `(void)x`, behind `if (false)`, or where it only reaches
    /// variables that nothing reads.
    pub is_used: bool,
    /// Whether it stands where nothing ever runs.
    pub is_dead: bool,
    /// The access to this or to another array, if a pointer is one of several: `(c ? x : y)[i] = 1`.
    pub one_of: Option<AccessKind>,
}

/// The kinds of access to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessKind {
    /// The value is used.
    Read,
    /// Something is stored to the name, or to an element of it.
    Store,
    /// The value, or an element of it, is changed in place: `+=`, `++`.
    Accumulate,
    /// A pointer is set to it, which is followed from there.
    Alias,
    /// The pointer itself is moved: `x += offset`.
    Move,
    /// The address goes somewhere, so that the array may be read or written there.
    Address,
    /// One of its elements is given to a function, which may take it by reference.
    Given,
    /// The address goes to an atomic operation.
    Atomic,
    /// The name is called.
    Call,
}

impl Scan {
    /// Scans a text. `arrays` are the names that stand for memory: what is found of them is what happens to that.
    pub fn new(tokens: &[Token], arrays: Vec<String>) -> Self {
        let expanded = expand(tokens);
        let mut scanner = Scanner {
            arrays: arrays.into_iter().collect(),
            found: Scan {
                declared: expanded.defined.clone(),
                everywhere: expanded.defined.clone(),
                macros: expanded.defined,
                includes: expanded.includes,
                unfinished: expanded.unfinished,
                ..Scan::default()
            },
            scopes: Scopes::default(),
            sinks: Vec::new(),
            sink: Sink::Used,
            is_dead: false,
            has_conditions: expanded.has_conditions,
            in_branch: 0,
            depth: 0,
            types: BTreeSet::new(),
            pointers: BTreeSet::new(),
            constants: BTreeMap::new(),
            functions: 0,
            structs: 0,
            indexed: BTreeSet::new(),
            as_numbers: Vec::new(),
        };
        scanner.found.left_out = left_out::find(&expanded.tokens);
        scanner.found.elsewhere = left_out::elsewhere(&expanded.tokens);
        scanner.found.unended = unended::find(&expanded.tokens);
        scanner.found.mistakes = expanded.comments.iter().map(mistakes::comment).collect();
        if !expanded.has_conditions {
            scanner.found.mistakes.extend(juxtaposed::find(&expanded.tokens));
        }
        scanner.statements(&expanded.tokens);
        scanner.finish()
    }

    /// The attributes that the text reads, each once.
    pub fn attributes(&self) -> BTreeSet<&str> {
        let names = self.accesses.iter().map(|access| access.name.text.as_str());
        names.filter(|name| is_attribute(name)).collect()
    }

    /// The operations in which threads meet, each once.
    pub fn collectives(&self) -> BTreeSet<&str> {
        let called = self.accesses.iter().filter(|access| access.kind == AccessKind::Call);
        called.map(|access| access.name.text.as_str()).filter(|name| is_collective(name)).collect()
    }

    /// Returns whether the text defines a macro of this name.
    pub fn is_macro(&self, name: &str) -> bool {
        self.macros.contains(name)
    }

    /// The uses of one name.
    pub fn of_name<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Access> {
        self.accesses.iter().filter(move |access| access.name.text == name)
    }
}

impl AccessKind {
    /// Returns whether it may write to memory.
    pub fn may_write(self) -> bool {
        self.writes() || self == Self::Address
    }

    /// Returns whether it writes to memory.
    pub fn writes(self) -> bool {
        matches!(self, Self::Store | Self::Accumulate | Self::Atomic)
    }
}

/// Deeper than the expressions and statements of any text that is written by hand.
const DEEPEST: usize = 256;

/// The state of a scan.
struct Scanner {
    arrays: BTreeSet<String>,
    found: Scan,
    scopes: Scopes,
    /// The place to which the value of each access goes.
    sinks: Vec<Sink>,
    /// The place to which values go that are read now.
    sink: Sink,
    /// Whether what is read now never runs.
    is_dead: bool,
    /// Whether `#if` decides about some of the text: then nothing is known to stand behind a `return`.
    has_conditions: bool,
    /// The number of open alternatives behind `#else`.
    in_branch: usize,
    /// The depth of nesting at the current place.
    depth: usize,
    /// Types that the text declares.
    types: BTreeSet<String>,
    /// The names among these of pointers: `using P = device float*`.
    pointers: BTreeSet<String>,
    /// Values of integer constants that the text defines, as text.
    constants: BTreeMap<String, String>,
    /// The number of functions of the text that contain the current place.
    functions: usize,
    /// The number of structs of the text that contain the current place.
    structs: usize,
    /// Arrays of which the text reads an element somewhere.
    indexed: BTreeSet<String>,
    /// Arrays in the place of a number. If the text reads no element of such an array, its declaration may be wrong instead.
    as_numbers: Vec<(String, Mistake)>,
}

impl Scanner {
    fn finish(mut self) -> Scan {
        let live = self.scopes.live();
        for (access, sink) in self.found.accesses.iter_mut().zip(&self.sinks) {
            access.is_used = match sink {
                Sink::Used => true,
                Sink::Nothing => false,
                Sink::Local(local) => live[*local],
            };
        }
        let of_arrays = self.as_numbers.into_iter().filter(|(array, _)| self.indexed.contains(array));
        self.found.mistakes.extend(of_arrays.map(|(_, mistake)| mistake));
        self.found
    }

    /// A name that the whole text knows.
    fn declare_everywhere(&mut self, name: &str) {
        self.found.declared.insert(name.to_owned());
        self.found.everywhere.insert(name.to_owned());
    }

    /// Returns where a value goes that is read here.
    fn current_sink(&self) -> Sink {
        if self.is_dead { Sink::Nothing } else { self.sink }
    }

    /// Runs `scan` one level deeper, unless that is deeper than texts go.
    fn deeper<R>(&mut self, scan: impl FnOnce(&mut Self) -> R) -> Option<R> {
        if self.depth >= DEEPEST {
            return None;
        }
        self.depth += 1;
        let result = scan(self);
        self.depth -= 1;
        Some(result)
    }

    /// Runs `scan` while values that are read go to `sink`.
    fn with_sink<R>(&mut self, sink: Sink, scan: impl FnOnce(&mut Self) -> R) -> R {
        let outer = std::mem::replace(&mut self.sink, sink);
        let result = scan(self);
        self.sink = outer;
        result
    }
}
