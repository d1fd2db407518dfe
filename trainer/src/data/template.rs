//! The chat template that comes with a checkpoint, rendered as transformers renders it.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use super::sandbox::{Answer, Operation, Sandbox};
use super::template_files::{self, DEFAULT, TemplateFiles};
use super::tokenizer_files::{read_json, special_token};
use super::{Conversation, DataError, Message};

const TOOL_USE: &str = "tool_use";

/// A compiled chat template, in a [sandbox](super::sandbox).
#[derive(Debug)]
pub struct ChatTemplate {
    file: PathBuf,
    sandbox: Sandbox,
    /// Whether conversations with tools have a template of their own.
    has_tool_use: bool,
    /// `bos_token`, `eos_token` and so on, which templates may print.
    special_tokens: Map<String, Json>,
}

/// What a caller of a template may ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RenderOptions {
    /// Whether to begin the assistant's next turn at the end.
    pub add_generation_prompt: bool,
    /// Whether that turn may think; `None` leaves it to the template.
    pub enable_thinking: Option<bool>,
}

/// Why a template refuses a conversation, in its own words where it has any.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RenderError(pub(super) String);

impl ChatTemplate {
    /// Loads the template of the checkpoint folder `dir`: `chat_template.jinja` and those in
    /// `additional_chat_templates/`, else the member `chat_template` of `tokenizer_config.json` or of
    /// `chat_template.json`, a text or a list of named templates.
    ///
    /// # Errors
    /// If there is none, a file is damaged, or a template is not valid.
    pub fn load(dir: &Path) -> Result<Self, DataError> {
        let config = read_json(&dir.join("tokenizer_config.json"))?;
        Self::compile(template_files::find(dir, &config)?, &config)
    }

    /// Compiles one template; `file` is only named in errors.
    ///
    /// # Errors
    /// If `source` is not a valid template.
    pub fn from_source(file: &Path, source: &str) -> Result<Self, DataError> {
        let sources = vec![(DEFAULT.to_owned(), source.to_owned())];
        Self::compile(TemplateFiles { file: file.to_owned(), sources }, &Json::Null)
    }

    fn compile(TemplateFiles { file, sources }: TemplateFiles, config: &Json) -> Result<Self, DataError> {
        let has_tool_use = sources.iter().any(|(name, _)| name == TOOL_USE);
        let sandbox = Sandbox::open();
        sandbox
            .ask(&Operation::Compile(sources))
            .map_err(|reason| DataError::file(&file, format!("the chat template is not valid: {reason}")))?;
        Ok(Self { file, sandbox, has_tool_use, special_tokens: special_tokens(config) })
    }

    /// The file the template is from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Renders a conversation.
    ///
    /// # Errors
    /// If the template refuses it, or fails.
    pub fn render(&self, conversation: &Conversation, options: RenderOptions) -> Result<String, RenderError> {
        let messages: Vec<Json> = conversation.messages.iter().map(Message::to_json).collect();
        let has_tools = !conversation.tools.is_empty();
        let name = if has_tools && self.has_tool_use { TOOL_USE } else { DEFAULT };
        let mut variables = self.special_tokens.clone();
        variables.insert("messages".into(), messages.into());
        variables.insert("tools".into(), if has_tools { conversation.tools.clone().into() } else { Json::Null });
        variables.insert("documents".into(), Json::Null);
        variables.insert("add_generation_prompt".into(), options.add_generation_prompt.into());
        if let Some(enable_thinking) = options.enable_thinking {
            variables.insert("enable_thinking".into(), enable_thinking.into());
        }
        let rendering = Operation::Render(name.to_owned(), Json::from(variables).to_string());
        match self.sandbox.ask(&rendering) {
            Ok(Answer::Text(text)) => Ok(text),
            Ok(answer) => Err(RenderError(format!("the template's process answers {answer:?}"))),
            Err(reason) => Err(RenderError(reason)),
        }
    }
}

/// The special tokens of `tokenizer_config.json` that templates may print.
fn special_tokens(config: &Json) -> Map<String, Json> {
    let names = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
    let tokens = names.iter().filter_map(|name| Some(((*name).to_owned(), special_token(config.get(*name)?)?.into())));
    tokens.collect()
}
