//! Optimizers: from gradients to new parameters.

mod adamw;
mod clip;

pub use adamw::{AdamW, AdamWOptions, Update};
pub use clip::global_norm;
