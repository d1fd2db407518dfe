//! The operations of templates and tokenizers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use cotangent_models::quoting::quoted;
use serde::{Deserialize, Serialize};

use super::encoding::encode;
use crate::data::jinja::Jinja;
use crate::data::{DataError, tokenizer_files};

/// One step of work.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::data) enum Operation {
    /// Compile templates, each with its name.
    Compile(Vec<(String, String)>),
    /// Render the template of a name with variables, the text of a JSON object.
    Render(String, String),
    /// Load the tokenizer of a checkpoint folder.
    LoadTokenizer(PathBuf),
    /// Turn a text into tokens.
    Encode(String),
    /// Turn tokens into text, special ones included only if the flag is set.
    Decode(Vec<u32>, bool),
    /// Look a token up by its text.
    TokenId(String),
}

/// The answer to an operation.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::data) enum Answer {
    /// Templates were compiled.
    Compiled,
    /// The rendered or decoded text.
    Text(String),
    /// The file that a tokenizer was loaded from, and its largest token; or the file at fault, and what is wrong.
    Loaded(Result<(PathBuf, u32), (PathBuf, String)>),
    /// Tokens, each with its first byte and the byte after its last.
    Tokens(Vec<(u32, u32, u32)>),
    /// The token, if there is one.
    Id(Option<u32>),
}

impl Operation {
    /// The computing time it may take, a multiple of what the largest published files take on a slow machine.
    pub(super) fn seconds(&self) -> u64 {
        const BYTES_PER_SECOND: usize = 256 << 10;
        match self {
            Operation::LoadTokenizer(_) => 30,
            Operation::Encode(text) => 10 + (text.len() / BYTES_PER_SECOND) as u64,
            Operation::Compile(_) | Operation::Render(..) | Operation::Decode(..) | Operation::TokenId(_) => 5,
        }
    }
}

/// A compiled template or a loaded tokenizer.
#[derive(Debug, Default)]
pub(super) struct Operator {
    templates: Option<Jinja>,
    tokenizer: Option<tokenizers::Tokenizer>,
}

impl Operator {
    /// Does `operation`. A panic is an error like others: it comes from what was loaded.
    pub(super) fn answer(&mut self, operation: &Operation) -> Result<Answer, String> {
        catch_unwind(AssertUnwindSafe(|| self.try_answer(operation))).unwrap_or_else(|panic| {
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no reason given");
            Err(format!("breaks the program that runs it ({})", quoted(message)))
        })
    }

    fn try_answer(&mut self, operation: &Operation) -> Result<Answer, String> {
        let tokenizer = self.tokenizer.as_ref().ok_or_else(|| "is not loaded".to_owned());
        match operation {
            Operation::Compile(sources) => {
                self.templates = Some(Jinja::compile(sources)?);
                Ok(Answer::Compiled)
            }
            Operation::Render(name, variables) => {
                let templates = self.templates.as_ref().ok_or_else(|| "is not compiled".to_owned())?;
                templates.render(name, variables).map(Answer::Text)
            }
            Operation::LoadTokenizer(dir) => {
                let loaded = tokenizer_files::load(dir).map(|(file, tokenizer)| {
                    let largest = tokenizer.get_vocab(true).into_values().max().unwrap_or(0);
                    self.tokenizer = Some(tokenizer);
                    (file, largest)
                });
                Ok(Answer::Loaded(loaded.map_err(|error| match error {
                    DataError::File { file, reason } => (file, reason),
                    other => (dir.clone(), other.to_string()),
                })))
            }
            Operation::Encode(text) => encode(tokenizer?, text)
                .map(Answer::Tokens)
                .map_err(|error| format!("cannot encode a text: {}", quoted(error.to_string()))),
            Operation::Decode(ids, with_special) => {
                let text = tokenizer?.decode(ids, !with_special);
                text.map(Answer::Text).map_err(|error| format!("cannot decode tokens: {}", quoted(error.to_string())))
            }
            Operation::TokenId(token) => Ok(Answer::Id(tokenizer?.token_to_id(token))),
        }
    }
}
