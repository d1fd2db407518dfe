//! Messages and tool calls in the form that OpenAI began, with the spellings that other programs write.

use std::borrow::Cow;

use super::json::{Json, Members, describe};
use super::picture_parts::{self, PICTURE};
use super::video_parts;
use super::{Message, Role, ToolCall};
use crate::pictures::VisualSource;

/// A place at which a row differs from the forms that are read.
#[derive(Debug, thiserror::Error)]
#[error("`{path}`: {reason}")]
pub struct SchemaError {
    /// The place, as in `messages[2].content`.
    pub path: String,
    /// The message: what was found and what was expected.
    pub reason: String,
}

/// The most keys without a meaning that are noted of a row.
const MOST_KEYS: usize = 100;

/// The parts of a row that reading left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Keys that mean nothing here and hold something, as in `messages[].timestamp`, each once.
    pub keys: Vec<String>,
    /// Members of tools and of arguments that were null, as Arrow writes them for keys that another row has.
    pub nulls: usize,
    /// Whether arguments were JSON text, which Arrow leaves alone.
    pub(super) has_encoded_arguments: bool,
}

impl LeftOut {
    /// Notes every member of `members` that is not `known` and holds something.
    pub(super) fn note_unknown(&mut self, members: &Members, path: &str, known: &[&str]) {
        for (key, value) in members {
            let is_empty = match value {
                Json::Null => true,
                Json::String(text) => text.is_empty(),
                Json::Array(items) => items.is_empty(),
                Json::Object(members) => members.is_empty(),
                Json::Bool(_) | Json::Number(_) => false,
            };
            if !is_empty && !known.contains(&key.as_str()) && self.keys.len() < MOST_KEYS {
                let key = format!("{path}{}", shortened(key));
                if !self.keys.contains(&key) {
                    self.keys.push(key);
                }
            }
        }
    }
}

/// Reads a message at `path`.
pub(super) fn message(json: &Json, path: &str, left_out: &mut LeftOut) -> Result<Message, SchemaError> {
    let members = object(json, path)?;
    left_out.note_unknown(
        members,
        "messages[].",
        &[
            "role",
            "from",
            "content",
            "value",
            "name",
            "tool_calls",
            "tool_call_id",
            "function_call",
            "weight",
            "reasoning_content",
            "reasoning",
            "thinking",
            "refusal",
        ],
    );
    let role_key = if member(members, "role").is_none() && members.contains_key("from") { "from" } else { "role" };
    let content_key =
        if member(members, "content").is_none() && members.contains_key("value") { "value" } else { "content" };
    let content_path = format!("{path}.{content_key}");
    let role = match member(members, role_key).and_then(Json::as_str) {
        Some("system") => Role::System,
        Some("developer") => Role::Developer,
        Some("user" | "human") => Role::User,
        Some("assistant" | "gpt" | "chatgpt" | "bing" | "bard" | "model") => Role::Assistant,
        Some("tool" | "function" | "observation" | "function_response") => Role::Tool,
        // The calls are in the field where other roles have their text.
        Some("function_call") => {
            let calls = encoded(member(members, content_key), &content_path)?;
            let calls = match calls.as_ref() {
                Json::Array(calls) => calls.as_slice(),
                call => std::slice::from_ref(call),
            };
            let tool_calls = self::tool_calls(calls, &content_path, left_out)?;
            return Ok(Message { tool_calls, ..Message::new(Role::Assistant, "") });
        }
        _ => {
            let found = describe(member(members, role_key));
            let expected = "`system`, `developer`, `user`, `assistant` or `tool`";
            return fail(format!("{path}.{role_key}"), format!("found {found}, expected {expected}"));
        }
    };

    let calls_path = format!("{path}.tool_calls");
    let mut calls = match member(members, "tool_calls") {
        None => Vec::new(),
        Some(calls) => match encoded(Some(calls), &calls_path)?.as_ref() {
            Json::Array(calls) => tool_calls(calls, &calls_path, left_out)?,
            Json::Null => Vec::new(),
            _ => return fail(calls_path, format!("found {}, expected a list of calls", describe(Some(calls)))),
        },
    };
    if let Some(call) = member(members, "function_call") {
        calls.push(tool_call(call, &format!("{path}.function_call"), left_out)?);
    }
    let reasoning = reasoning(members, path)?.filter(|text| role == Role::Assistant || !text.is_empty());
    if role != Role::Assistant {
        if !calls.is_empty() {
            return fail(calls_path, "found in a message that is not the assistant's");
        }
        if reasoning.is_some() {
            return fail(path, "found reasoning in a message that is not the assistant's");
        }
    }
    if let Some(refusal) = member(members, "refusal").filter(|refusal| refusal.as_str() != Some("")) {
        let found = describe(Some(refusal));
        return fail(
            format!("{path}.refusal"),
            format!("found {found}\nhelp: write what the assistant says as `content`"),
        );
    }
    let content = match member(members, content_key) {
        None if !calls.is_empty() => Said::default(),
        None if role == Role::Assistant && members.contains_key(content_key) => {
            return fail(
                content_path,
                "found null and no tool call: the assistant would learn to say nothing\nhelp: leave the message out",
            );
        }
        content => content_text(content, &content_path, left_out)?,
    };
    let Said { text: content, pictures } = content;
    let (name, tool_call_id) = (text(members, path, "name")?, text(members, path, "tool_call_id")?);
    let learned = match member(members, "weight") {
        None => true,
        Some(Json::Number(weight)) if ["1", "1.0"].contains(&weight.to_string().as_str()) => true,
        Some(Json::Number(weight)) if ["0", "0.0"].contains(&weight.to_string().as_str()) => false,
        other => return fail(format!("{path}.weight"), format!("found {}, expected 0 or 1", describe(other))),
    };
    Ok(Message { role, content, pictures, reasoning, tool_calls: calls, name, tool_call_id, learned })
}

