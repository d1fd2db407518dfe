//! Marks in the texts of a conversation, by which they are found in what a template writes.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::super::json::Json;
use super::super::{Conversation, Message, PICTURE, Role, python};
use super::Part;

/// A conversation with marks in its texts.
pub(super) struct Marked {
    pub conversation: Conversation,
    /// Characters of the planes of the marks that the conversation had before.
    used: HashSet<char>,
}

/// A part and what shows that it is there.
pub(super) struct Wanted {
    pub part: Part,
    /// The message it belongs to; a tool belongs to none.
    pub message: Option<usize>,
    /// The text of the part, or the name of the argument or tool.
    pub text: String,
    pub pieces: Vec<Piece>,
}

pub(super) enum Piece {
    /// A text without blanks at its edges, and the mark in front of its byte `at`.
    Text { text: String, at: usize, mark: char },
    /// A value that is no text, which follows the piece before it: as templates may write it.
    Value([String; 2]),
}

/// The most pieces of an argument that are looked for: a list of a million numbers is there or is not.
const MOST_PIECES: usize = 1000;

/// The first character of the two private planes, where no text has a character of its own.
const FIRST_MARK: char = '\u{F0000}';

impl Marked {
    /// Marks the texts of the messages in `range`, and those of the tools if `with_tools`. What is left when the marks
    /// are used up, which are 131,000, is not looked for.
    pub fn new(conversation: &Conversation, range: &Range<usize>, with_tools: bool) -> (Self, Vec<Wanted>) {
        let mut conversation = conversation.clone();
        let mut used = HashSet::new();
        conversation.for_each_string(&mut |text| used.extend(text.chars().filter(|char| *char >= FIRST_MARK)));
        let mut marker = Marker { next: FIRST_MARK, used: &used, of_tools: HashMap::new(), wanted: Vec::new() };
        if with_tools {
            conversation.tools.iter_mut().for_each(|tool| marker.tool(tool));
        }
        for (i, message) in conversation.messages.iter_mut().enumerate().filter(|(i, _)| range.contains(i)) {
            marker.message(i, message);
        }
        let wanted = marker.wanted;
        (Self { conversation, used }, wanted)
    }

    pub fn is_mark(&self, char: char) -> bool {
        char >= FIRST_MARK && !self.used.contains(&char)
    }
}

/// The texts of a message around its pictures.
fn between_pictures(content: &str) -> Vec<(Part, Range<usize>)> {
    let mut texts = Vec::new();
    let mut start = 0;
    for text in content.split(PICTURE) {
        texts.push((Part::Content, start..start + text.len()));
        start += text.len() + PICTURE.len_utf8();
    }
    texts
}

struct Marker<'a> {
    next: char,
    used: &'a HashSet<char>,
    /// The marks of the tools' names and texts: equal ones stay equal, as templates compare them.
    of_tools: HashMap<String, char>,
    wanted: Vec<Wanted>,
}

