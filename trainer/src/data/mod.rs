//! The way from a JSON-lines file of conversations to padded batches with labels.
//!
//! `lines` reads a file line by line, `json` a line; `row` knows the forms of a line, `schema` its messages (`chat`);
//! `damage` finds why a line is not JSON; `picture_parts` and `video_parts` find pictures and videos in it. The
//! checkpoint's own `template` renders a conversation. `spans` finds in the rendered text what the assistant said, and
//! `dropped` what the template left out. `tokenizer` turns text into tokens, and `vision` makes room for pictures
//! between them. `format` does all of this for one conversation and `dataset` for a file, with a `report`; `batch`
//! groups and pads. Templates and tokenizers are foreign programs, so they run in a `sandbox`.

pub mod batch;
pub mod chat;
mod damage;
pub mod dataset;
pub mod dropped;
mod error;
pub mod format;
mod jinja;
pub mod json;
pub mod lines;
mod nulls;
pub mod options;
pub mod picture_parts;
mod python;
pub mod report;
pub mod row;
pub mod sandbox;
pub mod schema;
pub mod spans;
pub mod template;
mod template_files;
pub mod tokenizer;
mod tokenizer_files;
mod video_parts;
mod vision;
mod windows;

#[cfg(test)]
mod tests;

pub use batch::{IGNORED_LABEL, Order, Targets, TokenBatch};
pub use chat::{Conversation, Message, Role, ToolCall};
pub use dataset::{Dataset, Example};
pub use error::{DataError, LineFault};
pub use format::{ChatFormat, EncodedExample};
pub use json::Json;
pub use options::{Columns, DataOptions};
pub use picture_parts::PICTURE;
pub use report::DataReport;
pub use row::{Content, Row};
pub use spans::{Rendered, TurnMarkers};
pub use template::{ChatTemplate, RenderOptions};
pub use tokenizer::{TextStream, Tokenizer};
pub use vision::{Placed, VisionFormat};
