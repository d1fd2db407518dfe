//! Template, tokenizer and turn markers of one checkpoint, together: from a conversation to tokens.

use std::ops::Range;
use std::path::Path;

use super::dropped::{Inspection, inspect};
use super::json::Members;
use super::template::RenderError;
use super::{
    ChatTemplate, Content, Conversation, DataError, Example, RenderOptions, Role, Tokenizer, TurnMarkers, VisionFormat,
};

/// The way in which a checkpoint writes conversations as tokens.
#[derive(Debug)]
pub struct ChatFormat {
    template: ChatTemplate,
    tokenizer: Tokenizer,
    markers: TurnMarkers,
    /// The way in which pictures are written, or the reason why there can be none.
    vision: Result<VisionFormat, String>,
}

/// An example, and how it came about.
#[derive(Debug, Clone)]
pub struct EncodedExample {
    /// The text that the template wrote.
    pub text: String,
    /// The tokens of `text`, not cut, and which of them are learned.
    pub example: Example,
    /// The bytes of `text` that each token stands for.
    pub offsets: Vec<Range<usize>>,
    /// The tokens with which turns end that are learned.
    pub ends: Vec<usize>,
    /// The parts that the template left out.
    pub inspection: Inspection,
}

impl ChatFormat {
    /// Loads template and tokenizer from the checkpoint folder `dir`, and learns the template's turn markers.
    ///
    /// # Errors
    /// If either is absent or damaged, or the template's turns cannot be distinguished.
    pub fn load(dir: &Path) -> Result<Self, DataError> {
        let mut format = Self::new(ChatTemplate::load(dir)?, Tokenizer::load(dir)?)?;
        format.vision = VisionFormat::load(dir);
        Ok(format)
    }

    /// Puts a template and a tokenizer together.
    ///
    /// # Errors
    /// If the template's turns cannot be distinguished.
    pub fn new(template: ChatTemplate, tokenizer: Tokenizer) -> Result<Self, DataError> {
        let markers = TurnMarkers::derive(&template, RenderOptions::default())
            .map_err(|error| DataError::file(template.file(), error.to_string()))?;
        Ok(Self { template, tokenizer, markers, vision: Err("this checkpoint reads text only".into()) })
    }

    /// Renders with further variables from now on, such as `enable_thinking`, and learns the turn markers of that mode.
    ///
    /// # Errors
    /// If rendering sets one of the variables itself, or the template's turns cannot be distinguished with them.
    pub fn set_template_arguments(&mut self, arguments: &Members) -> Result<(), DataError> {
        self.template.set_arguments(arguments).map_err(|error| self.template_error(&error))?;
        self.markers = TurnMarkers::derive(&self.template, RenderOptions::default())
            .map_err(|error| self.template_error(&error))?;
        Ok(())
    }

    /// The chat template.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Returns how the checkpoint writes pictures, or an error that says why there can be none.
    ///
    /// # Errors
    /// The reason.
    pub fn vision(&self) -> Result<&VisionFormat, &String> {
        self.vision.as_ref()
    }

    /// Changes how the checkpoint writes pictures, if it does.
    pub fn vision_mut(&mut self) -> Option<&mut VisionFormat> {
        self.vision.as_mut().ok()
    }

    /// The markers around the assistant's turns.
    pub fn markers(&self) -> &TurnMarkers {
        &self.markers
    }

    fn template_error(&self, error: &RenderError) -> DataError {
        DataError::file(self.template.file(), error.to_string())
    }

    /// The examples of a row: one, or with `one_example_per_turn` one for each message of the assistant that is learned.
    ///
    /// # Errors
    /// If the template refuses the conversation.
    pub fn encode_row(&self, content: &Content, one_example_per_turn: bool) -> Result<Vec<EncodedExample>, DataError> {
        match content {
            Content::Text(text) => Ok(vec![self.encode_text(text)?]),
            Content::Conversation(conversation) if one_example_per_turn => {
                let mut examples = Vec::new();
                // The conversation grows from turn to turn, so that a long one is copied once, not once a turn.
                let mut heard = Conversation { messages: Vec::new(), tools: conversation.tools.clone() };
                let mut begin = 0;
                for (i, message) in conversation.messages.iter().enumerate() {
                    heard.messages.push(message.clone());
                    if message.role == Role::Assistant {
                        if message.learned {
                            examples.push(self.encode_messages(&heard, &(begin..i + 1), begin == 0)?);
                        }
                        begin = i + 1;
                    }
                    heard.messages[i].learned = false;
                }
                Ok(examples)
            }
            Content::Conversation(conversation) => {
                Ok(vec![self.encode_messages(conversation, &(0..conversation.messages.len()), true)?])
            }
        }
    }