impl Marker<'_> {
    fn next(&mut self) -> Option<char> {
        let mark = (self.next..=char::MAX).find(|char| !self.used.contains(char))?;
        self.next = char::from_u32(mark as u32 + 1).unwrap_or(char::MAX);
        (mark < char::MAX).then_some(mark)
    }

    fn message(&mut self, i: usize, message: &mut Message) {
        if let Some(thought) = &mut message.reasoning {
            let piece = self.text(thought);
            self.want(Part::Thought, i, piece);
        }
        let segments = match message.role {
            Role::Assistant => segments(&message.content),
            _ => between_pictures(&message.content),
        };
        let content = std::mem::take(&mut message.content);
        let mut reached = 0;
        for (part, range) in segments {
            message.content.push_str(&content[reached..range.start]);
            let mut segment = content[range.clone()].to_owned();
            let piece = self.text(&mut segment);
            self.want(part, i, piece);
            message.content.push_str(&segment);
            reached = range.end;
        }
        message.content.push_str(&content[reached..]);
        for call in &mut message.tool_calls {
            let piece = self.text(&mut call.name);
            self.want(Part::Call, i, piece);
            for (mut key, mut value) in std::mem::take(&mut call.arguments) {
                let text = key.clone();
                let mut pieces: Vec<Piece> = self.text(&mut key).into_iter().collect();
                self.value(&mut value, &mut pieces);
                self.wanted.push(Wanted { part: Part::Argument, message: Some(i), text, pieces });
                call.arguments.insert(key, value);
            }
        }
    }

    fn want(&mut self, part: Part, message: usize, piece: Option<Piece>) {
        if let Some(Piece::Text { text, .. }) = &piece {
            let text = text.clone();
            self.wanted.push(Wanted { part, message: Some(message), text, pieces: piece.into_iter().collect() });
        }
    }

    /// Marks a text; a blank one has nothing to look for.
    fn text(&mut self, text: &mut String) -> Option<Piece> {
        if text.trim().is_empty() {
            return None;
        }
        Some(insert(text, self.next()?))
    }

    fn value(&mut self, value: &mut Json, pieces: &mut Vec<Piece>) {
        match value {
            Json::String(text) => pieces.extend(self.text(text)),
            Json::Array(items) => items.iter_mut().for_each(|item| self.value(item, pieces)),
            Json::Object(members) => {
                for (mut key, mut value) in std::mem::take(&mut **members) {
                    pieces.extend(self.text(&mut key));
                    self.value(&mut value, pieces);
                    members.insert(key, value);
                }
            }
            Json::Null | Json::Bool(_) | Json::Number(_) => {
                if pieces.len() < MOST_PIECES {
                    pieces.push(Piece::Value(spellings(value)));
                }
            }
        }
    }

    fn tool(&mut self, tool: &mut Json) {
        let function = tool.get("function").filter(|function| function.as_object().is_some());
        let name = function.unwrap_or(tool).get("name").and_then(Json::as_str);
        let text = name.unwrap_or("without a name").to_owned();
        let mut pieces = Vec::new();
        self.schema(tool, &mut pieces);
        self.wanted.push(Wanted { part: Part::Tool, message: None, text, pieces });
    }

    /// Marks the names and descriptions in the description of a tool. The words of JSON Schema stay: templates ask for
    /// them.
    fn schema(&mut self, schema: &mut Json, pieces: &mut Vec<Piece>) {
        let Json::Object(members) = schema else { return };
        for (key, value) in members.iter_mut() {
            match (key.as_str(), value) {
                ("name" | "description", Json::String(text)) => pieces.extend(self.tool_text(text)),
                ("required", Json::Array(names)) => {
                    for name in names {
                        if let Json::String(text) = name {
                            // It is enough if the parameter's own name is found.
                            self.tool_text(text);
                        }
                    }
                }
                ("properties", Json::Object(properties)) => {
                    for (mut name, mut description) in std::mem::take(&mut **properties) {
                        pieces.extend(self.tool_text(&mut name));
                        self.schema(&mut description, pieces);
                        properties.insert(name, description);
                    }
                }
                (_, Json::Array(items)) => items.iter_mut().for_each(|item| self.schema(item, pieces)),
                (_, value) => self.schema(value, pieces),
            }
        }
    }

    fn tool_text(&mut self, text: &mut String) -> Option<Piece> {
        if text.trim().is_empty() {
            return None;
        }
        let mark = match self.of_tools.get(text.as_str()) {
            Some(mark) => *mark,
            None => {
                let mark = self.next()?;
                self.of_tools.insert(text.clone(), mark);
                mark
            }
        };
        Some(insert(text, mark))
    }
}

/// Puts `mark` into `text`, which is not blank.
fn insert(text: &mut String, mark: char) -> Piece {
    let trimmed = text.trim();
    let start = text.len() - text.trim_start().len();
    let at = place_for_mark(trimmed);
    let piece = Piece::Text { text: trimmed.to_owned(), at, mark };
    text.insert(start + at, mark);
    piece
}

/// Returns the words of the assistant in parts: thoughts between tags, and the rest.
fn segments(content: &str) -> Vec<(Part, Range<usize>)> {
    let mut segments = Vec::new();
    let mut rest = 0..content.len();
    while let Some(end) = content[rest.clone()].find("</think>") {
        let end = rest.start + end;
        let start = match content[rest.start..end].rfind("<think>") {
            Some(tag) => {
                segments.push((Part::Content, rest.start..rest.start + tag));
                rest.start + tag + "<think>".len()
            }
            None => rest.start,
        };
        segments.push((Part::Thought, start..end));
        rest.start = end + "</think>".len();
    }
    segments.push((Part::Content, rest));
    segments
}

/// Returns where a mark disturbs least: within a word, as near to the middle as can be, and not within a tag.
fn place_for_mark(text: &str) -> usize {
    const REACH: usize = 256;
    let middle = text.floor_char_boundary(text.len() / 2);
    let window = text.floor_char_boundary(middle.saturating_sub(REACH))..text.ceil_char_boundary(middle + REACH);
    let mut best = None;
    let (mut before, mut in_tag) = (' ', false);
    for (i, char) in text[window.clone()].char_indices() {
        let at = window.start + i;
        if before.is_alphanumeric() && char.is_alphanumeric() && !in_tag {
            let distance = at.abs_diff(middle);
            if best.is_none_or(|(least, _)| distance < least) {
                best = Some((distance, at));
            }
        }
        in_tag = (in_tag || char == '<') && char != '>' && !char.is_whitespace();
        before = char;
    }
    match best {
        Some((_, at)) => at,
        None => text.chars().next().map_or(0, char::len_utf8),
    }
}

/// A value as a template prints it, and as JSON.
fn spellings(value: &Json) -> [String; 2] {
    let value = python::value(value);
    let printed = python::display(&value).unwrap_or_default();
    let json = match printed.as_str() {
        "True" => "true".to_owned(),
        "False" => "false".to_owned(),
        "None" => "null".to_owned(),
        number => number.to_owned(),
    };
    [printed, json]
}
