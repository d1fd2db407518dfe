//! `cotangent show`, as people meet it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

fn folder(rows: &[Json]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<String> = rows.iter().map(Json::to_string).collect();
    fs::write(dir.path().join("train.jsonl"), lines.join("\n")).unwrap();
    dir
}

fn row(question: &str, answer: &str) -> Json {
    json!({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]})
}

/// Exit code and standard output; errors belong to neither.
fn show(dir: &Path, arguments: &str) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cotangent"))
        .args(["show", "--data", ".", "--model"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/checkpoint"))
        .args(arguments.split_whitespace())
        .current_dir(dir)
        .env("OPENBLAS_NUM_THREADS", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "");
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn what_is_learned_is_marked_and_the_data_is_summed_up() {
    let dir = folder(&[
        row("What day follows Monday?", "Tuesday, \u{1b}[31msir"),
        row("One?", "Two."),
        row("Three?", "Four."),
    ]);
    let (code, text) = show(dir.path(), "-n 1 --batch-size 2");
    assert_eq!(code, Some(0));
    for expected in [
        "given before it \"<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n\", learned after it \"<|im_end|>\"",
        "--- ./train.jsonl, line 1 --- ",
        "<|im_start|>user\nWhat day follows Monday?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n\
         ⟦Tuesday, \\u{1b}[31msir<|im_end|>⟧\n",
        "rows      3 give 3 examples",
        "cut       none: no example is longer than 1,024 tokens",
        "template  writes all of 6 contents",
        "batches   2 batches of at most 2 in an epoch; ",
        "1. ",
    ] {
        assert!(text.contains(expected), "expected `{expected}` in\n{text}");
    }
    assert!(!text.contains("line 2 ---") && !text.contains('\u{1b}'), "{text}");

    let (_, text) = show(dir.path(), "-n 1 --line 2 --color always");
    assert!(text.contains("./train.jsonl, line 2 ---") && !text.contains("line 1 ---"), "{text}");
    // Each token has its own escape sequence, and neighbouring tokens differ.
    let learned: Vec<&str> = text.split("\u{1b}[").filter(|piece| piece.starts_with("38;5;231;48;5;")).collect();
    assert!(learned.len() > 3 && learned.windows(2).all(|pair| pair[0][..16] != pair[1][..16]), "{learned:?}");
}

#[test]
fn what_the_cut_and_the_template_lose_is_shown_and_fails_if_that_is_asked_for() {
    let thoughtful = json!({"messages": [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Two.", "reasoning_content": "One and one."},
        {"role": "user", "content": "Three?"},
        {"role": "assistant", "content": "Four."},
    ]});
    let dir = folder(&[thoughtful, row("Five?", "Six and seven and eight and nine and ten.")]);
    let (code, text) = show(dir.path(), "--max-seq-length 24 --strict-template");
    assert_eq!(code, Some(1));
    for expected in [
        "--- cut here, at 24 tokens: ",
        " learned tokens are lost, and 1 end-of-turn mark\n",
        "cut       2 of 2 examples at 24 tokens, first in line 1: ",
        "template  leaves out or changes 1 of 1 thoughts, first in line 1, `messages[1]`",
    ] {
        assert!(text.contains(expected), "expected `{expected}` in\n{text}");
    }
    assert_eq!(show(dir.path(), "--max-seq-length 24 -n 0").0, Some(0));
}

#[test]
fn of_a_long_example_the_middle_is_left_out() {
    let dir = folder(&[row("Count.", &"one two three ".repeat(1000))]);
    let (_, text) = show(dir.path(), "");
    assert!(text.contains(" learned ...\n") && text.matches("one two").count() < 500, "{text}");
    let (_, text) = show(dir.path(), "--full");
    assert!(!text.contains(" learned ...\n") && text.matches("one two").count() > 990, "{text}");
}

#[test]
fn keys_of_the_configuration_that_nothing_reads_are_named_once() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/checkpoint");
    let dir = folder(&[row("One?", "Two.")]);
    for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        fs::copy(demo.join(file), dir.path().join(file)).unwrap();
    }
    let config: Json = serde_json::from_str(&fs::read_to_string(demo.join("config.json")).unwrap()).unwrap();
    let show = |change: &dyn Fn(&mut Json)| {
        let mut config = config.clone();
        change(&mut config);
        fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cotangent"));
        let output = command.args("show --model . --data . -n 0".split(' ')).current_dir(&dir).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let warned = show(&|config| {
        config["head_scale"] = json!(2);
        config["text_config"]["attention_\u{1b}sinks"] = json!(4);
    });
    let expected = "warning: `./config.json`: nothing here reads `head_scale`, `text_config.attention_\\u{1b}sinks`: what the \
                    model computes may depend on it\n";
    assert_eq!(warned, (Some(0), expected.into()));
    let (code, error) = show(&|config| config["text_config"]["rope_parameters"]["rope_thetta"] = json!(4));
    assert!(error.contains("`text_config.rope_parameters.rope_thetta`: found a key that is not known"), "{error}");
    assert_eq!(code, Some(1));
}
