//! The program, in a folder with data and mistakes in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cotangent_models::checkpoint::HostTensor;
use cotangent_trainer::adapter::{AdapterConfig, write_tensors};
use tempfile::TempDir;

#[allow(dead_code, reason = "not every test that runs the program trains")]
pub const TRAIN: &str = "train --model CHECKPOINT --data data --output out";

pub fn demo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo").join(path)
}

pub fn line(question: &str, answer: &str) -> String {
    format!(
        r#"{{"messages": [{{"role": "user", "content": "{question}"}}, {{"role": "assistant", "content": "{answer}"}}]}}"#
    )
}

/// A folder with data and mistakes in it, to run the program in.
pub fn workplace() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let good =
        [line("One?", "Two."), line("Three?", "Four."), line("Five?", "Six."), line("Seven?", "Eight.")].join("\n");
    write("data/train.jsonl", &good);
    write("data/valid.jsonl", &line("Nine?", "Ten."));
    write("bad/train.jsonl", &format!("{}\n{{\"messages\": [{{\"role\": \"robot\"}}]}}\n", line("One?", "Two.")));
    write("empty/readme", "");
    write("used/adapters.safetensors", "");
    write("file", "");
    write("broken.json", "{");
    write("answered.json", &line("One?", "Two."));
    write("asked.json", r#"[{"role": "user", "content": "What is the capital of Denmark?"}]"#);
    let factor = |shape: &[usize]| HostTensor::from_f32(shape, &vec![0.01; shape.iter().product()]);
    let pair = BTreeMap::from([
        ("layers.0.mlp.up_proj.lora_a".to_owned(), factor(&[128, 4])),
        ("layers.0.mlp.up_proj.lora_b".to_owned(), factor(&[4, 384])),
    ]);
    write_tensors(&dir.path().join("rank4.safetensors"), &pair).unwrap();
    fs::create_dir(dir.path().join("adapter")).unwrap();
    write_tensors(&dir.path().join("adapter/adapters.safetensors"), &pair).unwrap();
    let config = AdapterConfig::from_tensors(pair.keys().map(String::as_str), 4, 2.0);
    config.write(&dir.path().join("adapter/adapter_config.json"), &BTreeMap::new()).unwrap();
    dir
}

/// The program in `dir`; the word CHECKPOINT stands for the demo's.
pub fn cotangent(dir: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cotangent"));
    let checkpoint = demo("checkpoint");
    for argument in arguments.split_whitespace() {
        match argument {
            "CHECKPOINT" => command.arg(&checkpoint),
            argument => command.arg(argument),
        };
    }
    // On matrices this small, threads cost more than they gain.
    command.current_dir(dir).env("OPENBLAS_NUM_THREADS", "1").env_remove("COTANGENT_BACKEND");
    command
}
