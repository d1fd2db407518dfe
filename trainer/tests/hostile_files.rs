//! Files of others that would end, stop or fill the program: each is refused in a sentence.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

fn demo(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/checkpoint").join(file)
}

/// The demo's checkpoint with another file in it.
fn checkpoint_with(name: &str, put: impl FnOnce(&Path)) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(demo(".")).unwrap() {
        let file = entry.unwrap();
        if file.file_name() != name {
            symlink(fs::canonicalize(file.path()).unwrap(), dir.path().join(file.file_name())).unwrap();
        }
    }
    put(&dir.path().join(name));
    dir
}

/// Returns what `cotangent generate` prints about a checkpoint, with `.` for its folder.
fn refusal(dir: &TempDir) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_cotangent"))
        .args(["generate", "--prompt", "Hello there", "--max-tokens", "1", "--model"])
        .arg(dir.path())
        .env("OPENBLAS_NUM_THREADS", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{:?} {stderr}", output.status);
    stderr.replace(&dir.path().display().to_string(), ".")
}

#[test]
fn templates_that_never_end_take_all_memory_or_nest_without_end() {
    for (source, expected) in [
        (
            "{% for a in range(70000) %}{% for b in range(70000) %}{% for c in range(70000) %}{% endfor %}{% endfor %}{% endfor %}",
            "does not end within ten million instructions",
        ),
        ("{{ 'x\ny' | indent(30000000000) }}", "takes more than 2 GiB of memory"),
        ("{{ {'a': [1]} | tojson(indent=2000000000000000000) }}", "takes more than 2 GiB of memory"),
        (
            "{% set n = namespace() %}{% set n.me = [n] %}{{ n.me | string | length }}",
            "a value is nested deeper than 200 levels",
        ),
        ("{% set n = namespace() %}{% set n.me = [n] %}{{ n ~ '' }}", "nests values too deeply"),
        ("{{ 'x' * 40000000 }}", "writes 40000000 bytes for one conversation, expected at most 33554432"),
        ("{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}", "recursion limit exceeded"),
        (&format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000)), "the chat template is not valid: "),
        ("{{ raise_exception('a\u{1b}]0;b\u{7}c') }}", "a\\u{1b}]0;b\\u{7}c (line 1 of the template)"),
    ] {
        let said = refusal(&checkpoint_with("chat_template.jinja", |file| fs::write(file, source).unwrap()));
        assert!(said.starts_with("error: `./chat_template.jinja`: "), "{said}");
        assert!(said.contains(expected), "expected `{expected}` in\n{said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    }
}

#[test]
fn tokenizers_that_break_what_runs_them() {
    let sound: Json = serde_json::from_slice(&fs::read(demo("tokenizer.json")).unwrap()).unwrap();
    for (place, value, expected) in [
        (
            "/normalizer",
            json!({"type": "Replace", "pattern": {"String": ""}, "content": "zz"}),
            "the tokenizer breaks the program that runs it",
        ),
        ("/model/vocab", json!({"a": 4_000_000_000_u32, "b": 0}), "not a valid tokenizer: "),
        ("/pre_tokenizer", json!({"type": "\u{1b}[2J"}), "not a valid tokenizer: "),
    ] {
        let mut tokenizer = sound.clone();
        *tokenizer.pointer_mut(place).unwrap() = value;
        let dir = checkpoint_with("tokenizer.json", |file| fs::write(file, tokenizer.to_string()).unwrap());
        let said = refusal(&dir);
        assert!(said.starts_with("error: `./tokenizer.json`: "), "{said}");
        assert!(said.contains(expected), "expected `{expected}` in\n{said}");
        assert!(!said.contains('\u{1b}'), "{said:?}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    }
}

#[test]
fn pipes_and_endless_files_are_not_read() {
    let pipe = |file: &Path| assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
    let endless = |file: &Path| symlink("/dev/zero", file).unwrap();
    for name in [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
        "model.safetensors",
    ] {
        for put in [&pipe as &dyn Fn(&Path), &endless] {
            let said = refusal(&checkpoint_with(name, put));
            assert!(said.starts_with(&format!("error: `./{name}`: ")), "{said}");
            assert!(said.contains("found a pipe or a device, expected a file"), "{said}");
        }
    }
    let long = |file: &Path| fs::File::create(file).unwrap().set_len(1 << 40).unwrap();
    for name in ["config.json", "tokenizer.json", "chat_template.jinja"] {
        let said = refusal(&checkpoint_with(name, long));
        assert!(said.contains("has 1099511627776 bytes or more, expected at most "), "{said}");
    }
}
