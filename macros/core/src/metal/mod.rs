//! Kernel text as tokens.

pub mod text;
