//! The tokenizer that comes with a checkpoint.

use std::ops::Range;
use std::path::{Path, PathBuf};

use cotangent_models::quoting::quoted;
use serde_json::Value as Json;

use super::DataError;
use super::sandbox::{Answer, Operation, Sandbox};
use super::tokenizer_files::{read_json, special_token};
use super::windows::Windows;

/// A checkpoint's tokenizer, in a [sandbox](super::sandbox), and the tokens that end an answer.
#[derive(Debug)]
pub struct Tokenizer {
    file: PathBuf,
    sandbox: Sandbox,
    largest_id: u32,
    eos_ids: Vec<u32>,
    eos_id: Option<u32>,
}

impl Tokenizer {
    /// Loads the tokenizer of the checkpoint folder `dir`: `tokenizer.json`, else `vocab.json` and `merges.txt`, and the
    /// tokens that only `tokenizer_config.json` lists. The tokens that end an answer are those that
    /// `generation_config.json`, `config.json` and `tokenizer_config.json` name, taken together.
    ///
    /// # Errors
    /// If there is no tokenizer, or one of these files is damaged.
    pub fn load(dir: &Path) -> Result<Self, DataError> {
        let sandbox = Sandbox::open();
        let (file, largest_id) = match sandbox.ask(&Operation::LoadTokenizer(dir.to_owned())) {
            Ok(Answer::Loaded(Ok(loaded))) => loaded,
            Ok(Answer::Loaded(Err((file, reason)))) => return Err(DataError::file(&file, reason)),
            Ok(answer) => return Err(DataError::file(dir, unexpected(&answer))),
            Err(reason) => return Err(DataError::file(dir, format!("its tokenizer {reason}"))),
        };
        let mut tokenizer = Self { file, sandbox, largest_id, eos_ids: Vec::new(), eos_id: None };
        let mut eos_ids = Vec::new();
        for name in ["generation_config.json", "config.json"] {
            let file = dir.join(name);
            let json = read_json(&file)?;
            for holder in [Some(&json), json.get("text_config")].into_iter().flatten() {
                let ids = match holder.get("eos_token_id") {
                    None | Some(Json::Null) => &[],
                    Some(Json::Array(ids)) => ids.as_slice(),
                    Some(id) => std::slice::from_ref(id),
                };
                for id in ids {
                    eos_ids.push(id.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
                        let found = quoted(id.to_string());
                        let reason = format!("`eos_token_id`: found {found}, expected a token id or a list of them");
                        DataError::file(&file, reason)
                    })?);
                }
            }
        }
        let config = read_json(&dir.join("tokenizer_config.json"))?;
        let named = match config.get("eos_token").and_then(special_token) {
            Some(token) => tokenizer.token_id(token)?,
            None => None,
        };
        tokenizer.eos_id = named.or(eos_ids.first().copied());
        eos_ids.extend(named);
        eos_ids.sort_unstable();
        eos_ids.dedup();
        tokenizer.eos_ids = eos_ids;
        Ok(tokenizer)
    }

    fn ask(&self, operation: &Operation) -> Result<Answer, DataError> {
        self.sandbox.ask(operation).map_err(|reason| DataError::file(&self.file, format!("the tokenizer {reason}")))
    }

    /// The file the tokenizer is from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Returns the tokens of `text`. Special tokens are recognised, and none are added.
    ///
    /// # Errors
    /// If the tokenizer fails, which a sound one does not.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        Ok(self.encode_with_offsets(text)?.into_iter().map(|(id, _)| id).collect())
    }

    /// The tokens of `text`, each with the bytes of `text` that it stands for. Tokens that share a character of several
    /// bytes each stand for all of it; a mark that normalisation joined to the character before it belongs to that one's.
    ///
    /// # Errors
    /// If the tokenizer fails, which a sound one does not.
    pub fn encode_with_offsets(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>, DataError> {
        Windows::DEFAULT.encode(text, |part| match self.ask(&Operation::Encode(part.to_owned()))? {
            Answer::Tokens(tokens) => {
                Ok(tokens.into_iter().map(|(id, start, end)| (id, start as usize..end as usize)).collect())
            }
            answer => Err(DataError::file(&self.file, unexpected(&answer))),
        })
    }

    /// Returns the text of `ids`, special tokens included only if `with_special`.
    ///
    /// # Errors
    /// If the tokenizer fails, which a sound one does not.
    pub fn decode(&self, ids: &[u32], with_special: bool) -> Result<String, DataError> {
        match self.ask(&Operation::Decode(ids.to_vec(), with_special))? {
            Answer::Text(text) => Ok(text),
            answer => Err(DataError::file(&self.file, unexpected(&answer))),
        }
    }

    /// Decodes token by token, for showing an answer while it is made.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream { tokenizer: self, ids: Vec::new(), shown: 0 }
    }

    /// Returns the id of a token given by its text.
    ///
    /// # Errors
    /// If the tokenizer fails, which a sound one does not.
    pub fn token_id(&self, token: &str) -> Result<Option<u32>, DataError> {
        match self.ask(&Operation::TokenId(token.to_owned()))? {
            Answer::Id(id) => Ok(id),
            answer => Err(DataError::file(&self.file, unexpected(&answer))),
        }
    }

    /// The tokens that end an answer, in ascending order.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos_ids
    }

    /// Returns the token that ends a text: the one that `tokenizer_config.json` names, else the first that another file
    /// names.
    pub fn eos_id(&self) -> Option<u32> {
        self.eos_id
    }

    /// The largest id that encoding can give; a model's vocabulary must be larger.
    pub fn largest_id(&self) -> u32 {
        self.largest_id
    }
}

/// A decoder of tokens that come one at a time. A character may need several tokens, so text comes in whole characters.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// The tokens since the last whole character, after a few before it that decide about a space between.
    ids: Vec<u32>,
    /// The number of `ids` that are shown already.
    shown: usize,
}

impl TextStream<'_> {
    /// Takes the next token; returns the text that is now certain, which may be empty.
    ///
    /// # Errors
    /// If the tokenizer fails, which a sound one does not.
    pub fn push(&mut self, id: u32) -> Result<String, DataError> {
        self.ids.push(id);
        let (before, after) = self.texts()?;
        if after.len() <= before.len() || after.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        self.ids.drain(..self.shown);
        self.shown = self.ids.len();
        Ok(new_text(&before, &after))
    }

    /// Ends the stream; returns what was held back, with a replacement character for an unfinished one.
    ///
    /// # Errors
    /// If the tokenizer fails, which a sound one does not.
    pub fn finish(self) -> Result<String, DataError> {
        let (before, after) = self.texts()?;
        Ok(new_text(&before, &after))
    }

    fn texts(&self) -> Result<(String, String), DataError> {
        Ok((self.tokenizer.decode(&self.ids[..self.shown], false)?, self.tokenizer.decode(&self.ids, false)?))
    }
}

fn new_text(before: &str, after: &str) -> String {
    after.strip_prefix(before).unwrap_or_default().to_owned()
}

fn unexpected(answer: &Answer) -> String {
    format!("the tokenizer's process answers {}", quoted(format!("{answer:?}")))
}
