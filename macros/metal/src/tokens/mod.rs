//! Kernel source as tokens: reading it, printing it with its layout, and finding out what it does with names.

mod expand;
mod juxtaposed;
mod left_out;
pub mod lexer;
mod mistake;
mod neighbours;
mod operator;
pub mod print;
pub mod scan;
pub mod text;
pub mod token;
mod unended;
