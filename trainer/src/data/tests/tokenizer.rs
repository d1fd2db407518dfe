//! Tests of loading and using tokenizers.

use std::fs;

use proptest::prelude::*;

use super::*;

fn tokenizer() -> Tokenizer {
    Tokenizer::load(&data()).unwrap()
}

#[test]
fn special_tokens_are_recognised_and_none_is_added() {
    let tokenizer = tokenizer();
    let start = tokenizer.token_id("<|im_start|>").unwrap().unwrap();
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
    let end = tokenizer().token_id("<|im_end|>").unwrap().unwrap();
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
    assert!(
        load().contains("found no tokenizer, expected `tokenizer.json`, or `vocab.json` and `merges.txt`"),
        "{}",
        load()
    );
    let sound = fs::read(data().join("tokenizer.json")).unwrap();
    for bytes in [&b"{}"[..], b"", &sound[..sound.len() / 2]] {
        fs::write(dir.path().join("tokenizer.json"), bytes).unwrap();
        assert!(load().contains("tokenizer.json`: not a valid tokenizer: "), "{}", load());
    }
}

/// `tokenizer.json` of the tests, taken apart as older checkpoints have it: the vocabulary, the merges, the added tokens.
fn taken_apart() -> [(&'static str, String); 3] {
    let whole: Json = serde_json::from_slice(&fs::read(data().join("tokenizer.json")).unwrap()).unwrap();
    let pairs = whole["model"]["merges"].as_array().unwrap().iter();
    let lines = pairs.map(|pair| format!("{} {}\n", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()));
    let tokens = whole["added_tokens"].as_array().unwrap().iter();
    let tokens: serde_json::Map<_, _> = tokens.map(|token| (token["id"].to_string(), token.clone())).collect();
    [
        ("vocab.json", whole["model"]["vocab"].to_string()),
        ("merges.txt", format!("#version: 0.2\n{}", lines.collect::<String>())),
        ("tokenizer_config.json", json!({"added_tokens_decoder": tokens}).to_string()),
    ]
}

#[test]
fn a_vocabulary_with_merges_is_the_same_tokenizer() {
    let dir = tempfile::tempdir().unwrap();
    for (name, contents) in taken_apart() {
        fs::write(dir.path().join(name), contents).unwrap();
    }
    let (whole, apart) = (tokenizer(), Tokenizer::load(dir.path()).unwrap());
    assert_eq!(whole.largest_id(), apart.largest_id());
    for text in
        ["<|im_start|>user\nWhat's 12 + e\u{301}?<|im_end|>\n", "  two\n\n three\t<think>\n", "हिन्दी 你好 👩\u{200d}🚀"]
    {
        assert_eq!(whole.encode_with_offsets(text).unwrap(), apart.encode_with_offsets(text).unwrap(), "{text}");
        assert_eq!(
            apart.decode(&apart.encode(text).unwrap(), true).unwrap(),
            whole.decode(&whole.encode(text).unwrap(), true).unwrap()
        );
    }
    assert_eq!(whole.decode(&whole.encode("a<|im_end|>").unwrap(), false).unwrap(), "a");

    // Qwen3.5 counts combining marks as letters, and Qwen2 does not.
    let config = dir.path().join("tokenizer_config.json");
    let mut json: Json = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    json["tokenizer_class"] = "Qwen3_5Tokenizer".into();
    fs::write(&config, json.to_string()).unwrap();
    let newer = Tokenizer::load(dir.path()).unwrap();
    assert_eq!(newer.encode("plain words").unwrap(), whole.encode("plain words").unwrap());

    json["tokenizer_class"] = "LlamaTokenizer".into();
    fs::write(&config, json.to_string()).unwrap();
    let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("vocab.json`: found the vocabulary of a `LlamaTokenizer` without `tokenizer.json`"),
        "{error}"
    );
}

#[test]
fn tokens_that_only_another_file_lists_are_added() {
    let after = tokenizer().largest_id() + 1;
    let listed = r#"{"added_tokens_decoder": {"900": {"content": "<b>", "special": true}, "9": {"content": "<a>"}}}"#;
    let special = r#"{"additional_special_tokens": ["<a>"], "extra_special_tokens": {"image_token": "<b>"}}"#;
    for (files, expected) in [
        (&[("tokenizer_config.json", listed)][..], (Some(after), Some(after + 1))),
        (&[("tokenizer_config.json", special)], (Some(after), Some(after + 1))),
        (&[("added_tokens.json", r#"{"<b>": 7, "<a>": 8}"#)], (Some(after + 1), Some(after))),
        (&[("special_tokens_map.json", special)], (Some(after), Some(after + 1))),
        // The newer list replaces all of the older files.
        (
            &[("tokenizer_config.json", r#"{"added_tokens_decoder": {}}"#), ("added_tokens.json", r#"{"<a>": 8}"#)],
            (None, None),
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(data().join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
        for (name, contents) in files {
            fs::write(dir.path().join(name), contents).unwrap();
        }
        let tokenizer = Tokenizer::load(dir.path()).unwrap();
        let id = |token| tokenizer.token_id(token).unwrap();
        assert_eq!((id("<a>"), id("<b>")), expected, "{files:?}");
        if let (Some(a), Some(b)) = expected {
            assert_eq!(tokenizer.encode("<b><a>").unwrap(), [b, a], "{files:?}");
        }
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
