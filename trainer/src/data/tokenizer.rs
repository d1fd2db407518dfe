//! The tokenizer that comes with a checkpoint.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::DataError;

/// A checkpoint's `tokenizer.json`, and the tokens that end an answer.
#[derive(Debug)]
pub struct Tokenizer {
    file: PathBuf,
    tokenizer: tokenizers::Tokenizer,
    eos_ids: Vec<u32>,
}

impl Tokenizer {
    /// Loads `tokenizer.json` of the checkpoint folder `dir`. The tokens that end an answer are those that
    /// `generation_config.json`, `config.json` and `tokenizer_config.json` name, taken together.
    ///
    /// # Errors
    /// If `tokenizer.json` is absent or damaged, or another of these files is damaged.
    pub fn load(dir: &Path) -> Result<Self, DataError> {
        let file = dir.join("tokenizer.json");
        let bytes = fs::read(&file).map_err(|error| DataError::file(&file, error.to_string()))?;
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(&bytes)
            .map_err(|error| DataError::file(&file, format!("not a valid tokenizer: {error}")))?;
        // Some files leave switched on what their last user needed.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| DataError::file(&file, error.to_string()))?;

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
                        DataError::file(
                            &file,
                            format!("`eos_token_id`: found {id}, expected a token id or a list of them"),
                        )
                    })?);
                }
            }
        }
        let config = read_json(&dir.join("tokenizer_config.json"))?;
        let eos_token = match config.get("eos_token") {
            Some(Json::Object(token)) => token.get("content"),
            token => token,
        };
        eos_ids.extend(eos_token.and_then(Json::as_str).and_then(|token| tokenizer.token_to_id(token)));
        eos_ids.sort_unstable();
        eos_ids.dedup();
        Ok(Self { file, tokenizer, eos_ids })
    }

    /// The file the tokenizer is from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The tokens of `text`, in which special tokens are recognised and to which none are added.
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
        let encoding = self
            .tokenizer
            .encode(text, false)
            .map_err(|error| DataError::file(&self.file, format!("cannot encode a text: {error}")))?;
        let offsets = encoding.get_offsets();
        // The tokenizer leaves some of those marks to nobody.
        let next_starts = offsets.iter().skip(1).map(|(start, _)| *start).chain([text.len()]);
        let ranges = offsets.iter().zip(next_starts).map(|((start, end), next)| *start..next.max(*end));
        Ok(encoding.get_ids().iter().copied().zip(ranges).collect())
    }

    /// The text of `ids`, special tokens included only if `with_special`.
    ///
    /// # Errors
    /// If the tokenizer fails, which a sound one does not.
    pub fn decode(&self, ids: &[u32], with_special: bool) -> Result<String, DataError> {
        self.tokenizer
            .decode(ids, !with_special)
            .map_err(|error| DataError::file(&self.file, format!("cannot decode tokens: {error}")))
    }

    /// Decodes token by token, for showing an answer while it is made.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream { tokenizer: self, ids: Vec::new(), shown: 0 }
    }

    /// The id of a token given by its text.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The tokens that end an answer, in ascending order.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos_ids
    }

    /// The largest id that encoding can give; a model's vocabulary must be larger.
    pub fn largest_id(&self) -> u32 {
        self.tokenizer.get_vocab(true).into_values().max().unwrap_or(0)
    }
}

/// Text from tokens that come one at a time. A character may need several tokens, so text comes in whole characters.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// The tokens since the last whole character, after a few before it that decide about a space between.
    ids: Vec<u32>,
    /// How many of `ids` are shown already.
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

/// A JSON file that may be absent.
fn read_json(file: &Path) -> Result<Json, DataError> {
    match fs::read(file) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|error| DataError::file(file, format!("not valid JSON: {error}")))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Json::Null),
        Err(error) => Err(DataError::file(file, error.to_string())),
    }
}
