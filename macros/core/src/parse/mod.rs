//! Reads the syntax of a declaration. What comes out still has syn's types; names are not resolved.

pub mod declaration;
pub mod expression;
pub mod options;
pub mod resolve;
pub mod signature;
pub mod threadgroup;
