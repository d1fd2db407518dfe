//! The chat template that comes with a checkpoint, rendered as transformers renders it.

use std::path::{Path, PathBuf};

use super::json::Members;
use super::sandbox::{Answer, Operation, Sandbox};
use super::template_files::{self, DEFAULT, TemplateFiles};
use super::tokenizer_files::{read_json, special_token};
use super::{Conversation, DataError, Json, Message};

const TOOL_USE: &str = "tool_use";

/// A compiled chat template, in a [sandbox](super::sandbox).
#[derive(Debug)]
pub struct ChatTemplate {
    file: PathBuf,
    sandbox: Sandbox,
    /// Whether conversations with tools have a template of their own.
    has_tool_use: bool,
    /// The variables with which every conversation is rendered: `bos_token`, `eos_token` and so on, and the caller's
    /// arguments.
    variables: Members,
}

/// The variables that rendering sets itself.
const RESERVED: [&str; 4] = ["messages", "tools", "documents", "add_generation_prompt"];

/// The options of rendering.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RenderOptions {
    /// Whether to begin the assistant's next turn at the end.
    pub add_generation_prompt: bool,
    /// Whether that turn may think; `None` leaves it to the template.
    pub enable_thinking: Option<bool>,
}

/// The reason why a template refuses a conversation, in its own words if it has any.
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
        Self::compile(TemplateFiles { file: file.to_owned(), sources }, &serde_json::Value::Null)
    }

    fn compile(TemplateFiles { file, sources }: TemplateFiles, config: &serde_json::Value) -> Result<Self, DataError> {
        let has_tool_use = sources.iter().any(|(name, _)| name == TOOL_USE);
        let sandbox = Sandbox::open();
        sandbox
            .ask(&Operation::Compile(sources))
            .map_err(|reason| DataError::file(&file, format!("the chat template is not valid: {reason}")))?;
        Ok(Self { file, sandbox, has_tool_use, variables: special_tokens(config) })
    }

    /// Renders with further variables from now on, such as `enable_thinking`.
    ///
    /// # Errors
    /// Names an argument that rendering sets itself.
    pub fn set_arguments(&mut self, arguments: &Members) -> Result<(), RenderError> {
        if let Some(name) = RESERVED.into_iter().find(|name| arguments.contains_key(*name)) {
            return Err(RenderError(format!("the argument `{name}` is set by the program itself")));
        }
        self.variables.extend(arguments.iter().map(|(name, value)| (name.clone(), value.clone())));
        Ok(())
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
        let has_tools = !conversation.tools.is_empty();
        let name = if has_tools && self.has_tool_use { TOOL_USE } else { DEFAULT };
        let tools = if has_tools { Json::Array(conversation.tools.clone()) } else { Json::Null };
        let messages = Json::Array(conversation.messages.iter().map(Message::to_json).collect());
        let own = [messages, tools, Json::Null, Json::Bool(options.add_generation_prompt)];
        let mut variables = self.variables.clone();
        variables.extend(RESERVED.into_iter().map(str::to_owned).zip(own));
        if let Some(enable_thinking) = options.enable_thinking {
            variables.insert("enable_thinking".into(), Json::Bool(enable_thinking));
        }
        let rendering = Operation::Render(name.to_owned(), Json::Object(Box::new(variables)).to_string());
        match self.sandbox.ask(&rendering) {
            Ok(Answer::Text(text)) => Ok(text),
            Ok(answer) => Err(RenderError(format!("the template's process answers {answer:?}"))),
            Err(reason) => Err(RenderError(reason)),
        }
    }
}

/// The special tokens of `tokenizer_config.json` that templates may print.
fn special_tokens(config: &serde_json::Value) -> Members {
    let names = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
    let tokens = names.iter().filter_map(|name| Some(((*name).to_owned(), special_token(config.get(*name)?)?.into())));
    tokens.collect()
}
