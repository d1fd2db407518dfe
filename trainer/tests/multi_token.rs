//! `cotangent train --mtp`: the loss beside that of the next token, the head alone, and what is saved of both.

mod workplace;

use std::fs;
use std::path::Path;
use std::process::Command;

use cotangent_models::checkpoint::{HostTensor, SafetensorsFile};
use serde_json::Value;
use tempfile::TempDir;
use workplace::{cotangent, losses_of, row, with, workplace_with};

/// A folder with a model that has the head, and data with a picture and without.
fn workplace() -> TempDir {
    let dir = workplace_with("fixtures/mtp");
    let rows = [row("Who?".into()), with(row("What?".into()), "images", serde_json::json!(["rgb.png"]))];
    fs::write(dir.path().join("train.jsonl"), rows.map(|row| row.to_string()).join("\n")).unwrap();
    dir
}

/// The command, to which these options are added.
fn training<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let fixed =
        ["train", "--model", "model", "--batch-size", "2", "--learning-rate", "5e-3", "--steps-per-report", "4"];
    let data: &[&str] = if more.contains(&"--data") { &[] } else { &["--data", "train.jsonl"] };
    [&fixed[..], data, more].concat()
}

fn refused(dir: &TempDir, more: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cotangent"));
    let output = command.args(training(more)).current_dir(dir.path()).env("COTANGENT_BACKEND", "cpu").output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

/// The tensors of the head, which are in a file of their own, and all others.
fn tensors(dir: &TempDir, folder: &str) -> Vec<(String, HostTensor)> {
    let read = |file: &str| {
        let file = dir.path().join(folder).join(file);
        let file = if file.exists() { SafetensorsFile::open(&file).unwrap() } else { return Vec::new() };
        file.names().map(|name| (name.to_owned(), file.read(name).unwrap())).collect()
    };
    let (others, of_head) = (read("adapters.safetensors"), read("adapters.mtp.safetensors"));
    let is_of_head = |(name, _): &(String, HostTensor)| name.contains("mtp.");
    assert!(!others.iter().any(is_of_head) && of_head.iter().all(is_of_head));
    [of_head, others].concat()
}

fn lines(file: &Path) -> Vec<Value> {
    fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_head_learns_beside_the_trunk_then_alone() {
    let dir = workplace();
    let valid = "train.jsonl";
    fs::create_dir(dir.path().join("data")).unwrap();
    for file in ["train.jsonl", "valid.jsonl"] {
        let text = fs::read_to_string(dir.path().join(valid)).unwrap().replace("rgb.png", "../rgb.png");
        fs::write(dir.path().join("data").join(file), text).unwrap();
    }
    let options =
        ["--data", "data", "--output", "out", "--mtp", "loss", "0.3", "--iters", "8", "--log-json", "log.jsonl"];
    let trained = cotangent(&dir, &training(&options));
    assert!(trained.contains("Left out of the checkpoint: 0") || !trained.contains("Left out"), "{trained}");
    let log = lines(&dir.path().join("log.jsonl"));
    let of = |key: &str| log.iter().filter_map(|line| line[key].as_f64()).collect::<Vec<f64>>();
    for key in ["train_loss", "train_mtp_loss", "val_loss", "val_mtp_loss"] {
        let losses = of(key);
        assert!(losses.len() == 2 && losses[1] < losses[0], "{key} {losses:?}");
    }
    assert!(trained.contains(&format!(", MTP loss {:.3}\n", of("train_mtp_loss")[1])), "{trained}");
    let both = tensors(&dir, "out");
    let is_of_head = |name: &str| name.starts_with("language_model.mtp.");
    // The head has `fc`, four projections of attention and three of the feed-forward layer.
    assert_eq!(both.iter().filter(|(name, _)| is_of_head(name)).count(), 2 * 8);

    // Only the adapters of the head change; those of the rest stay, and the next token is predicted as before.
    let alone = ["--output", "alone", "--mtp", "only", "--iters", "8", "--resume-adapter-file", "out"];
    let losses = losses_of(&cotangent(&dir, &training(&alone)));
    assert!(losses.len() == 2 && losses[1] < losses[0] && losses[0] < 1.2 * of("train_mtp_loss")[1], "{losses:?}");
    for ((name, before), (_, after)) in both.iter().zip(tensors(&dir, "alone")) {
        assert_eq!(before.bytes == after.bytes, !is_of_head(name), "{name}");
    }
    let evaluated =
        |adapter: &str| cotangent(&dir, &["evaluate", "--model", "model", "--data", valid, "--adapter-path", adapter]);
    assert_eq!(evaluated("out"), evaluated("alone"));
    let audited = cotangent(&dir, &["audit", "model", "--adapter-path", "alone"]);
    assert!(audited.contains("mtp.fc.lora_a") && audited.contains("parameters train"), "{audited}");
}

#[test]
fn the_whole_head_trains_alone_is_saved_and_is_there_again() {
    let dir = workplace();
    cotangent(&dir, &training(&["--output", "trunk", "--iters", "2", "--target", "q_proj"]));
    let whole = ["--mtp", "only", "--iters", "6", "--save-every", "3", "--resume-adapter-file", "trunk"];
    let trained = cotangent(&dir, &training(&[&["--output", "whole"], &whole[..]].concat()));
    let losses = losses_of(&trained);
    assert!(losses.len() == 2 && losses[1] < losses[0], "{trained}");
    let found = tensors(&dir, "whole");
    let (of_head, of_trunk): (Vec<_>, Vec<_>) = found.iter().cloned().partition(|(name, _)| name.starts_with("mtp."));
    assert_eq!(of_trunk, tensors(&dir, "trunk"));
    // The file has every tensor of the head, under its name in the checkpoint, and each has changed.
    let before = SafetensorsFile::open(&dir.path().join("model/model.safetensors")).unwrap();
    assert_eq!(of_head.len(), 15);
    for (name, tensor) in &of_head {
        let before = before.read(name).unwrap();
        assert!(before.shape == tensor.shape && before.to_f32() != tensor.to_f32(), "{name}");
    }

    let part = |iters: &'static str, more: &[&'static str]| {
        let fixed = ["--output", "part", "--mtp", "only", "--resume-adapter-file", "trunk", "--iters", iters];
        cotangent(&dir, &training(&[&fixed[..], more].concat()));
    };
    part("3", &[]);
    part("6", &["--resume"]);
    assert_eq!(tensors(&dir, "part"), found, "a run goes on bit for bit");

    // A run that begins with this head reads it, and keeps what it does not train.
    let again = ["--output", "again", "--mtp", "only", "--iters", "4", "--resume-adapter-file", "whole"];
    let losses_again = losses_of(&cotangent(&dir, &training(&again)));
    assert!(losses_again[0] < losses[1], "{losses:?} {losses_again:?}");
    cotangent(&dir, &training(&["--output", "kept", "--iters", "2", "--resume-adapter-file", "whole"]));
    let kept = tensors(&dir, "kept").into_iter().filter(|(name, _)| name.starts_with("mtp.")).collect::<Vec<_>>();
    assert_eq!(kept, of_head);

    let alone = ["--output", "alone", "--mtp", "only", "--iters", "1"];
    cotangent(&dir, &training(&alone));
    assert!(tensors(&dir, "alone").iter().all(|(name, _)| name.starts_with("mtp.")));
    let audited = cotangent(&dir, &["audit", "model", "--adapter-path", "alone"]);
    assert!(audited.contains("mtp.fc.weight") && audited.contains("parameters train"), "{audited}");
}

#[test]
fn a_run_goes_on_bit_for_bit_and_with_the_same_loss_only() {
    let dir = workplace();
    let whole = training(&["--output", "whole", "--mtp", "loss", "--mtp-detach", "--iters", "6", "--save-every", "3"]);
    cotangent(&dir, &whole);
    let part = |iters: &'static str, more: &[&'static str]| {
        training(&[&["--output", "part", "--mtp", "loss", "--mtp-detach", "--iters", iters], more].concat())
    };
    cotangent(&dir, &part("3", &[]));
    for other in [&["--mtp", "loss"][..], &["--mtp", "loss", "0.2", "--mtp-detach"], &["--mtp", "off"]] {
        let message = refused(&dir, &[&["--output", "part", "--iters", "6", "--resume"], other].concat());
        assert!(message.contains("--mtp was loss 0.1 --mtp-detach and is"), "{message}");
    }
    cotangent(&dir, &part("6", &["--resume"]));
    assert_eq!(tensors(&dir, "whole"), tensors(&dir, "part"));
}

#[test]
fn what_cannot_be_learned_is_refused_in_a_sentence() {
    let dir = workplace();
    for (options, expected) in [
        (&["--mtp", "some"][..], "`--mtp some`: expected `off`, `loss`, `loss WEIGHT` or `only`"),
        (&["--mtp", "loss", "0"], "`--mtp loss 0`: expected"),
        (&["--mtp-detach"], "`--mtp-detach` is about the gradient of `--mtp loss`"),
        (&["--mtp", "only", "--target", "mlp"], "`--target mlp`: `--mtp only` trains its head alone"),
        (&["--mtp", "loss", "--mtp-detach", "--target", "mlp"], "`--mtp-detach`: nothing of the head is adapted"),
    ] {
        let message = refused(&dir, options);
        assert!(message.contains(&format!("error: {expected}")), "{options:?}: {message}");
    }
    let without = workplace_with("fixtures/qwen3-vl");
    fs::copy(dir.path().join("train.jsonl"), without.path().join("train.jsonl")).unwrap();
    let message = refused(&without, &["--mtp", "loss"]);
    assert!(message.contains("`model`: has no head of multi-token prediction"), "{message}");
}
