use std::fs;

use proptest::prelude::*;

use super::*;

fn tokenizer() -> Tokenizer {
    Tokenizer::load(&data()).unwrap()
}

#[test]
fn special_tokens_are_recognised_and_none_is_added() {
    let tokenizer = tokenizer();
    let start = tokenizer.token_id("<|im_start|>").unwrap();
    let ids = tokenizer.encode("<|im_start|>user\n").unwrap();
    assert_eq!(ids[0], start);
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "<|im_start|>user\n");
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), "user\n");
    assert!(tokenizer.encode("").unwrap().is_empty());
    assert!(tokenizer.largest_id() >= start);
}

#[test]
fn end_tokens_are_gathered_from_all_files_that_name_some() {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(data().join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    let end = tokenizer().token_id("<|im_end|>").unwrap();
    assert!(Tokenizer::load(dir.path()).unwrap().eos_ids().is_empty());
    fs::write(dir.path().join("tokenizer_config.json"), r#"{"eos_token": {"content": "<|im_end|>"}}"#).unwrap();
    fs::write(dir.path().join("config.json"), r#"{"eos_token_id": null, "text_config": {"eos_token_id": 7}}"#).unwrap();
    fs::write(dir.path().join("generation_config.json"), r#"{"eos_token_id": [9, 7]}"#).unwrap();
    assert_eq!(Tokenizer::load(dir.path()).unwrap().eos_ids(), [7, 9, end]);

    fs::write(dir.path().join("generation_config.json"), r#"{"eos_token_id": ["<|im_end|>"]}"#).unwrap();
    let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
    assert!(error.ends_with("`eos_token_id`: found \"<|im_end|>\", expected a token id or a list of them"), "{error}");
}

#[test]
fn a_tokenizer_that_is_absent_or_damaged_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let load = || Tokenizer::load(dir.path()).unwrap_err().to_string();
    assert!(load().contains("tokenizer.json`: No such file"));
    let sound = fs::read(data().join("tokenizer.json")).unwrap();
    for bytes in [&b"{}"[..], b"", &sound[..sound.len() / 2]] {
        fs::write(dir.path().join("tokenizer.json"), bytes).unwrap();
        assert!(load().contains("tokenizer.json`: not a valid tokenizer: "), "{}", load());
    }
}

#[test]
fn a_stream_gives_whole_characters_as_soon_as_they_are_known() {
    let tokenizer = tokenizer();
    let ids = tokenizer.encode("a 🚀b").unwrap();
    let mut stream = tokenizer.stream();
    let pieces: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    assert!(pieces.iter().all(|piece| !piece.contains(char::REPLACEMENT_CHARACTER)), "{pieces:?}");
    assert_eq!(pieces.concat(), "a 🚀b");

    let mut cut_short = tokenizer.stream();
    let rocket = tokenizer.encode("🚀").unwrap();
    assert!(rocket.len() > 1);
    assert_eq!(cut_short.push(rocket[0]).unwrap(), "");
    assert_eq!(cut_short.finish().unwrap(), "\u{fffd}");
}

proptest! {
    #[test]
    fn a_stream_gives_what_decoding_at_once_gives(text in "(\\PC|[ a-z\\n]){0,40}") {
        let tokenizer = tokenizer();
        let ids = tokenizer.encode(&text).unwrap();
        let mut stream = tokenizer.stream();
        let mut streamed: String = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
        streamed += &stream.finish().unwrap();
        prop_assert_eq!(streamed, tokenizer.decode(&ids, false).unwrap());
    }

    #[test]
    fn offsets_cover_the_text_in_order(text in "(\\PC|[ a-z\\n]){0,40}") {
        let mut reached = 0;
        for (_, offsets) in tokenizer().encode_with_offsets(&text).unwrap() {
            prop_assert!(offsets.start <= reached && offsets.end >= reached && text.is_char_boundary(offsets.start));
            reached = offsets.end;
        }
        prop_assert_eq!(reached, text.len());
    }
}
