//! Finds what a chat template leaves out of a conversation.
//!
//! A mark, a character that occurs nowhere else, is put into each content, thought, name and text of the conversation,
//! and the template writes it a second time. Where a mark comes out shows where its text stands, however short the text
//! is and however often its words occur. A template that treats marked text in another way is searched for the text.

mod marks;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use self::marks::{Marked, Piece, Wanted};
use super::spans::Rendered;
use super::{ChatTemplate, Conversation, RenderOptions, Role};

/// Parts of a conversation that a template may leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The content of a message.
    Content,
    /// The thought of the assistant.
    Thought,
    /// The name of a tool that is called.
    Call,
    /// An argument of a call: its name and its value.
    Argument,
    /// The description of a tool: its name, what it does, its parameters.
    Tool,
}

/// A part that the rendered text does not have where it belongs, or not as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// The kind of part.
    pub part: Part,
    /// The message it belongs to, counted from 0; a tool belongs to none.
    pub message: Option<usize>,
    /// The text of the part, or the name of the argument or tool.
    pub text: String,
}

/// The parts that were looked for in a rendered conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// The number of parts of each kind in the conversation.
    pub parts: BTreeMap<Part, usize>,
    /// The parts that the template left out.
    pub dropped: Vec<Dropped>,
}

impl Part {
    /// All parts, in the order in which they are reported.
    pub const ALL: [Part; 5] = [Part::Content, Part::Thought, Part::Call, Part::Argument, Part::Tool];

    /// The plural.
    pub fn name(self) -> &'static str {
        match self {
            Part::Content => "contents",
            Part::Thought => "thoughts",
            Part::Call => "tool calls",
            Part::Argument => "arguments of tool calls",
            Part::Tool => "descriptions of tools",
        }
    }
}

/// Looks for what the messages in `range` have, and for the tools if `with_tools`, in what `template` made of
/// `conversation`.
pub(super) fn inspect(
    template: &ChatTemplate,
    conversation: &Conversation,
    rendered: &Rendered,
    options: RenderOptions,
    range: &Range<usize>,
    with_tools: bool,
) -> Inspection {
    let (marked, wanted) = Marked::new(conversation, range, with_tools);
    let mut inspection = Inspection::default();
    for wanted in &wanted {
        *inspection.parts.entry(wanted.part).or_default() += 1;
    }
    if wanted.is_empty() {
        return inspection;
    }
    let mut text = String::with_capacity(rendered.text.len());
    let mut marks = Marks::default();
    // A template that fails on marked text writes another text, which is searched like any unmarked one.
    for char in template.render(&marked.conversation, options).unwrap_or_default().chars() {
        match marked.is_mark(char) {
            true => marks.add(char, text.len()),
            false => text.push(char),
        }
    }
    let finder = Finder {
        text: &rendered.text,
        marks: (text == rendered.text).then_some(marks),
        places: Places::new(conversation, rendered),
    };
    inspection.dropped = finder.missing(wanted);
    inspection
}

/// The places at which marks came out.
#[derive(Default)]
struct Marks {
    of_each: HashMap<char, Vec<usize>>,
    /// All of them, ascending.
    all: Vec<usize>,
}

impl Marks {
    fn add(&mut self, mark: char, at: usize) {
        self.of_each.entry(mark).or_default().push(at);
        self.all.push(at);
    }
}

/// The range of a text in which each message may be.
struct Places {
    of_messages: Vec<Range<usize>>,
    assistant: Vec<Range<usize>>,
    /// Whether the conversation begins with instructions, which some templates write with another message.
    instructed: bool,
}

impl Places {
    fn new(conversation: &Conversation, rendered: &Rendered) -> Self {
        let end = rendered.text.len();
        let (mut of_messages, mut turns, mut reached) = (Vec::new(), rendered.assistant.iter().peekable(), 0);
        for message in &conversation.messages {
            of_messages.push(match message.role {
                Role::Assistant => {
                    let turn = turns.next().cloned().unwrap_or(reached..end);
                    reached = turn.end;
                    turn
                }
                _ => reached..turns.peek().map_or(end, |turn| turn.start),
            });
        }
        let first = conversation.messages.first().map(|message| message.role);
        let instructed = matches!(first, Some(Role::System | Role::Developer));
        Self { of_messages, assistant: rendered.assistant.clone(), instructed }
    }

