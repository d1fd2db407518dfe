//! Where, in a rendered conversation, the assistant speaks.
//!
//! The markers around the assistant's turns are learned from the template itself, by rendering conversations of known
//! contents. A conversation is then rendered once, and the turns are found by the markers; contents that hold a
//! marker's text cannot open or close a turn, because they are told apart before the template sees them.

use std::ops::Range;

use super::template::RenderError;
use super::{ChatTemplate, Conversation, Message, RenderOptions, Role};

/// What a template writes around each turn of the assistant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnMarkers {
    header: String,
    end: String,
}

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// What the template wrote.
    pub text: String,
    /// The bytes of `text` that the assistant has to say, ascending and disjoint: each turn from after its header to
    /// its end-of-turn marker, marker included, thoughts and calls included.
    pub assistant: Vec<Range<usize>>,
}

impl TurnMarkers {
    /// Learns the markers of `template`, rendered with `options`.
    ///
    /// # Errors
    /// If the template fails on plain conversations, or does not put the assistant's turns between a header and an end.
    pub fn derive(template: &ChatTemplate, options: RenderOptions) -> Result<Self, RenderError> {
        let render = |turns: &[(Role, &str)], add_generation_prompt| {
            let messages = turns.iter().map(|(role, content)| Message::new(*role, *content)).collect();
            let conversation = Conversation { messages, tools: Vec::new() };
            template.render(&conversation, RenderOptions { add_generation_prompt, ..options })
        };
        let (q1, a1, q2, a2) = ("probe-question-one", "probe-answer-one", "probe-question-two", "probe-answer-two");
        let question = render(&[(Role::User, q1)], false)?;
        let prompt = render(&[(Role::User, q1)], true)?;
        let turns = [(Role::User, q1), (Role::Assistant, a1), (Role::User, q2), (Role::Assistant, a2)];
        let dialogue = render(&turns, false)?;

        Self::read_off(&question, &prompt, &dialogue, [q1, a1, q2, a2]).ok_or_else(|| {
            RenderError(
                "the template does not put each turn of the assistant between a header and an end-of-turn marker, so \
                 that what to learn cannot be told"
                    .into(),
            )
        })
    }

    fn read_off(question: &str, prompt: &str, dialogue: &str, [q1, a1, q2, a2]: [&str; 4]) -> Option<Self> {
        let (_, end_of_question) = question.split_once(q1)?;
        let generation = prompt.strip_prefix(question)?;
        let (_, rest) = dialogue.split_once(q1)?;
        let (before_a1, rest) = rest.split_once(a1)?;
        let (before_q2, rest) = rest.split_once(q2)?;
        let (before_a2, after_a2) = rest.split_once(a2)?;

        // Turns may begin with more than the header: an empty thought, or one to be continued. The header is what all
        // share.
        let mut headers = vec![before_a1.strip_prefix(end_of_question)?, before_a2.strip_prefix(end_of_question)?];
        if !generation.is_empty() {
            headers.push(generation);
        }
        let header = common_prefix(&headers);
        let header = if headers.contains(&header) { header } else { whole_words(header) };
        let end = common_prefix(&[before_q2, after_a2]).trim_end();
        let markers = Self { header: header.to_owned(), end: end.to_owned() };
        if header.trim().is_empty() || end.is_empty() {
            return None;
        }
        // And no other turn may look like one of the assistant's.
        let turns = markers.find(dialogue);
        let says = |turn: &Range<usize>, answer| dialogue[turn.clone()].ends_with(&format!("{answer}{end}"));
        (turns.len() == 2 && says(&turns[0], a1) && says(&turns[1], a2)).then_some(markers)
    }

    /// What opens a turn of the assistant.
    pub fn header(&self) -> &str {
        &self.header
    }

    /// What closes it, without the blanks that may follow.
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
            turns.push(start..position);
        }
        turns
    }
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
