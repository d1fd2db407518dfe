//! Template, tokenizer and turn markers of one checkpoint, together: from a conversation to tokens.

use std::path::Path;

use super::{ChatTemplate, Conversation, DataError, Example, RenderOptions, Tokenizer, TurnMarkers};

/// How a checkpoint writes conversations as tokens.
#[derive(Debug)]
pub struct ChatFormat {
    template: ChatTemplate,
    tokenizer: Tokenizer,
    markers: TurnMarkers,
}

impl ChatFormat {
    /// Loads template and tokenizer from the checkpoint folder `dir`, and learns the template's turn markers.
    ///
    /// # Errors
    /// If either is absent or damaged, or the template's turns cannot be told apart.
    pub fn load(dir: &Path) -> Result<Self, DataError> {
        Self::new(ChatTemplate::load(dir)?, Tokenizer::load(dir)?)
    }

    /// Puts a template and a tokenizer together.
    ///
    /// # Errors
    /// If the template's turns cannot be told apart.
    pub fn new(template: ChatTemplate, tokenizer: Tokenizer) -> Result<Self, DataError> {
        let markers = TurnMarkers::derive(&template, RenderOptions::default())
            .map_err(|error| DataError::file(template.file(), error.to_string()))?;
        Ok(Self { template, tokenizer, markers })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The markers around the assistant's turns.
    pub fn markers(&self) -> &TurnMarkers {
        &self.markers
    }

    /// Renders and tokenizes a conversation, each once, and marks the tokens that the assistant has to say: those that
    /// begin within one of its turns, the end-of-turn marker included, the header excluded.
    ///
    /// # Errors
    /// If the template refuses the conversation.
    pub fn encode(&self, conversation: &Conversation) -> Result<Example, DataError> {
        let rendered = self
            .markers
            .render(&self.template, conversation, RenderOptions::default())
            .map_err(|error| DataError::file(self.template.file(), error.to_string()))?;
        let mut spans = rendered.assistant.iter().peekable();
        let (mut tokens, mut is_target) = (Vec::new(), Vec::new());
        for (id, offsets) in self.tokenizer.encode_with_offsets(&rendered.text)? {
            while spans.next_if(|span| span.end <= offsets.start).is_some() {}
            tokens.push(id);
            is_target.push(spans.peek().is_some_and(|span| span.contains(&offsets.start)));
        }
        Ok(Example { tokens, is_target })
    }

    /// The tokens of a conversation that the assistant is to continue.
    ///
    /// # Errors
    /// If the template refuses the conversation.
    pub fn encode_prompt(
        &self,
        conversation: &Conversation,
        enable_thinking: Option<bool>,
    ) -> Result<Vec<u32>, DataError> {
        let options = RenderOptions { add_generation_prompt: true, enable_thinking };
        let text = self
            .template
            .render(conversation, options)
            .map_err(|error| DataError::file(self.template.file(), error.to_string()))?;
        self.tokenizer.encode(&text)
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
