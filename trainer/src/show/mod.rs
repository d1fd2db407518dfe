//! What a data set becomes before a model learns it, as text for people: examples token by token, and a summary.

mod example;
mod histogram;
mod paint;
mod summary;

pub use example::{ExampleOptions, ShowError, write_example};
pub use paint::{Paint, Shade};
pub use summary::{BatchOptions, write_format, write_summary};