    /// Renders and tokenizes a conversation, each once, and marks the tokens that the assistant learns to say: those that
    /// begin within one of its turns, the end-of-turn marker included, what the generation prompt supplies excluded.
    ///
    /// # Errors
    /// If the template refuses the conversation.
    pub fn encode(&self, conversation: &Conversation) -> Result<Example, DataError> {
        Ok(self.encode_messages(conversation, &(0..0), false)?.example)
    }

    /// Encodes `conversation`, and looks for what the messages in `inspected` have in what the template writes.
    fn encode_messages(
        &self,
        conversation: &Conversation,
        inspected: &Range<usize>,
        with_tools: bool,
    ) -> Result<EncodedExample, DataError> {
        let options = RenderOptions::default();
        let rendered = self.markers.render(&self.template, conversation, options);
        let rendered = rendered.map_err(|error| self.template_error(&error))?;
        let inspection = inspect(&self.template, conversation, &rendered, options, inspected, with_tools);
        let said = conversation.messages.iter().filter(|message| message.role == Role::Assistant);
        let learned = rendered.assistant.iter().zip(said).filter(|(_, message)| message.learned);
        let mut spans = learned.map(|(span, _)| span).peekable();

        let mut example = Example::default();
        let (mut offsets, mut ends) = (Vec::new(), Vec::new());
        for (id, range) in self.tokenizer.encode_with_offsets(&rendered.text)? {
            while let Some(span) = spans.peek()
                && span.end <= range.start
            {
                ends.extend(example.tokens.len().checked_sub(1));
                spans.next();
            }
            example.tokens.push(id);
            example.is_target.push(spans.peek().is_some_and(|span| span.contains(&range.start)));
            offsets.push(range);
        }
        ends.extend(spans.peek().and(example.tokens.len().checked_sub(1)));
        let mut encoded = EncodedExample { text: rendered.text, example, offsets, ends, inspection };
        self.place_pictures(conversation, &mut encoded)?;
        Ok(encoded)
    }

    /// Makes room for the pictures of a conversation.
    fn place_pictures(&self, conversation: &Conversation, encoded: &mut EncodedExample) -> Result<(), DataError> {
        let mut sources = conversation.pictures().peekable();
        let placed = match (&self.vision, sources.peek()) {
            (Err(_), None) => return Ok(()),
            (Err(reason), Some(_)) => Err(format!("found a picture, and {reason}")),
            (Ok(vision), _) => vision.place(sources, encoded, &mut |text| {
                let tokens = self.tokenizer.encode_with_offsets(text).map_err(|error| error.to_string())?;
                Ok(tokens.into_iter().map(|(token, _)| token).collect())
            }),
        };
        placed.map_err(DataError::Picture)
    }

    /// Encodes plain text, all of which is learned, with the token that ends a text.
    fn encode_text(&self, text: &str) -> Result<EncodedExample, DataError> {
        let (mut tokens, mut offsets): (Vec<u32>, Vec<Range<usize>>) =
            self.tokenizer.encode_with_offsets(text)?.into_iter().unzip();
        if let Some(end) = self.tokenizer.eos_id().filter(|end| tokens.last() != Some(end)) {
            tokens.push(end);
            offsets.push(text.len()..text.len());
        }
        let is_target = vec![true; tokens.len()];
        let ends = tokens.len().checked_sub(1).into_iter().collect();
        let inspection = Inspection::default();
        Ok(EncodedExample {
            text: text.to_owned(),
            example: Example { tokens, is_target, pictures: Vec::new() },
            offsets,
            ends,
            inspection,
        })
    }

    /// The tokens of a conversation that the assistant is to continue.
    ///
    /// # Errors
    /// If the template refuses the conversation.
    pub fn encode_prompt(
        &self,
        conversation: &Conversation,
        enable_thinking: Option<bool>,
    ) -> Result<Example, DataError> {
        let options = RenderOptions { add_generation_prompt: true, enable_thinking };
        let text = self.template.render(conversation, options).map_err(|error| self.template_error(&error))?;
        let (tokens, offsets): (Vec<u32>, Vec<Range<usize>>) =
            self.tokenizer.encode_with_offsets(&text)?.into_iter().unzip();
        let example = Example { is_target: vec![false; tokens.len()], tokens, pictures: Vec::new() };
        let mut encoded =
            EncodedExample { text, example, offsets, ends: Vec::new(), inspection: Inspection::default() };
        self.place_pictures(conversation, &mut encoded)?;
        Ok(encoded.example)
    }

    /// The tokens at which an answer ends: the checkpoint's end tokens, and the template's end of turn where that is
    /// one token.
    ///
    /// # Errors
    /// If the tokenizer fails, which a sound one does not.
    pub fn stop_ids(&self) -> Result<Vec<u32>, DataError> {
        let mut ids = self.tokenizer.eos_ids().to_vec();
        ids.extend(self.tokenizer.token_id(self.markers.end())?);
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}
