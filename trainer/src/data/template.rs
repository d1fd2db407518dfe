//! The chat template that comes with a checkpoint, rendered as transformers renders it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde_json::{Map, Value as Json};

use super::{Conversation, DataError, Message, python};

const DEFAULT: &str = "default";
const TOOL_USE: &str = "tool_use";

/// A compiled chat template.
///
/// It runs in minijinja, set up as transformers sets up Jinja: blocks are trimmed, Python's string methods exist,
/// `tojson` and what is printed look as in Python, `raise_exception` and `strftime_now` are there.
#[derive(Debug)]
pub struct ChatTemplate {
    file: PathBuf,
    environment: Environment<'static>,
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
    /// Loads the template of the checkpoint folder `dir`: `chat_template.jinja`, else the member `chat_template` of
    /// `tokenizer_config.json`, a string or a list of named templates.
    ///
    /// # Errors
    /// If there is none, or it is not a valid template.
    pub fn load(dir: &Path) -> Result<Self, DataError> {
        let config_file = dir.join("tokenizer_config.json");
        let config: Json = match fs::read(&config_file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| DataError::file(&config_file, format!("not valid JSON: {error}")))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Json::Null,
            Err(error) => return Err(DataError::file(&config_file, error.to_string())),
        };
        let jinja_file = dir.join("chat_template.jinja");
        match fs::read_to_string(&jinja_file) {
            Ok(source) => return Self::compile(&jinja_file, vec![(DEFAULT.to_owned(), source)], &config),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(DataError::file(&jinja_file, error.to_string())),
        }
        let sources = match config.get("chat_template") {
            Some(Json::String(source)) => vec![(DEFAULT.to_owned(), source.clone())],
            Some(Json::Array(items)) => named_templates(items).ok_or_else(|| {
                DataError::file(&config_file, "`chat_template`: expected text, or a list of `{\"name\", \"template\"}`")
            })?,
            None | Some(Json::Null) => {
                let reason = "has no chat template: neither `chat_template.jinja` nor `chat_template` in \
                              `tokenizer_config.json`\n\
                              help: fetch the file from the model's page, or use an instruction-tuned checkpoint";
                return Err(DataError::file(dir, reason));
            }
            Some(_) => {
                return Err(DataError::file(&config_file, "`chat_template`: expected text, or a list of templates"));
            }
        };
        Self::compile(&config_file, sources, &config)
    }

    /// Compiles one template; `file` is only named in errors.
    ///
    /// # Errors
    /// If `source` is not a valid template.
    pub fn from_source(file: &Path, source: &str) -> Result<Self, DataError> {
        Self::compile(file, vec![(DEFAULT.to_owned(), source.to_owned())], &Json::Null)
    }

    fn compile(file: &Path, sources: Vec<(String, String)>, config: &Json) -> Result<Self, DataError> {
        let mut environment = Environment::new();
        environment.set_syntax(blocks_trimmed());
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.set_formatter(|out, _, value| Ok(out.write_str(&python::display(value))?));
        environment.add_filter("tojson", python::tojson);
        environment.add_filter("string", |value: &Value| python::display(value));
        environment.add_function("strftime_now", |format: &str| python::strftime_now(format));
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        let mut has_default = false;
        for (name, source) in sources {
            has_default |= name == DEFAULT;
            environment.add_template_owned(name, without_generation_tags(&source)).map_err(|error| {
                DataError::file(file, format!("the chat template is not valid: {}", describe(&error)))
            })?;
        }
        if !has_default {
            return Err(DataError::file(
                file,
                "`chat_template`: found only named templates, expected one named `default`",
            ));
        }
        Ok(Self { file: file.to_owned(), environment, special_tokens: special_tokens(config) })
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
        let name = match self.environment.get_template(TOOL_USE) {
            Ok(_) if has_tools => TOOL_USE,
            _ => DEFAULT,
        };
        let mut variables = self.special_tokens.clone();
        variables.insert("messages".into(), messages.into());
        variables.insert("tools".into(), if has_tools { conversation.tools.clone().into() } else { Json::Null });
        variables.insert("documents".into(), Json::Null);
        variables.insert("add_generation_prompt".into(), options.add_generation_prompt.into());
        if let Some(enable_thinking) = options.enable_thinking {
            variables.insert("enable_thinking".into(), enable_thinking.into());
        }
        let variables = Value::from(Serde(variables));
        let rendered = self.environment.get_template(name).and_then(|template| template.render(variables));
        rendered.map_err(|error| RenderError(describe(&error)))
    }
}

/// A line break after a block tag and blanks before it do not count.
fn blocks_trimmed() -> SyntaxConfig {
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    // Building fails for clashing delimiters; these are the default ones.
    syntax.build().unwrap_or_default()
}

fn named_templates(items: &[Json]) -> Option<Vec<(String, String)>> {
    let text = |item: &Json, key: &str| item.get(key)?.as_str().map(str::to_owned);
    items.iter().map(|item| Some((text(item, "name")?, text(item, "template")?))).collect()
}

/// The special tokens of `tokenizer_config.json`, each text or an object with `content`.
fn special_tokens(config: &Json) -> Map<String, Json> {
    let names = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
    let mut tokens = Map::new();
    for name in names {
        let content = match config.get(name) {
            Some(Json::Object(token)) => token.get("content"),
            token => token,
        };
        if let Some(Json::String(text)) = content {
            tokens.insert(name.to_owned(), text.as_str().into());
        }
    }
    tokens
}

/// Some templates mark what the assistant generates with a tag that only transformers knows. The spans are found
/// without it, so it becomes a tag without effect that treats the blanks around it alike.
fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        result.push_str(before);
        let Some(length) = tag.find("%}") else { break };
        let inner = &tag[2..length];
        let word = inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        let replacement = match word {
            "generation" => inner.replacen(word, "if true", 1),
            "endgeneration" => inner.replacen(word, "endif", 1),
            _ => inner.to_owned(),
        };
        result.push_str("{%");
        result.push_str(&replacement);
        result.push_str("%}");
        rest = &tag[length + 2..];
    }
    result.push_str(rest);
    result
}

fn describe(error: &Error) -> String {
    let what = match error.detail() {
        Some(detail) if error.kind() == ErrorKind::InvalidOperation => detail.to_owned(),
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    match error.line() {
        Some(line) => format!("{what} (line {line} of the template)"),
        None => what,
    }
}