/// The thoughts, which programs write under three names.
fn reasoning(members: &Members, path: &str) -> Result<Option<String>, SchemaError> {
    let mut found: Option<(String, &str)> = None;
    for key in ["reasoning_content", "reasoning", "thinking"] {
        match (text(members, path, key)?, &found) {
            (Some(thought), Some((first, other))) if thought != *first => {
                return fail(
                    format!("{path}.{key}"),
                    format!("found beside `{other}`, which says something else, expected one of the two"),
                );
            }
            (Some(thought), None) => found = Some((thought, key)),
            _ => {}
        }
    }
    Ok(found.map(|(thought, _)| thought))
}

fn tool_calls(calls: &[Json], path: &str, left_out: &mut LeftOut) -> Result<Vec<ToolCall>, SchemaError> {
    calls.iter().enumerate().map(|(i, call)| tool_call(call, &format!("{path}[{i}]"), left_out)).collect()
}

/// Reads `{"id", "type": "function", "function": {"name", "arguments"}}`, or the inner object alone.
fn tool_call(json: &Json, path: &str, left_out: &mut LeftOut) -> Result<ToolCall, SchemaError> {
    let outer = object(json, path)?;
    let (function, path) = match member(outer, "function") {
        Some(function) => {
            left_out.note_unknown(outer, "messages[].tool_calls[].", &["id", "type", "function", "index"]);
            let path = format!("{path}.function");
            (object(function, &path)?, path)
        }
        None => (outer, path.to_owned()),
    };
    if let Some(kind) = member(outer, "type").filter(|kind| kind.as_str() != Some("function")) {
        return fail(format!("{path}.type"), format!("found {}, expected `function`", describe(Some(kind))));
    }
    // If a part of a call were ignored, it would be another call.
    known_keys(function, &path, &["name", "arguments", "id", "type", "index"])?;
    let Some(name) = text(function, &path, "name")?.filter(|name| !name.is_empty()) else {
        return fail(format!("{path}.name"), "found nothing, expected the name of a function");
    };
    let at = format!("{path}.arguments");
    let arguments = match member(function, "arguments") {
        None => Members::new(),
        Some(Json::Object(arguments)) => (**arguments).clone(),
        Some(Json::String(encoded)) => {
            left_out.has_encoded_arguments = true;
            encoded_arguments(encoded, &at)?
        }
        other => return fail(at, format!("found {}, expected an object", describe(other))),
    };
    Ok(ToolCall { id: text(outer, &path, "id")?, name, arguments })
}

/// OpenAI writes the arguments as JSON text; templates want the object. Some programs encode twice.
fn encoded_arguments(encoded: &str, path: &str) -> Result<Members, SchemaError> {
    let mut value = Json::String(encoded.to_owned());
    for _ in 0..2 {
        value = match value {
            Json::String(text) if text.trim().is_empty() => Json::Null,
            Json::String(text) => match Json::parse(&text) {
                Ok(value) => value,
                Err(error) => {
                    return fail(path, format!("found text that is not JSON ({error}), expected an object"));
                }
            },
            other => other,
        };
    }
    match value {
        Json::Object(arguments) => Ok(*arguments),
        Json::Null => Ok(Members::new()),
        other => fail(path, format!("found text that holds {}, expected an object", describe(Some(&other)))),
    }
}

