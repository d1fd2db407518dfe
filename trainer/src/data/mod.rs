//! From a JSON-lines file of conversations to padded batches with labels.
//!
//! `jsonl` reads conversations (`chat`); the checkpoint's own `template` renders each once; `spans` finds in the
//! rendered text what the assistant said; `tokenizer` turns text into tokens; `format` does these three for one
//! conversation; `dataset` for a file; `batch` groups and pads. Templates and tokenizers are programs of others: they run
//! in a `sandbox`.

pub mod batch;
pub mod chat;
pub mod dataset;
mod error;
pub mod format;
mod jinja;
pub mod jsonl;
mod python;
pub mod sandbox;
pub mod spans;
pub mod template;
mod template_files;
pub mod tokenizer;
mod tokenizer_files;

#[cfg(test)]
mod tests;

pub use batch::{Batch, IGNORED_LABEL, Order};
pub use chat::{Conversation, Message, Role, ToolCall};
pub use dataset::{Dataset, Example};
pub use error::DataError;
pub use format::ChatFormat;
pub use spans::{Rendered, TurnMarkers};
pub use template::{ChatTemplate, RenderOptions};
pub use tokenizer::{TextStream, Tokenizer};