    /// Returns the range for a part; `None` for a part that may be anywhere outside the words of the assistant.
    fn of_part(&self, wanted: &Wanted) -> Option<&Range<usize>> {
        match wanted.message {
            None => None,
            Some(0) if self.instructed => None,
            Some(message) => Some(&self.of_messages[message]),
        }
    }

    fn allow(&self, place: Option<&Range<usize>>, at: usize) -> bool {
        match place {
            Some(place) => place.contains(&at),
            None => !self.assistant.iter().any(|turn| turn.contains(&at)),
        }
    }
}

/// The most parts that are searched for where there are no marks, each of which may take a pass over the text.
const MOST_SEARCHES: usize = 1000;

struct Finder<'a> {
    text: &'a str,
    /// Returns the places at which marks came out, if the text is the same with marks and without.
    marks: Option<Marks>,
    places: Places,
}

impl Finder<'_> {
    fn missing(&self, parts: Vec<Wanted>) -> Vec<Dropped> {
        let mut dropped = Vec::new();
        let mut reached = 0;
        let most = if self.marks.is_some() { usize::MAX } else { MOST_SEARCHES };
        for wanted in parts.into_iter().take(most) {
            let place = self.places.of_part(&wanted);
            // A template may sort arguments.
            let is_ordered = place.is_some() && wanted.part != Part::Argument;
            let from = match place {
                Some(place) if is_ordered => reached.max(place.start),
                Some(place) => place.start,
                None => 0,
            };
            match self.find(&wanted, place, from) {
                Some(end) if is_ordered => reached = end,
                Some(_) => {}
                None => dropped.push(Dropped { part: wanted.part, message: wanted.message, text: wanted.text }),
            }
        }
        dropped
    }

    /// Returns the end of the last of the part's pieces, if all are there.
    fn find(&self, wanted: &Wanted, place: Option<&Range<usize>>, from: usize) -> Option<usize> {
        let mut end = from;
        for piece in &wanted.pieces {
            end = match piece {
                Piece::Text { text, at, mark } => self.find_text(text, *at, *mark, place, from)?,
                Piece::Value(spellings) => {
                    // The value must stand before the next text.
                    let limit = match &self.marks {
                        Some(marks) => marks.all.get(marks.all.partition_point(|mark| *mark <= end)).copied(),
                        None => place.map(|place| place.end),
                    };
                    let window = self.text.get(end..limit.unwrap_or(self.text.len()))?;
                    let ends = spellings.iter().filter_map(|value| Some(window.find(value.as_str())? + value.len()));
                    end + ends.min()?
                }
            };
        }
        Some(end)
    }

    fn find_text(&self, text: &str, at: usize, mark: char, place: Option<&Range<usize>>, from: usize) -> Option<usize> {
        let once = (escaped(text), escaped(&text[..at]).len());
        let twice = (escaped(&once.0), escaped(&escaped(&text[..at])).len());
        [(text.to_owned(), at), once, twice].iter().find_map(|(written, at)| {
            let is_right = |start: &usize| *start >= from && self.places.allow(place, *start);
            let start = match &self.marks {
                Some(marks) => {
                    let starts = marks.of_each.get(&mark)?.iter().filter_map(|mark| mark.checked_sub(*at));
                    let is_whole =
                        |start: &usize| self.text.get(*start..).is_some_and(|rest| rest.starts_with(written));
                    starts.filter(is_right).find(is_whole)?
                }
                None => {
                    let starts = self.text.get(from..)?.match_indices(written.as_str());
                    starts.map(|(start, _)| from + start).find(is_right)?
                }
            };
            Some(start + written.len())
        })
    }
}

/// Returns a text in the form that it has inside a string of JSON.
fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}
