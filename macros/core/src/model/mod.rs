//! A kernel as it is after resolution: names, symbolic shapes, roles. No syntax trees.

pub mod body;
pub mod expression;
pub mod kernel;
pub mod port;
pub mod requirement;
