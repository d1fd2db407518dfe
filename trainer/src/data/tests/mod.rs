//! Tests of reading data, and what they share.

mod chat;
mod dropped;
mod json;
mod lines;
mod rows;
mod spans;
mod template;
mod thinking;
mod tokenizer;
mod windows;

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::*;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn template(name: &str) -> ChatTemplate {
    let file = data().join(name);
    let source = std::fs::read_to_string(&file).unwrap();
    ChatTemplate::from_source(Path::new(name), &source).unwrap()
}

fn conversation(messages: Json) -> Conversation {
    Conversation::from_json(&json!({ "messages": messages }).into()).unwrap()
}
