//! Conversations, as chat templates expect them.

use std::path::Path;

use super::json::{Json, Members};
use super::picture_parts;
use crate::pictures::VisualSource;

/// One training example: messages, and the tools the assistant may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// The messages, oldest first; at least one.
    pub messages: Vec<Message>,
    /// Descriptions of tools, passed to the template as they are.
    pub tools: Vec<Json>,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The speaker.
    pub role: Role,
    /// The text of the message. Text parts are joined; a call without words is empty. [`PICTURE`](super::PICTURE)
    /// stands for a picture or a video.
    pub content: String,
    /// The pictures and videos in it, in order; `None` where a column of the row holds it, until that is read.
    pub pictures: Vec<Option<VisualSource>>,
    /// The thought of the assistant before its words.
    pub reasoning: Option<String>,
    /// The tools the assistant calls.
    pub tool_calls: Vec<ToolCall>,
    /// `name`, for templates that show it.
    pub name: Option<String>,
    /// The call that a tool answers, for templates that show it.
    pub tool_call_id: Option<String>,
    /// Whether the model learns to say it. Only messages of the assistant are learned in any case.
    pub learned: bool,
}

/// The speaker of a [`Message`].
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
    /// The arguments by name, in order.
    pub arguments: Members,
}

impl Conversation {
    /// The pictures and videos of all messages, in order.
    pub fn pictures(&self) -> impl Iterator<Item = &VisualSource> {
        self.messages.iter().flat_map(|message| &message.pictures).flatten()
    }

    /// Takes relative paths of pictures from `folder` on.
    pub fn look_for_pictures_in(&mut self, folder: &Path) {
        for picture in self.messages.iter_mut().flat_map(|message| &mut message.pictures) {
            *picture = picture.take().map(|source| source.within(folder));
        }
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
                change_members(&mut call.arguments, change);
            }
        }
        self.tools.iter_mut().for_each(|tool| change_value(tool, change));
    }
}

impl Message {
    /// A message of `role` that says `content` and nothing else.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        let content = content.into();
        let pictures = Vec::new();
        Self {
            role,
            content,
            pictures,
            reasoning: None,
            tool_calls: Vec::new(),
            name: None,
            tool_call_id: None,
            learned: true,
        }
    }

    /// The message as a template sees it: keys without a value are absent.
    pub(super) fn to_json(&self) -> Json {
        let mut members = vec![("role", Json::from(self.role.name())), ("content", picture_parts::content(self))];
        let texts =
            [("reasoning_content", &self.reasoning), ("name", &self.name), ("tool_call_id", &self.tool_call_id)];
        for (key, text) in texts {
            members.extend(text.as_ref().map(|text| (key, Json::from(text.as_str()))));
        }
        if !self.tool_calls.is_empty() {
            members.push(("tool_calls", Json::Array(self.tool_calls.iter().map(ToolCall::to_json).collect())));
        }
        Json::object(members)
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
    fn to_json(&self) -> Json {
        let arguments = Json::Object(Box::new(self.arguments.clone()));
        let function = Json::object([("name", Json::from(self.name.as_str())), ("arguments", arguments)]);
        let mut members = vec![("type", Json::from("function")), ("function", function)];
        members.extend(self.id.as_ref().map(|id| ("id", Json::from(id.as_str()))));
        Json::object(members)
    }
}

fn change_value(value: &mut Json, change: &mut impl FnMut(&mut String)) {
    match value {
        Json::String(text) => change(text),
        Json::Array(items) => items.iter_mut().for_each(|item| change_value(item, change)),
        Json::Object(members) => change_members(members, change),
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

fn change_members(members: &mut Members, change: &mut impl FnMut(&mut String)) {
    for (mut key, mut value) in std::mem::take(members) {
        change(&mut key);
        change_value(&mut value, change);
        members.insert(key, value);
    }
}