/// A value that may be written as JSON text; blank text is null.
pub(super) fn encoded<'a>(value: Option<&'a Json>, path: &str) -> Result<Cow<'a, Json>, SchemaError> {
    match value {
        None => Ok(Cow::Owned(Json::Null)),
        Some(Json::String(text)) if text.trim().is_empty() => Ok(Cow::Owned(Json::Null)),
        Some(Json::String(text)) => match Json::parse(text) {
            Ok(value) => Ok(Cow::Owned(value)),
            Err(error) => fail(path, format!("found text that is not JSON ({error})")),
        },
        Some(value) => Ok(Cow::Borrowed(value)),
    }
}

/// The text of a message, and the pictures and videos in it.
#[derive(Default)]
struct Said {
    text: String,
    pictures: Vec<Option<VisualSource>>,
}

fn content_text(content: Option<&Json>, path: &str, left_out: &mut LeftOut) -> Result<Said, SchemaError> {
    let parts = match content {
        Some(Json::String(text)) => {
            picture_parts::check_text(text, path)?;
            return Ok(Said { text: text.clone(), pictures: Vec::new() });
        }
        Some(Json::Array(parts)) => parts,
        other => return fail(path, format!("found {}, expected text, or a list of parts", describe(other))),
    };
    let mut said = Said::default();
    for (i, part) in parts.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let part = object(part, &path)?;
        if picture_parts::is_picture(part) {
            let keys = ["type", "image", "image_url", "url", "path", "base64", "text"];
            left_out.note_unknown(part, "messages[].content[].", &keys);
            said.pictures.push(picture_parts::picture_of_part(part, &path)?.map(VisualSource::Picture));
            said.text.push(PICTURE);
            continue;
        }
        if video_parts::is_video(part) {
            left_out.note_unknown(part, "messages[].content[].", &video_parts::KEYS);
            said.pictures.push(Some(VisualSource::Video(video_parts::video_of_part(part, &path)?)));
            said.text.push(PICTURE);
            continue;
        }
        match member(part, "type").map(|kind| kind.as_str().unwrap_or_default()) {
            None | Some("text" | "input_text" | "output_text") => {}
            Some(_) => {
                let found = describe(member(part, "type"));
                return fail(format!("{path}.type"), format!("found {found}, expected `text`, `image` or `video`"));
            }
        }
        left_out.note_unknown(part, "messages[].content[].", &["type", "text"]);
        match member(part, "text") {
            Some(Json::String(text)) => {
                picture_parts::check_text(text, &format!("{path}.text"))?;
                said.text.push_str(text);
            }
            other => return fail(format!("{path}.text"), format!("found {}, expected text", describe(other))),
        }
    }
    Ok(said)
}

/// The member `key`; one that is null is as good as absent.
pub(super) fn member<'a>(members: &'a Members, key: &str) -> Option<&'a Json> {
    members.get(key).filter(|value| **value != Json::Null)
}

pub(super) fn object<'a>(json: &'a Json, path: &str) -> Result<&'a Members, SchemaError> {
    match json {
        Json::Object(members) => Ok(members),
        other => fail(path, format!("found {}, expected an object", describe(Some(other)))),
    }
}

pub(super) fn text(members: &Members, path: &str, key: &str) -> Result<Option<String>, SchemaError> {
    match member(members, key) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text.clone())),
        other => {
            let dot = if path.is_empty() { "" } else { "." };
            fail(format!("{path}{dot}{key}"), format!("found {}, expected text", describe(other)))
        }
    }
}

fn known_keys(members: &Members, path: &str, known: &[&str]) -> Result<(), SchemaError> {
    let unknown = members.iter().find(|(key, value)| !known.contains(&key.as_str()) && **value != Json::Null);
    match unknown {
        None => Ok(()),
        Some((key, _)) => {
            let known: Vec<String> = known.iter().map(|key| format!("`{key}`")).collect();
            fail(format!("{path}.{}", shortened(key)), format!("an unknown key, expected {}", known.join(", ")))
        }
    }
}

/// A key of a file for a message: short, and without characters that a terminal obeys.
pub(super) fn shortened(key: &str) -> String {
    let short: String = key.chars().take(40).collect();
    let dots = if short.len() < key.len() { ".." } else { "" };
    format!("{}{dots}", short.escape_debug())
}

pub(super) fn fail<T>(path: impl Into<String>, reason: impl Into<String>) -> Result<T, SchemaError> {
    Err(SchemaError { path: path.into(), reason: reason.into() })
}
