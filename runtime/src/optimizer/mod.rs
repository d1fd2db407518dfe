//! Optimizers: from gradients to new parameters.

mod adamw;
mod clip;
mod layouts;
mod moments;

pub use adamw::{AdamW, AdamWOptions, Update};
pub use clip::global_norm;
