//! Conversations in the `messages` form that OpenAI began and chat templates expect, read strictly.

use serde_json::{Map, Value, json};

/// One training example: messages, and the tools the assistant may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// The messages, oldest first; at least one.
    pub messages: Vec<Message>,
    /// Descriptions of tools, handed to the template as they are.
    pub tools: Vec<Value>,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said. Text parts are joined; a call without words is empty.
    pub content: String,
    /// What the assistant thought first (`reasoning_content`, or `thinking`).
    pub reasoning: Option<String>,
    /// The tools the assistant calls.
    pub tool_calls: Vec<ToolCall>,
    /// `name`, for templates that show it.
    pub name: Option<String>,
    /// The call that a tool answers, for templates that show it.
    pub tool_call_id: Option<String>,
}

/// Who speaks in a [`Message`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `system`: instructions.
    System,
    /// `developer`: instructions, in newer templates.
    Developer,
    /// `user`: the person.
    User,
    /// `assistant`: the model; what it says is what is learned.
    Assistant,
    /// `tool`: the answer to a call.
    Tool,
}

/// A call of a tool by the assistant.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// `id`, for templates that show it.
    pub id: Option<String>,
    /// The name of the function.
    pub name: String,
    /// Its arguments by name, in order.
    pub arguments: Map<String, Value>,
}

/// Where a conversation departs from the schema, and how.
#[derive(Debug, thiserror::Error)]
#[error("`{path}`: {reason}")]
pub struct SchemaError {
    /// The place, as in `messages[2].content`.
    pub path: String,
    /// What was found and what was expected.
    pub reason: String,
}

impl Conversation {
    /// Reads one parsed line of a data set.
    ///
    /// # Errors
    /// Names the first place that departs from the schema. Unknown keys are errors: `tool` for `tools` must not go
    /// unnoticed.
    pub fn from_json(json: &Value) -> Result<Self, SchemaError> {
        let top = object(json, "the line")?;
        if !top.contains_key("messages")
            && let Some(other) = ["prompt", "conversations", "text"].into_iter().find(|key| top.contains_key(*key))
        {
            return fail(
                other,
                "this form is not read\nhelp: write `{\"messages\": [{\"role\": ..., \"content\": ...}, ...]}`",
            );
        }
        known_keys(top, "", &["messages", "tools"])?;
        let Some(Value::Array(items)) = top.get("messages") else {
            return fail("messages", format!("found {}, expected a list of messages", describe(top.get("messages"))));
        };
        if items.is_empty() {
            return fail("messages", "found an empty list, expected at least one message");
        }
        let messages = items
            .iter()
            .enumerate()
            .map(|(i, item)| Message::from_json(item, &format!("messages[{i}]")))
            .collect::<Result<_, _>>()?;
        let tools = match top.get("tools") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(tools)) => {
                for (i, tool) in tools.iter().enumerate() {
                    object(tool, &format!("tools[{i}]"))?;
                }
                tools.clone()
            }
            other => return fail("tools", format!("found {}, expected a list of descriptions", describe(other))),
        };
        Ok(Self { messages, tools })
    }

    /// Applies `change` to every string that the template will be given: contents, names, arguments, tools.
    pub(super) fn for_each_string(&mut self, change: &mut impl FnMut(&mut String)) {
        for message in &mut self.messages {
            change(&mut message.content);
            for text in [&mut message.reasoning, &mut message.name, &mut message.tool_call_id] {
                text.iter_mut().for_each(&mut *change);
            }
            for call in &mut message.tool_calls {
                call.id.iter_mut().for_each(&mut *change);
                change(&mut call.name);
                change_map(&mut call.arguments, change);
            }
        }
        self.tools.iter_mut().for_each(|tool| change_value(tool, change));
    }
}

impl Message {
    /// A message of `role` that says `content` and nothing else.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        let content = content.into();
        Self { role, content, reasoning: None, tool_calls: Vec::new(), name: None, tool_call_id: None }
    }

    fn from_json(json: &Value, path: &str) -> Result<Self, SchemaError> {
        let message = object(json, path)?;
        known_keys(
            message,
            path,
            &["role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "thinking"],
        )?;
        let role = match message.get("role").and_then(Value::as_str) {
            Some("system") => Role::System,
            Some("developer") => Role::Developer,
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some("tool") => Role::Tool,
            _ => {
                let found = describe(message.get("role"));
                let expected = "`system`, `developer`, `user`, `assistant` or `tool`";
                return fail(format!("{path}.role"), format!("found {found}, expected {expected}"));
            }
        };

        let tool_calls = match message.get("tool_calls") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(calls)) => {
                let read = |(i, call)| ToolCall::from_json(call, &format!("{path}.tool_calls[{i}]"));
                calls.iter().enumerate().map(read).collect::<Result<_, _>>()?
            }
            other => {
                return fail(
                    format!("{path}.tool_calls"),
                    format!("found {}, expected a list of calls", describe(other)),
                );
            }
        };
        let reasoning = match (text(message, path, "reasoning_content")?, text(message, path, "thinking")?) {
            (Some(_), Some(_)) => {
                return fail(format!("{path}.thinking"), "found beside `reasoning_content`, expected one of the two");
            }
            (one, other) => one.or(other),
        };
        if role != Role::Assistant {
            if !tool_calls.is_empty() {
                return fail(format!("{path}.tool_calls"), "found in a message that is not the assistant's");
            }
            if reasoning.is_some() {
                return fail(path, "found reasoning in a message that is not the assistant's");
            }
        }
        let content = match message.get("content") {
            None | Some(Value::Null) if !tool_calls.is_empty() => String::new(),
            content => content_text(content, &format!("{path}.content"))?,
        };
        let (name, tool_call_id) = (text(message, path, "name")?, text(message, path, "tool_call_id")?);
        Ok(Self { role, content, reasoning, tool_calls, name, tool_call_id })
    }

    /// The message as a template sees it: keys without a value are absent.
    pub(super) fn to_json(&self) -> Value {
        let mut json = json!({"role": self.role.name(), "content": self.content});
        let texts =
            [("reasoning_content", &self.reasoning), ("name", &self.name), ("tool_call_id", &self.tool_call_id)];
        for (key, value) in texts {
            if let Some(value) = value {
                json[key] = value.clone().into();
            }
        }
        if !self.tool_calls.is_empty() {
            json["tool_calls"] = self.tool_calls.iter().map(ToolCall::to_json).collect();
        }
        json
    }
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

