//! Translates kernel source to C++: lexing, the few rewrites that Metal's words need, MLX's rules for signatures.

mod arms;
mod assemble;
mod calls;
mod checked;
mod directives;
mod file;
mod functions;
mod indices;
mod lexer;
mod loops;
mod members;
mod privates;
mod rewrite;
mod rules;
mod shifts;
mod signature;
mod subscripts;
mod sums;
mod threadgroup;
mod whole;
mod words;

pub use assemble::{Unit, attribute_field, breaks_on_cuda, check_unit, cuda_parts, host_unit, opencl_unit, packs};
pub use rewrite::{MACROS, Site};
pub use rules::breaches;
pub use signature::{Argument, arguments};
pub use subscripts::{first_use, private_array};
pub use whole::function_unit;
