//! The body of a kernel.

use proc_macro2::{Ident, Span, TokenStream};

use super::kernel::{Extents, Kernel};
use cotangent_metal::tokens::scan::Scan;
use cotangent_metal::tokens::text::Text;

/// The body of a kernel.
#[derive(Debug, Clone)]
pub enum Body {
    /// One launch of kernel source.
    Launch(Box<Launch>),
    /// A Rust function that composes launches and operations.
    Rust(RustBody),
}

/// One launch.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The author's text inside `metal! { .. }`, or in the file that `metal_file!("..")` names.
    pub metal: Text,
    /// A text tuned for CUDA, if there is one.
    pub cuda: Option<Text>,
    /// Threads of the whole grid.
    pub grid: Option<(Extents, Span)>,
    /// Threads of one threadgroup, with the place of each extent.
    pub threads: Option<(Extents, Span)>,
    /// Paths of constants that hold shared text to put before the kernel.
    pub headers: Vec<TokenStream>,
    /// The value outputs start with, if any.
    pub init: Option<f32>,
    /// The place where outputs are declared as atomics, if they are.
    pub atomic: Option<Span>,
    /// Whether results may differ from run to run.
    pub nondeterministic: bool,
    /// Whether inputs arrive with their strides instead of being copied to rows.
    pub strided: bool,
}

impl Launch {
    /// Returns what one of its texts does with names.
    pub fn scan(&self, kernel: &Kernel, text: &Text) -> Scan {
        Scan::new(&text.tokens, kernel.arrays())
    }
}

/// A Rust body.
#[derive(Debug, Clone)]
pub struct RustBody {
    /// The block with its braces.
    pub block: TokenStream,
    /// The place where the block begins.
    pub span: Span,
    /// The stages that the body may call. Without any it consists of operations only, and runs on every backend.
    pub stages: Vec<TokenStream>,
    /// Every identifier in it, for the checks that ask whether a port is read.
    pub identifiers: Vec<Ident>,
}
