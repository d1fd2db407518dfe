//! Finds the parts of a rendered conversation in which the assistant speaks.
//!
//! The markers around the assistant's turns are learned from the template itself, by rendering conversations of known
//! contents. A conversation is then rendered once, and the turns are found by the markers; contents that hold a
//! marker's text cannot open or close a turn, because they are distinguished before the template sees them.

use std::ops::Range;

use super::json::Members;
use super::template::RenderError;
use super::{ChatTemplate, Conversation, Message, RenderOptions, Role, ToolCall};

/// The text that a template writes around each turn of the assistant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnMarkers {
    header: String,
    /// The text that the generation prompt adds to the header: an empty thought, or the beginning of one.
    supplied: String,
    end: String,
}

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text that the template wrote.
    pub text: String,
    /// The bytes of `text` that the assistant learns to say, ascending and disjoint. Each turn begins behind what the
    /// generation prompt supplies and ends with its end-of-turn marker; thoughts and calls are included.
    pub assistant: Vec<Range<usize>>,
}

impl TurnMarkers {
    /// Learns the markers of `template`, rendered with `options`.
    ///
    /// # Errors
    /// If the template fails on plain conversations, or does not put the assistant's turns between a header and an end.
    pub fn derive(template: &ChatTemplate, options: RenderOptions) -> Result<Self, RenderError> {
        let render = |messages: Vec<Message>, add_generation_prompt| {
            let conversation = Conversation { messages, tools: Vec::new() };
            template.render(&conversation, RenderOptions { add_generation_prompt, ..options })
        };
        let question = render(vec![Message::new(Role::User, QUESTIONS[0])], false)?;
        let prompt = render(vec![Message::new(Role::User, QUESTIONS[0])], true)?;
        let dialogue = |said: &dyn Fn(usize) -> Message| {
            let turns = (0..2).flat_map(|i| [Message::new(Role::User, QUESTIONS[i]), said(i)]);
            render(turns.collect(), false)
        };
        let plain = dialogue(&|i| Message::new(Role::Assistant, ANSWERS[i]))?;
        // Thoughts and calls are rendered separately: a template may refuse them, and is asked only if the data have
        // them.
        let thoughtful = dialogue(&|i| Message {
            reasoning: Some(THOUGHTS[i].to_owned()),
            ..Message::new(Role::Assistant, ANSWERS[i])
        });
        let calling = dialogue(&|i| Message {
            tool_calls: vec![ToolCall { id: None, name: CALLS[i].to_owned(), arguments: Members::new() }],
            ..Message::new(Role::Assistant, "")
        });

        let other = [thoughtful.unwrap_or_default(), calling.unwrap_or_default()];
        let markers = Self::read_off(&question, &prompt, &plain, &other);
        markers.or_else(|| Self::read_off(&question, &prompt, &plain, &[])).ok_or_else(|| {
            RenderError(
                "the template does not put each turn of the assistant between a header and an end-of-turn marker, so \
                 that what to learn cannot be found"
                    .into(),
            )
        })
    }

    fn read_off(question: &str, prompt: &str, plain: &str, other: &[String]) -> Option<Self> {
        let (_, end_of_question) = question.split_once(QUESTIONS[0])?;
        let generation = prompt.strip_prefix(question)?;
        let (_, rest) = plain.split_once(ANSWERS[0])?;
        let (before_second_question, _) = rest.split_once(QUESTIONS[1])?;
        let (_, after_second_answer) = rest.split_once(ANSWERS[1])?;
        let end = common_prefix(&[before_second_question, after_second_answer]).trim_end();

        // Turns may begin with more than the header: an empty thought, or one to be continued. The header is what all
        // turns share.
        let mut openings = openings(plain, end_of_question);
        if openings.len() != 2 {
            return None;
        }
        openings.extend(other.iter().flat_map(|dialogue| self::openings(dialogue, end_of_question)));
        if !generation.is_empty() {
            openings.push(generation);
        }
        let header = common_prefix(&openings);
        let header = if openings.contains(&header) { header } else { whole_words(header) };
        if header.trim().is_empty() || end.is_empty() {
            return None;
        }
        let supplied = generation.strip_prefix(header).unwrap_or_default().to_owned();
        let markers = Self { header: header.to_owned(), supplied, end: end.to_owned() };
        // No other turn may look like one of the assistant's.
        let turns = markers.find(plain);
        let says = |turn: &Range<usize>, answer| plain[turn.clone()].ends_with(&format!("{answer}{end}"));
        (turns.len() == 2 && says(&turns[0], ANSWERS[0]) && says(&turns[1], ANSWERS[1])).then_some(markers)
    }

    /// Returns the text that opens a turn of the assistant.
    pub fn header(&self) -> &str {
        &self.header
    }

    /// Returns the text that the generation prompt adds to the header.
    pub fn supplied(&self) -> &str {
        &self.supplied
    }

    /// Returns the text that closes a turn, without the blanks that may follow.
    pub fn end(&self) -> &str {
        &self.end
    }

