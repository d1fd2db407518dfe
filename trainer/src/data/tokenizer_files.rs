//! The files in which checkpoints keep their tokenizers.

use std::path::{Path, PathBuf};

use cotangent_models::quoting::quoted;
use cotangent_models::reading::{self, CONFIGURATION_BYTES};
use serde_json::Value as Json;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer};

use super::DataError;

/// The limit for `tokenizer.json`, `vocab.json` and `merges.txt`: ten times the largest that are published.
const VOCABULARY_BYTES: u64 = 256 << 20;

/// How Qwen's tokenizers cut a text into words, as transformers has it for a class; [`MARKS`] stands for combining
/// marks where they belong to words.
const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}MARKS]+|\p{N}| ?[^\s\p{L}MARKS\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Loads the tokenizer of the checkpoint folder `dir`, and the file it is from: `tokenizer.json`, else `vocab.json` and
/// `merges.txt`. Tokens that only `tokenizer_config.json` or `added_tokens.json` list are added, as transformers does.
pub(super) fn load(dir: &Path) -> Result<(PathBuf, Tokenizer), DataError> {
    let config = read_json(&dir.join("tokenizer_config.json"))?;
    let file = dir.join("tokenizer.json");
    let bytes = reading::if_present(reading::read(&file, VOCABULARY_BYTES))
        .map_err(|error| DataError::file(&file, error.to_string()))?;
    let (file, mut tokenizer) = match bytes {
        Some(bytes) => {
            let tokenizer = Tokenizer::from_bytes(&bytes).map_err(|error| {
                DataError::file(&file, format!("not a valid tokenizer: {}", quoted(error.to_string())))
            })?;
            (file, tokenizer)
        }
        None => tokenizer_of_vocabulary(dir, &config)?,
    };
    let fail = |error: tokenizers::Error| DataError::file(&file, quoted(error.to_string()));
    let present = tokenizer.get_added_tokens_decoder();
    let mut missing = added_tokens(dir, &config)?;
    missing.retain(|token| !present.values().any(|other| other == token));
    for tokens in missing.chunk_by(|one, next| one.special == next.special) {
        let tokens = tokens.to_vec();
        let special = tokens.first().is_some_and(|token| token.special);
        let added = if special { tokenizer.add_special_tokens(tokens) } else { tokenizer.add_tokens(tokens) };
        added.map_err(fail)?;
    }
    // Some files still contain the padding and truncation that their last user needed.
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(fail)?;
    Ok((file, tokenizer))
}

/// Qwen's byte-level BPE, of which older checkpoints have only the vocabulary and the merges.
fn tokenizer_of_vocabulary(dir: &Path, config: &Json) -> Result<(PathBuf, Tokenizer), DataError> {
    let (vocabulary, merges) = (dir.join("vocab.json"), dir.join("merges.txt"));
    if !vocabulary.exists() {
        let reason = match dir.join("tokenizer.model").exists() || dir.join("spiece.model").exists() {
            true => {
                "found a SentencePiece model, expected `tokenizer.json`\nhelp: save the tokenizer with transformers"
            }
            false => "found no tokenizer, expected `tokenizer.json`, or `vocab.json` and `merges.txt`",
        };
        return Err(DataError::file(dir, reason));
    }
    let marks = match config.get("tokenizer_class").and_then(Json::as_str) {
        None | Some("Qwen2Tokenizer" | "Qwen2TokenizerFast") => "",
        Some("Qwen3_5Tokenizer" | "Qwen3_5TokenizerFast") => r"\p{M}",
        Some(class) => {
            let reason = format!(
                "found the vocabulary of a `{}` without `tokenizer.json`; only that of a `Qwen2Tokenizer` or \
                 `Qwen3_5Tokenizer` is read\nhelp: save the tokenizer with transformers",
                quoted(class)
            );
            return Err(DataError::file(&vocabulary, reason));
        }
    };
    for file in [&vocabulary, &merges] {
        // The builder reads the files itself, without a limit.
        reading::read(file, VOCABULARY_BYTES).map_err(|error| DataError::file(file, error.to_string()))?;
    }
    let fail = |error: tokenizers::Error| {
        DataError::file(&vocabulary, format!("not a valid vocabulary: {}", quoted(error.to_string())))
    };
    let bpe = BPE::from_file(&vocabulary.to_string_lossy(), &merges.to_string_lossy()).build().map_err(fail)?;
    let words = SplitPattern::Regex(WORDS.replace("MARKS", marks));
    let words = Split::new(words, SplitDelimiterBehavior::Isolated, false).map_err(fail)?;
    let add_prefix_space = config.get("add_prefix_space").and_then(Json::as_bool).unwrap_or(false);
    let bytes = ByteLevel::new(add_prefix_space, false, false);
    let mut tokenizer = Tokenizer::new(bpe);
    tokenizer.with_normalizer(Some(NFC)).map_err(fail)?;
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
        PreTokenizerWrapper::from(words),
        PreTokenizerWrapper::from(bytes),
    ])));
    tokenizer.with_decoder(Some(bytes));
    Ok((vocabulary, tokenizer))
}