impl ToolCall {
    /// Reads `{"id", "type": "function", "function": {"name", "arguments"}}`, or the inner object alone.
    fn from_json(json: &Value, path: &str) -> Result<Self, SchemaError> {
        let outer = object(json, path)?;
        let (function, path) = match outer.get("function") {
            Some(function) => {
                known_keys(outer, path, &["id", "type", "function", "index"])?;
                let path = format!("{path}.function");
                (object(function, &path)?, path)
            }
            None => (outer, path.to_owned()),
        };
        if let Some(kind) = outer.get("type").filter(|kind| *kind != "function") {
            return fail(format!("{path}.type"), format!("found {}, expected `function`", describe(Some(kind))));
        }
        known_keys(function, &path, &["name", "arguments", "id", "type"])?;
        let Some(name) = text(function, &path, "name")?.filter(|name| !name.is_empty()) else {
            return fail(format!("{path}.name"), "found nothing, expected the name of a function");
        };
        let at = format!("{path}.arguments");
        let arguments = match function.get("arguments") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(arguments)) => arguments.clone(),
            // OpenAI writes the object as JSON text; templates want the object.
            Some(Value::String(encoded)) => match serde_json::from_str(encoded) {
                Ok(Value::Object(arguments)) => arguments,
                Ok(other) => {
                    return fail(at, format!("found text that holds {}, expected an object", describe(Some(&other))));
                }
                Err(error) => return fail(at, format!("found text that is not JSON ({error}), expected an object")),
            },
            other => return fail(at, format!("found {}, expected an object", describe(other))),
        };
        Ok(Self { id: text(outer, &path, "id")?, name, arguments })
    }

    fn to_json(&self) -> Value {
        let mut json = json!({"type": "function", "function": {"name": self.name, "arguments": self.arguments}});
        if let Some(id) = &self.id {
            json["id"] = id.clone().into();
        }
        json
    }
}

fn content_text(content: Option<&Value>, path: &str) -> Result<String, SchemaError> {
    let parts = match content {
        Some(Value::String(text)) => return Ok(text.clone()),
        Some(Value::Array(parts)) => parts,
        other => return fail(path, format!("found {}, expected text, or a list of text parts", describe(other))),
    };
    let mut joined = String::new();
    for (i, part) in parts.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let part = object(part, &path)?;
        match part.get("type").and_then(Value::as_str) {
            Some("text") => known_keys(part, &path, &["type", "text"])?,
            _ => {
                let found = describe(part.get("type"));
                return fail(
                    format!("{path}.type"),
                    format!("found {found}, expected `text` (only text is supported for now)"),
                );
            }
        }
        match part.get("text") {
            Some(Value::String(text)) => joined.push_str(text),
            other => return fail(format!("{path}.text"), format!("found {}, expected text", describe(other))),
        }
    }
    Ok(joined)
}

fn object<'a>(json: &'a Value, path: &str) -> Result<&'a Map<String, Value>, SchemaError> {
    match json {
        Value::Object(object) => Ok(object),
        other => fail(path, format!("found {}, expected an object", describe(Some(other)))),
    }
}

fn text(object: &Map<String, Value>, path: &str, key: &str) -> Result<Option<String>, SchemaError> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        other => fail(format!("{path}.{key}"), format!("found {}, expected text", describe(other))),
    }
}

fn known_keys(object: &Map<String, Value>, path: &str, known: &[&str]) -> Result<(), SchemaError> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let dot = if path.is_empty() { "" } else { "." };
            let known: Vec<String> = known.iter().map(|key| format!("`{key}`")).collect();
            fail(format!("{path}{dot}{}", key.escape_debug()), format!("an unknown key, expected {}", known.join(", ")))
        }
    }
}

fn fail<T>(path: impl Into<String>, reason: impl Into<String>) -> Result<T, SchemaError> {
    Err(SchemaError { path: path.into(), reason: reason.into() })
}

/// A value for an error message: short, whatever the line holds.
fn describe(value: Option<&Value>) -> String {
    match value {
        None => "nothing".into(),
        Some(Value::Null) => "null".into(),
        Some(Value::Array(_)) => "a list".into(),
        Some(Value::Object(_)) => "an object".into(),
        Some(Value::String(text)) if text.chars().count() > 40 => "a long text".into(),
        Some(other) => format!("`{other}`"),
    }
}

fn change_value(value: &mut Value, change: &mut impl FnMut(&mut String)) {
    match value {
        Value::String(text) => change(text),
        Value::Array(items) => items.iter_mut().for_each(|item| change_value(item, change)),
        Value::Object(map) => change_map(map, change),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn change_map(map: &mut Map<String, Value>, change: &mut impl FnMut(&mut String)) {
    let entries = std::mem::take(map);
    for (mut key, mut value) in entries {
        change(&mut key);
        change_value(&mut value, change);
        map.insert(key, value);
    }
}