    /// Renders `conversation` and finds the turns of the assistant.
    ///
    /// # Errors
    /// If the template refuses the conversation, fails, or does not write one turn for each message of the assistant.
    pub fn render(
        &self,
        template: &ChatTemplate,
        conversation: &Conversation,
        options: RenderOptions,
    ) -> Result<Rendered, RenderError> {
        let plain = template.render(conversation, options)?;
        let rendered = match self.protect(conversation)? {
            None => Rendered { assistant: self.find(&plain), text: plain },
            Some(protected) => {
                let text = template.render(&protected.conversation, options)?;
                let restored = restore(&text, self.find(&text), &protected.stand_ins);
                if restored.text != plain {
                    return Err(RenderError(
                        "a message contains text of the template's own markers, and the template treats such text in a \
                         special way\nhelp: remove the markers from the message"
                            .into(),
                    ));
                }
                restored
            }
        };
        let found = rendered.assistant.len();
        let expected = conversation.messages.iter().filter(|message| message.role == Role::Assistant).count();
        if found != expected {
            return Err(RenderError(format!(
                "the template writes {found} turns of the assistant, expected {expected}, one for each of its messages"
            )));
        }
        Ok(rendered)
    }

    /// Where a marker stands within the conversation's strings, puts a character in its place that occurs nowhere in
    /// it.
    fn protect(&self, conversation: &Conversation) -> Result<Option<Protected<'_>>, RenderError> {
        let markers = [self.header.trim(), self.end.trim()];
        let mut conversation = conversation.clone();
        let (mut touched, mut used) = (false, Vec::new());
        conversation.for_each_string(&mut |text| {
            touched |= markers.iter().any(|marker| text.contains(marker));
            used.extend(text.chars().filter(|char| *char >= PRIVATE_USE));
        });
        if !touched {
            return Ok(None);
        }
        let mut free = (PRIVATE_USE..=char::MAX).filter(|char| !used.contains(char));
        let mut stand_ins = Vec::new();
        for marker in markers {
            let Some(char) = free.next() else {
                return Err(RenderError("a message uses all characters of Unicode's private planes".into()));
            };
            stand_ins.push((char, marker));
        }
        conversation.for_each_string(&mut |text| {
            for (char, marker) in &stand_ins {
                if text.contains(marker) {
                    *text = text.replace(marker, char.encode_utf8(&mut [0; 4]));
                }
            }
        });
        Ok(Some(Protected { conversation, stand_ins }))
    }

    /// The turns in a text whose markers are all the template's own. An unfinished turn at the end is no turn.
    fn find(&self, text: &str) -> Vec<Range<usize>> {
        let mut turns = Vec::new();
        let mut position = 0;
        while let Some(header) = text[position..].find(&self.header) {
            let start = position + header + self.header.len();
            let Some(end) = text[start..].find(&self.end) else { break };
            position = start + end + self.end.len();
            let supplied = text[start..position].starts_with(&self.supplied);
            turns.push(start + if supplied { self.supplied.len() } else { 0 }..position);
        }
        turns
    }
}

/// The questions of the probes. None is a part of another.
const QUESTIONS: [&str; 2] = ["probe-question-one", "probe-question-two"];
const ANSWERS: [&str; 2] = ["probe-answer-one", "probe-answer-two"];
const THOUGHTS: [&str; 2] = ["probe-thought-one", "probe-thought-two"];
const CALLS: [&str; 2] = ["probe_call_one", "probe_call_two"];

/// Returns what stands, in a dialogue of the probes, between each question and what the assistant first does, where it
/// does something.
fn openings<'a>(dialogue: &'a str, end_of_question: &str) -> Vec<&'a str> {
    let opening = |i: usize| {
        let (_, rest) = dialogue.split_once(QUESTIONS[i])?;
        let rest = rest.strip_prefix(end_of_question)?;
        let (rest, _) = rest.split_once(QUESTIONS[1]).unwrap_or((rest, ""));
        let before = [ANSWERS[i], THOUGHTS[i], CALLS[i]].into_iter().filter_map(|said| rest.split_once(said));
        before.map(|(before, _)| before).min_by_key(|before| before.len())
    };
    (0..2).filter_map(opening).collect()
}

/// The first character of the two private planes, where no text has a character of its own.
const PRIVATE_USE: char = '\u{F0000}';

/// A conversation in which every marker is the template's own.
struct Protected<'a> {
    conversation: Conversation,
    /// Each character that was put in, and the marker it stands for.
    stand_ins: Vec<(char, &'a str)>,
}

/// Puts the markers back where they were, and moves the spans along.
fn restore(rendered: &str, mut spans: Vec<Range<usize>>, stand_ins: &[(char, &str)]) -> Rendered {
    let mut text = String::with_capacity(rendered.len());
    let mut boundaries = spans.iter_mut().flat_map(|span| [&mut span.start, &mut span.end]).peekable();
    for (position, char) in rendered.char_indices() {
        while let Some(boundary) = boundaries.next_if(|boundary| **boundary == position) {
            *boundary = text.len();
        }
        match stand_ins.iter().find(|(stand_in, _)| *stand_in == char) {
            Some((_, marker)) => text.push_str(marker),
            None => text.push(char),
        }
    }
    boundaries.for_each(|boundary| *boundary = text.len());
    Rendered { text, assistant: spans }
}

fn common_prefix<'a>(texts: &[&'a str]) -> &'a str {
    let first = texts[0];
    let agree = |(position, char): &(usize, char)| texts.iter().all(|text| text[*position..].starts_with(*char));
    match first.char_indices().take_while(agree).last() {
        Some((position, char)) => &first[..position + char.len_utf8()],
        None => "",
    }
}

/// Cuts a prefix that texts merely happen to share back to the last blank or closing bracket, so that no marker is
/// split.
fn whole_words(prefix: &str) -> &str {
    let end = prefix.rfind(|char: char| char.is_whitespace() || char == '>' || char == ']').map_or(0, |last| last + 1);
    &prefix[..end]
}