/// The tokens that the configuration lists, in the order in which transformers adds them: by id, then those that are
/// only named as special.
fn added_tokens(dir: &Path, config: &Json) -> Result<Vec<AddedToken>, DataError> {
    let (mut special, mut decoder) = (special_names(config), Vec::new());
    let file = dir.join("tokenizer_config.json");
    match config.get("added_tokens_decoder") {
        Some(Json::Object(tokens)) => {
            for (id, token) in tokens {
                let parsed = id.parse::<u32>().ok().zip(added_token(token));
                decoder.push(parsed.ok_or_else(|| {
                    let place = format!("`added_tokens_decoder.{}`", quoted(id));
                    DataError::file(&file, format!("{place}: expected an id with an object that has `content`"))
                })?);
            }
        }
        None | Some(Json::Null) => {
            // Before `added_tokens_decoder` there were two files of their own.
            special.extend(special_names(&read_json(&dir.join("special_tokens_map.json"))?));
            let file = dir.join("added_tokens.json");
            for (content, id) in read_json(&file)?.as_object().into_iter().flatten() {
                let id = id.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
                    DataError::file(
                        &file,
                        format!("`{}`: found {}, expected an id", quoted(content), quoted(id.to_string())),
                    )
                })?;
                decoder.push((
                    id,
                    AddedToken::from(content.as_str(), special.iter().any(|token| token.content == *content)),
                ));
            }
        }
        Some(_) => return Err(DataError::file(&file, "`added_tokens_decoder`: expected an object")),
    }
    decoder.sort_by_key(|(id, _)| *id);
    let mut tokens: Vec<AddedToken> = decoder.into_iter().map(|(_, token)| token).collect();
    for token in &mut tokens {
        token.special |= special.iter().any(|special| special.content == token.content);
    }
    for token in special {
        if !tokens.iter().any(|other| other.content == token.content) {
            tokens.push(token);
        }
    }
    Ok(tokens)
}

/// The tokens that `config` names as special: `eos_token` and similar ones, and those of its lists.
fn special_names(config: &Json) -> Vec<AddedToken> {
    let names = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
    let lists = ["additional_special_tokens", "extra_special_tokens"];
    let single = names.iter().filter_map(|name| config.get(*name));
    let listed = lists.iter().filter_map(|name| config.get(*name)).flat_map(|list| match list {
        Json::Array(items) => items.iter().collect(),
        // Newer configurations give these tokens names.
        Json::Object(items) => items.values().collect(),
        _ => Vec::new(),
    });
    let token = |token: &Json| match token {
        Json::String(content) => Some(AddedToken::from(content.as_str(), true)),
        token => added_token(token).map(|token| token.special(true)),
    };
    single.chain(listed).filter_map(token).collect()
}

/// A token as an object with `content` and flags, which default to what transformers gives them.
fn added_token(json: &Json) -> Option<AddedToken> {
    let flag = |name: &str| json.get(name).and_then(Json::as_bool);
    let special = flag("special").unwrap_or(false);
    let token = AddedToken::from(json.get("content")?.as_str()?, special);
    Some(
        token
            .normalized(flag("normalized").unwrap_or(!special))
            .single_word(flag("single_word").unwrap_or(false))
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false)),
    )
}

/// The text of a special token, which is text or an object with `content`.
pub(super) fn special_token(json: &Json) -> Option<&str> {
    json.as_str().or_else(|| json.get("content")?.as_str())
}

/// A JSON file that may be absent.
pub(super) fn read_json(file: &Path) -> Result<Json, DataError> {
    let bytes = reading::if_present(reading::read(file, CONFIGURATION_BYTES))
        .map_err(|error| DataError::file(file, error.to_string()))?;
    match bytes {
        Some(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| DataError::file(file, format!("not valid JSON: {}", quoted(error.to_string())))),
        None => Ok(Json::Null),
    }
}
