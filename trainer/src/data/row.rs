//! The rows of data sets, in the forms that programs write.

use super::json::{Json, Members, describe};
use super::schema::{LeftOut, SchemaError, encoded, fail, member, message, object, shortened, text};
use super::{Conversation, Message, Role, nulls, picture_parts};

/// One row of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The content that is learned.
    pub content: Content,
    /// The parts of the row that were not read.
    pub left_out: LeftOut,
}

/// The content of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Messages, for the chat template to write.
    Conversation(Conversation),
    /// Plain text, all of which is learned.
    Text(String),
}

/// The keys of lists of messages.
const LISTS: [&str; 3] = ["messages", "conversations", "conversation"];

/// Names that others give to what is `prompt` and `completion` here.
const PAIRS: [(&str, &str); 8] = [
    ("prompt", "response"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("query", "answer"),
    ("problem", "solution"),
    ("input", "output"),
    ("user", "assistant"),
];

impl Row {
    /// Reads one parsed line of a data set.
    ///
    /// # Errors
    /// If the row is of no form that is read, naming the form where it is known; or at the first place that departs from
    /// its form.
    pub fn from_json(json: &Json) -> Result<Self, SchemaError> {
        if let Json::Array(items) = json {
            return refuse_list(items);
        }
        let top = object(json, "the line")?;
        let mut left_out = LeftOut::default();
        let has = |key: &str| member(top, key).is_some();
        let content = if let Some(key) = LISTS.into_iter().find(|key| has(key)) {
            left_out.note_unknown(
                top,
                "",
                &[key, "tools", "functions", "system", "parallel_tool_calls", "images", "image"],
            );
            Content::Conversation(messages(top, key, &mut left_out)?)
        } else if has("chosen") || has("rejected") {
            return fail(
                if has("chosen") { "chosen" } else { "rejected" },
                "a preference pair (`chosen`, `rejected`): training on preferences is not supported for now\n\
                 help: to learn the chosen answers, write each as `messages`, or as `prompt` and `completion`",
            );
        } else if has("prompt") && has("completion") {
            if let Some(Json::Bool(_)) = top.get("label") {
                return fail(
                    "label",
                    "a judged answer (`prompt`, `completion`, `label`): training on judgements is not supported for now\n\
                     help: keep the rows whose `label` is true, and leave that key out",
                );
            }
            left_out.note_unknown(
                top,
                "",
                &["prompt", "completion", "tools", "functions", "system", "parallel_tool_calls", "images", "image"],
            );
            Content::Conversation(prompt_and_completion(top, &mut left_out)?)
        } else if has("instruction") && (has("output") || has("response")) {
            let (input, output) = if has("output") { ("input", "output") } else { ("context", "response") };
            left_out.note_unknown(top, "", &["instruction", input, output, "system", "history", "images", "image"]);
            Content::Conversation(instruction(top, input, output)?)
        } else if has("text") {
            left_out.note_unknown(top, "", &["text"]);
            Content::Text(text(top, "", "text")?.unwrap_or_default())
        } else {
            return refuse_columns(top);
        };
        Ok(Self { content, left_out })
    }

    /// The conversation, if this row is one.
    ///
    /// # Errors
    /// If it is plain text.
    pub fn into_conversation(self) -> Result<Conversation, SchemaError> {
        match self.content {
            Content::Conversation(conversation) => Ok(conversation),
            Content::Text(_) => fail("text", "found plain text, expected `messages`"),
        }
    }
}

impl Conversation {
    /// Reads one parsed line of a data set that must hold a conversation.
    ///
    /// # Errors
    /// Those of [`Row::from_json`]; or if the row holds plain text.
    pub fn from_json(json: &Json) -> Result<Self, SchemaError> {
        Row::from_json(json)?.into_conversation()
    }
}

fn messages(top: &Members, key: &str, left_out: &mut LeftOut) -> Result<Conversation, SchemaError> {
    let messages = message_list(member(top, key), key, left_out)?;
    if messages.is_empty() {
        return fail(key, "found an empty list, expected at least one message");
    }
    finish(top, messages, left_out)
}

fn message_list(list: Option<&Json>, path: &str, left_out: &mut LeftOut) -> Result<Vec<Message>, SchemaError> {
    let items = encoded(list, path)?;
    let Json::Array(items) = items.as_ref() else {
        return fail(path, format!("found {}, expected a list of messages", describe(list)));
    };
    items.iter().enumerate().map(|(i, item)| message(item, &format!("{path}[{i}]"), left_out)).collect()
}

/// Reads `prompt` and `completion`, each text or a list of messages. Only the completion is learned.
fn prompt_and_completion(top: &Members, left_out: &mut LeftOut) -> Result<Conversation, SchemaError> {
    let mut side = |key: &str, role| match member(top, key) {
        Some(Json::String(text)) => Ok(vec![Message::new(role, text)]),
        list => message_list(list, key, left_out),
    };
    let mut messages = side("prompt", Role::User)?;
    let completion = side("completion", Role::Assistant)?;
    if !completion.iter().any(|message| message.role == Role::Assistant) {
        return fail("completion", "found no message of the assistant");
    }
    messages.iter_mut().for_each(|message| message.learned = false);
    messages.extend(completion);
    finish(top, messages, left_out)
}

/// Alpaca's form, with the further columns that LLaMA-Factory reads; and Dolly's, with other names.
fn instruction(top: &Members, input: &str, output: &str) -> Result<Conversation, SchemaError> {
    let required = |key: &str| text(top, "", key).map(Option::unwrap_or_default);
    let mut messages = Vec::new();
    if let Some(history) = member(top, "history") {
        for (i, pair) in history.as_array().unwrap_or_default().iter().enumerate() {
            match pair.as_array() {
                Some([Json::String(question), Json::String(answer)]) => {
                    messages.push(Message::new(Role::User, question));
                    messages.push(Message::new(Role::Assistant, answer));
                }
                _ => return fail(format!("history[{i}]"), "expected a list of a question and an answer"),
            }
        }
    }
    let mut question = required("instruction")?;
    match text(top, "", input)? {
        Some(input) if !input.trim().is_empty() => question = format!("{question}\n{input}"),
        _ => {}
    }
    messages.push(Message::new(Role::User, question));
    messages.push(Message::new(Role::Assistant, required(output)?));
    finish(top, messages, &mut LeftOut::default())
}

/// Adds the parts of a row beside its messages.
fn finish(top: &Members, mut messages: Vec<Message>, left_out: &mut LeftOut) -> Result<Conversation, SchemaError> {
    if let Some(system) = text(top, "", "system")?.filter(|system| !system.is_empty()) {
        if messages[0].role == Role::System {
            return fail("system", "found beside a message of the system, expected one of the two");
        }
        messages.insert(0, Message::new(Role::System, system));
    }
    picture_parts::distribute(top, &mut messages)?;
    let mut tools = tools(top)?;
    match member(top, "functions") {
        None => {}
        Some(Json::Array(functions)) => tools.extend(
            functions
                .iter()
                .map(|function| Json::object([("type", Json::from("function")), ("function", function.clone())])),
        ),
        other => return fail("functions", format!("found {}, expected a list of descriptions", describe(other))),
    }
    if !matches!(top.get("tools"), Some(Json::String(_))) {
        left_out.nulls += nulls::remove(&mut tools.iter_mut().filter_map(Json::as_object_mut).collect::<Vec<_>>());
    }
    if !left_out.has_encoded_arguments {
        let calls = messages.iter_mut().flat_map(|message| &mut message.tool_calls);
        left_out.nulls += nulls::remove(&mut calls.map(|call| &mut call.arguments).collect::<Vec<_>>());
    }
    Ok(Conversation { messages, tools })
}

/// Reads the tools: a list, each of whose items may be JSON text, or the whole list as JSON text.
fn tools(top: &Members) -> Result<Vec<Json>, SchemaError> {
    let found = member(top, "tools");
    let tools = encoded(found, "tools")?;
    let items = match tools.as_ref() {
        Json::Null => return Ok(Vec::new()),
        Json::Array(items) => items,
        _ => return fail("tools", format!("found {}, expected a list of descriptions", describe(found))),
    };
    let mut tools = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let path = format!("tools[{i}]");
        let tool = match item {
            Json::String(text) if text.trim_start().starts_with('{') => encoded(Some(item), &path)?.into_owned(),
            item => item.clone(),
        };
        object(&tool, &path)?;
        tools.push(tool);
    }
    Ok(tools)
}

