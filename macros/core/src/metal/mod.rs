//! Kernel text as tokens: printing it with its layout, and finding out what it does with names.

mod expand;
pub mod left_out;
pub mod lexer;
pub mod names;
mod neighbours;
mod operator;
pub mod scan;
pub mod source;
pub mod text;
pub mod token;
