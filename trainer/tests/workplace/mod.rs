//! A folder to train a tiny model that sees in, and the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

pub fn reference(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference").join(path)
}

const TEMPLATE: &str = "{%- for message in messages %}<|im_start|>{{ message.role }}\n\
    {%- if message.content is string %}{{ message.content }}{%- else %}{%- for part in message.content %}\
    {%- if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{%- else %}{{ part.text }}{%- endif %}\
    {%- endfor %}{%- endif %}<|im_end|>\n{%- endfor %}\
    {%- if add_generation_prompt %}<|im_start|>assistant\n{%- endif %}";

/// A folder with the checkpoint `model`, a tokenizer of one token a character for it, and two pictures.
pub fn workplace_with(fixture: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    fs::create_dir(&model).unwrap();
    for (fixture, file) in
        [(fixture, "config.json"), (fixture, "model.safetensors"), ("fixtures/vlm", "preprocessor_config.json")]
    {
        fs::copy(reference(fixture).join(file), model.join(file)).unwrap();
    }
    let special = [
        (247, "<|im_start|>"),
        (248, "<|im_end|>"),
        (250, "<|vision_start|>"),
        (251, "<|vision_end|>"),
        (252, "<|image_pad|>"),
    ];
    let mut vocabulary: serde_json::Map<String, Value> = ('\n'..='~')
        .filter(|char| *char == '\n' || *char >= ' ')
        .enumerate()
        .map(|(id, char)| (char.to_string(), id.into()))
        .collect();
    vocabulary.extend(special.map(|(id, token)| (token.to_owned(), id.into())));
    let added = special.map(|(id, token)| {
        json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
               "special": true})
    });
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": false},
        "post_processor": null, "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "?"},
    });
    fs::write(model.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    fs::write(model.join("tokenizer_config.json"), json!({"eos_token": "<|im_end|>"}).to_string()).unwrap();
    fs::write(model.join("chat_template.jinja"), TEMPLATE).unwrap();
    for picture in ["rgb.png", "turned6.jpg"] {
        fs::copy(reference("vision").join(picture), dir.path().join(picture)).unwrap();
    }
    fs::write(dir.path().join("text.png"), "no picture").unwrap();
    dir
}

pub fn row(content: Value) -> Value {
    json!({"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "a cat"}]})
}

#[allow(dead_code, reason = "not every test has columns")]
pub fn with(mut row: Value, key: &str, value: Value) -> Value {
    row[key] = value;
    row
}

/// Runs the program, which must succeed, and returns what it prints.
pub fn cotangent(dir: &TempDir, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cotangent"));
    command.args(arguments).current_dir(dir.path()).env("OPENBLAS_NUM_THREADS", "1").env("COTANGENT_BACKEND", "cpu");
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{arguments:?}\n{}{}", text[0], text[1]);
    text[0].clone()
}

/// The losses that a run of training reports.
pub fn losses_of(trained: &str) -> Vec<f64> {
    trained.lines().filter_map(|line| line.split_once("Train loss ")?.1.split(',').next()?.parse().ok()).collect()
}