fn refuse_list(items: &[Json]) -> Result<Row, SchemaError> {
    let is_message = |item: &Json| item.get("role").is_some() || item.get("from").is_some();
    if !items.is_empty() && items.iter().all(is_message) {
        return fail(
            "the line",
            "found a list of messages, expected an object\nhelp: write `{\"messages\": [..]}` around it",
        );
    }
    fail(
        "the line",
        format!(
            "found a list of {} items, expected one object: a JSON file, not JSON lines\n\
             help: write each item on a line of its own, as with `jq -c '.[]'`",
            items.len()
        ),
    )
}

fn refuse_columns(top: &Members) -> Result<Row, SchemaError> {
    let has = |key: &str| member(top, key).is_some();
    if has("input_ids") {
        return fail(
            "input_ids",
            "tokens instead of text: not supported\nhelp: write the text, as `messages` or `text`",
        );
    }
    if has("contents") {
        return fail(
            "contents",
            "Gemini's form (`contents`, `parts`) is not read\nhelp: write `messages` with `role` and `content`",
        );
    }
    if let Some((prompt, completion)) = PAIRS.into_iter().find(|(prompt, completion)| has(prompt) && has(completion)) {
        let mut renamed = vec![format!("`{completion}` to `completion`")];
        if prompt != "prompt" {
            renamed.insert(0, format!("`{prompt}` to `prompt`"));
        }
        return fail(
            completion,
            format!("a question and its answer under names that are not read\nhelp: rename {}", renamed.join(" and ")),
        );
    }
    let forms = "help: write `messages`, or `prompt` and `completion`, or `text`";
    if let Some((one, other)) = [("prompt", "completion"), ("completion", "prompt"), ("instruction", "output")]
        .into_iter()
        .find(|(one, _)| has(one))
    {
        return fail(one, format!("found without `{other}`\n{forms}"));
    }
    let found: Vec<String> = top.keys().take(10).map(|key| format!("`{}`", shortened(key))).collect();
    match found.as_slice() {
        [] => fail("messages", "found nothing, expected a list of messages"),
        found => fail("messages", format!("found nothing; the keys are {}\n{forms}", found.join(", "))),
    }
}
