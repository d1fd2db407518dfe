//! Encodes text as tokens in little memory.
//!
//! `Tokenizer::encode` of the crate `tokenizers` keeps the text of every token and six numbers for each, and trims
//! blanks from what some tokens stand for. Here a token is its id and its bytes, and a word is dropped when it has been
//! tokenized, so a text of 8 MiB takes half the memory.

use std::cell::RefCell;

use tokenizers::normalizer::Range;
use tokenizers::{Model, OffsetReferential, OffsetType, PreTokenizer, Tokenizer};

/// The tokens of `text`, each with its first byte and the byte after its last; added tokens are recognised, and none is
/// added.
pub(super) fn encode(tokenizer: &Tokenizer, text: &str) -> tokenizers::Result<Vec<(u32, u32, u32)>> {
    // All positions in the text must fit in 32 bits.
    u32::try_from(text.len())?;
    let added = tokenizer.get_added_vocabulary();
    let mut pieces = added.extract_and_normalize(tokenizer.get_normalizer(), text);
    let mut tokens = Vec::new();
    for (_, (start, end), token) in pieces.get_splits(OffsetReferential::Original, OffsetType::Byte) {
        tokens.extend(token.iter().flatten().map(|token| (token.id, start as u32, end as u32)));
    }
    if let Some(words) = tokenizer.get_pre_tokenizer() {
        words.pre_tokenize(&mut pieces)?;
    }
    let found = RefCell::new(tokens);
    pieces.tokenize(|word| {
        let (begin, _) = word.offsets_original();
        for token in tokenizer.get_model().tokenize(word.get())? {
            let (start, end) = token.offsets;
            let bytes = word.convert_offsets(Range::Normalized(start..end)).unwrap_or(start..end);
            found.borrow_mut().push((token.id, (begin + bytes.start) as u32, (begin + bytes.end) as u32));
        }
        // The word's tokens are collected, so nothing of it is left to split.
        Ok(Vec::new())
    })?;
    let mut tokens = found.into_inner();
    // The added tokens came first. Tokens that share a character keep their order.
    tokens.sort_by_key(|(_, start, _)| *start);
    // Characters that normalisation joined to the one before belong to no token; each token is extended over them.
    let mut next = text.len() as u32;
    for (_, start, end) in tokens.iter_mut().rev() {
        *end = next.max(*end);
        next = *start;
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::data::tokenizer_files;

    #[test]
    fn tokens_and_their_bytes_are_those_of_the_crate() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        let (_, tokenizer) = tokenizer_files::load(&dir).unwrap();
        for text in [
            "",
            "<|im_start|>user\nWhat's up?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nLots.<|im_end|>",
            "e\u{301}e\u{301} a\u{30a}<|im_end|>\u{301}x  \n\n 你好 👩\u{200d}🚀",
            "\u{301}<think><think>",
        ] {
            let theirs = tokenizer.encode(text, false).unwrap();
            let ours = encode(&tokenizer, text).unwrap();
            assert_eq!(ours.iter().map(|token| token.0).collect::<Vec<_>>(), theirs.get_ids(), "{text:?}");
            for ((_, start, end), (other_start, other_end)) in ours.iter().zip(theirs.get_offsets()) {
                assert_eq!(*start as usize, *other_start, "{text:?}");
                assert!(*end as usize >= *other_end, "{text:?}");
            }
            assert_eq!(ours.last().map_or(0, |token| token.2 as usize), text.len(), "{text:?}");
        }
    }
}
