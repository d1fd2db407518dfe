//! Shows people what a model would learn from a data set: examples token by token, and a summary.

mod example;
mod histogram;
mod paint;
mod summary;

pub use example::{ExampleOptions, ShowError, write_example};
pub use paint::{Paint, Shade};
pub use summary::{BatchOptions, write_format, write_summary};
