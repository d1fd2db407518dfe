//! Optimizers: from gradients to new parameters. A [`Rule`] says how one optimizer differs from another, and [`Optimizer`] is
//! what all of them share.

mod adamw;
mod clip;
mod driver;
mod layouts;
mod rule;
mod sgd;
mod state;

pub use adamw::{AdamW, AdamWOptions};
pub use clip::global_norm;
pub use driver::{Optimizer, Update};
pub use rule::{New, Old, Rule};
pub use sgd::{Sgd, SgdOptions};
