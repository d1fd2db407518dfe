//! The program as people meet it: what it answers to mistakes, what a whole run writes.

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use cotangent_models::checkpoint::{HostTensor, SafetensorsFile, write_safetensors};
use cotangent_trainer::adapter::Adapter;

use program::{TRAIN, cotangent, demo, workplace};

/// Exit code, standard output, standard error.
fn run(dir: &Path, arguments: &str) -> (Option<i32>, String, String) {
    let output = cotangent(dir, arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn mistakes_are_told_in_a_sentence_and_leave_nothing_behind() {
    let workplace = workplace();
    let dir = workplace.path();
    let before = files(dir);
    let train = |more: &str| format!("{TRAIN} {more}");
    let generate = |more: &str| format!("generate --model CHECKPOINT {more}");
    for (arguments, code, expected) in [
        // The command line.
        ("".into(), 2, "Usage: cotangent"),
        ("fly".into(), 2, "unrecognized subcommand 'fly'"),
        ("train --data data".into(), 2, "--model <DIR>"),
        (train("--batchsize 3"), 2, "unexpected argument '--batchsize'"),
        (train("--batch-size 0"), 2, "expected a whole number of at least 1"),
        (train("--learning-rate -1e-5"), 2, "unexpected argument '-1'"),
        (train("--iters 99999999999999999999"), 2, "expected a whole number of at most 1000000000"),
        (train("--warmup 1000000001"), 2, "expected a whole number of at most 1000000000"),
        (train("--rank 1000000000"), 2, "1000000000 is not in 1..=4096"),
        (train("--scale 1e30"), 2, "expected a number above 0, at most 1e9"),
        (train("--epochs 1e9 --batch-size 1"), 1, "iterations are more than any run has"),
        (train("--max-seq-length 1000000000000"), 2, "expected a whole number of at most 1000000000"),
        ("audit CHECKPOINT --batch-size 1000000000".into(), 1, "are more than a pass can take"),
        ("show --model CHECKPOINT --data empty".into(), 1, "error: `empty/train.jsonl`: No such file"),
        (train("--learning-rate nan"), 2, "expected a number above 0"),
        (train("--iters 3 --epochs 1"), 2, "cannot be used with"),
        (train("--scale 2 --alpha 16"), 2, "cannot be used with"),
        (train("--schedule stairs"), 2, "[possible values: constant, linear, cosine]"),
        (train("--keep-gib much"), 2, "expected a number of at least 0"),
        (train("--keep-gib 0.5 --keep-last-layers 2"), 2, "cannot be used with"),
        (train("--num-layers 0"), 2, "expected a whole number of at least 1, or -1 for all"),
        (generate(""), 2, "--prompt <TEXT>"),
        (generate("--prompt a --messages asked.json"), 2, "cannot be used with"),
        (generate("--prompt a --top-p 1.5"), 2, "expected a number from 0 to 1"),
        // Values that contradict the model, the data or each other.
        (train("--iters 5 --warmup 5"), 1, "error: `--warmup 5` leaves none of the 5 iterations"),
        (train("--min-learning-rate 1"), 1, "error: `--min-learning-rate 1` is above `--learning-rate 0.00001`"),
        (train("--keep all --keep-gib 0.5"), 1, "error: `--keep all` keeps everything; leave out"),
        (train("--num-layers 40"), 1, "error: `--num-layers 40`: the model has 4 layers"),
        (train("--target wings"), 1, "error: the adapter target `wings` matches no linear layer; use a role"),
        (train("--chat-template-args [1]"), 2, "expected a JSON object"),
        (train("--chat-template-args {\"tools\":1}"), 1, "the argument `tools` is set by the program itself"),
        (train("--max-line-bytes 20"), 1, "`data/train.jsonl`: 4 bad lines\nline 1: a line of "),
        (train("--strict-template --max-seq-length 20"), 1, "the cut loses "),
        (train("--batch-size 9"), 1, "error: found 4 conversations to train on, expected at least the 9 of one batch"),
        (train("--max-seq-length 1025"), 1, "error: `--max-seq-length 1025`: the model was made for 1024 tokens"),
        (train("--max-seq-length 3"), 1, "has anything of the assistant within the first 3 tokens"),
        (train("--resume-adapter-file rank4.safetensors"), 1, "its scale is not known, because there is no"),
        (
            train("--resume-adapter-file rank4.safetensors --rank 8 --scale 2"),
            1,
            "error: `--rank 8`: the adapter in `rank4.safetensors` has rank 4\nhelp: leave out `--rank`",
        ),
        (
            train("--resume-adapter-file adapter --scale 20"),
            1,
            "error: the scale 20 is asked for, but the adapter in `adapter/adapters.safetensors` was trained with 2\n",
        ),
        (
            train("--resume-adapter-file rank4.safetensors --scale 2 --target q_proj"),
            1,
            "is on a layer that is not adapted",
        ),
        // Files.
        ("train --model none --data data".into(), 1, "error: `none/config.json`: cannot be read: No such file"),
        ("train --model CHECKPOINT --data empty".into(), 1, "error: `empty/train.jsonl`: No such file"),
        (
            "train --model CHECKPOINT --data bad".into(),
            1,
            "error: `bad/train.jsonl`, line 2: `messages[0].role`: found",
        ),
        (
            "train --model CHECKPOINT --data data --output file".into(),
            1,
            "error: `file`: found a file, expected a folder",
        ),
        (train("--output file/below"), 2, "cannot be used multiple times"),
        (train("--log-json file/log"), 1, "error: `file`: found a file, expected a folder"),
        (
            "train --model none --data data --output used".into(),
            1,
            "error: `used`: holds an earlier run (`adapters.safetensors`)",
        ),
        (train("--resume --overwrite"), 2, "cannot be used with"),
        (
            "export --model CHECKPOINT --adapter-path empty --output new".into(),
            1,
            "error: `empty/adapter_config.json`: ",
        ),
        ("export --model CHECKPOINT --adapter-path adapter --output data".into(), 1, "error: `data`: is not empty"),
        ("export --model moe --adapter-path adapter --output new".into(), 1, "error: `moe/config.json`: "),
        // Options of other programs.
        (
            train("--mask-prompt --lora_r 8"),
            2,
            "`--mask-prompt`: always so here: the loss counts what the assistant says",
        ),
        (train("--mask-prompt --lora_r 8"), 2, "`--lora-r` is here: --rank N"),
        (train("--resume"), 1, "error: `out/training_state.safetensors`: found no file, expected the state"),
        (train("--resume-adapter-file absent"), 1, "error: `absent`: No such file"),
        (generate("--prompt a --adapter-path empty"), 1, "error: `empty/adapter_config.json`: No such file"),
        (
            "evaluate --model CHECKPOINT --data data".into(),
            1,
            "error: `data`: found a folder, expected a file with one JSON object on each line\nhelp: give a file in it, \
             such as `data/valid.jsonl`",
        ),
        (generate("--prompt -"), 1, "error: standard input: found nothing, expected a prompt"),
        (generate("--messages absent.json"), 1, "error: `absent.json`: No such file"),
        (
            generate("--messages broken.json"),
            1,
            "error: `broken.json`: not valid JSON, expected one object with `messages`",
        ),
        (generate("--messages answered.json"), 1, "error: `answered.json`: the last message is the assistant's"),
        ("demo".into(), 1, "error: `demo/checkpoint` is not there\nhelp: run this from the top"),
    ] {
        let (found, _, stderr) = run(dir, &arguments);
        assert!(stderr.contains(expected), "`{arguments}`: expected `{expected}` in\n{stderr}");
        assert_eq!(found, Some(code), "`{arguments}`\n{stderr}");
        assert!(!stderr.contains("panicked"), "`{arguments}`\n{stderr}");
        assert_eq!(files(dir), before, "`{arguments}` left something behind");
    }
}

#[test]
fn a_backend_that_is_not_there_is_named() {
    let workplace = workplace();
    let mut command = cotangent(workplace.path(), TRAIN);
    let output = command.env("COTANGENT_BACKEND", "abacus").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.starts_with("error: COTANGENT_BACKEND is `abacus`, expected `metal`, `cuda`, `cpu`"), "{stderr}");
}

#[test]
fn a_run_writes_an_adapter_that_answers_and_that_can_be_gone_on_with() {
    let workplace = workplace();
    let dir = workplace.path();
    let options = "--batch-size 2 --iters 4 --steps-per-report 2 --save-every 2 --learning-rate 5e-3 --rank 4 --alpha 8 \
                   --target mlp,q_proj --log-json log.jsonl --loss-curve curve.svg";
    let (code, stdout, stderr) = run(dir, &format!("{TRAIN} {options}"));
    assert_eq!(code, Some(0), "{stderr}");
    for expected in [
        "Trainable parameters: ",
        "Starting training on cpu..., iters: 4, conversations: 4, ",
        "Iter 1: Val loss ",
        "Iter 2: Train loss ",
        ", Learning Rate 5.000e-03, It/sec ",
        "Iter 2: Saved adapter weights to out/adapters.safetensors and out/0000002_adapters.safetensors.",
        "Iter 4: Val loss ",
    ] {
        assert!(stdout.contains(expected), "expected `{expected}` in\n{stdout}");
    }
    let adapter = Adapter::load(&dir.join("out")).unwrap();
    assert_eq!((adapter.config.rank, adapter.config.scale), (4, 2.0));
    let keys = adapter.config.keys.unwrap();
    assert!(keys.contains(&"language_model.model.layers.3.self_attn.q_proj".to_owned()), "{keys:?}");
    assert_eq!(keys.len(), 13, "{keys:?}");
    assert!(fs::read_to_string(dir.join("curve.svg")).unwrap().contains("</svg>"));
    let log = fs::read_to_string(dir.join("log.jsonl")).unwrap();
    let log: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let iterations: Vec<_> =
        log.iter().map(|line| (line["iteration"].as_u64().unwrap(), line.get("val_loss").is_some())).collect();
    assert_eq!(iterations, [(1, true), (2, false), (4, false), (4, true)]);

    // A constant rate does not depend on the end, so the run may be prolonged.
    let (code, stdout, stderr) =
        run(dir, &format!("{TRAIN} {options} --resume --iters 6").replacen("--iters 4 ", "", 1));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("Resuming after iteration 4") && stdout.contains("Iter 6: Train loss"), "{stdout}");

    let test = |more: &str| {
        let (code, stdout, stderr) = run(dir, &format!("evaluate --model CHECKPOINT --data data/train.jsonl {more}"));
        assert_eq!(code, Some(0), "{stderr}");
        let loss = stdout.strip_prefix("Test loss ").and_then(|rest| rest.split(',').next()).unwrap().to_owned();
        loss.parse::<f64>().unwrap()
    };
    let (before, after) = (test(""), test("--adapter-path out"));
    assert!(after < 0.8 * before, "loss {before} before, {after} after");

    let (code, stdout, _) = run(dir, &format!("{TRAIN} {options} --resume"));
    assert_eq!(code, Some(0));
    assert!(stdout.starts_with("Nothing to do: the run in `out` has all its 6 iterations"), "{stdout}");
    let log = fs::read_to_string(dir.join("log.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 6, "{log}");

    let ask = |more: &str| {
        let (code, stdout, stderr) = run(dir, &format!("generate --model CHECKPOINT --messages asked.json {more}"));
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stderr.contains("Prompt: ") && stderr.contains("Generation: "), "{stderr}");
        stdout
    };
    assert_eq!(ask(""), "The capital of Denmark is Copenhagen.\n");
    assert_ne!(ask("--adapter-path out"), "");
    assert_eq!(ask("--max-tokens 1").trim(), "The");
}

#[test]
fn a_model_whose_loss_is_no_number_is_refused_with_the_parameter_at_fault() {
    let workplace = workplace();
    let (dir, base) = (workplace.path(), demo("checkpoint"));
    fs::create_dir(dir.join("broken")).unwrap();
    for file in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(base.join(file), dir.join("broken").join(file)).unwrap();
    }
    let file = SafetensorsFile::open(&base.join("model.safetensors")).unwrap();
    let mut tensors: BTreeMap<String, HostTensor> =
        file.names().map(|name| (name.to_owned(), file.read(name).unwrap())).collect();
    let weight = tensors.get_mut("model.layers.1.mlp.up_proj.weight").unwrap();
    let infinite = 0x7f80_u16.to_le_bytes();
    weight.bytes[..2].copy_from_slice(&infinite);
    write_safetensors(&dir.join("broken/model.safetensors"), &tensors, &BTreeMap::new()).unwrap();
    for arguments in
        ["train --model broken --data data --output out", "evaluate --model broken --data data/train.jsonl"]
    {
        let (code, _, stderr) = run(dir, arguments);
        assert_eq!(code, Some(1), "`{arguments}`\n{stderr}");
        assert!(
            stderr.contains("its parameter `layers.1.mlp.up_proj.weight` holds numbers that are not finite"),
            "{stderr}"
        );
    }
    assert!(!dir.join("out").exists());
}

#[test]
fn a_full_disk_is_an_error_that_leaves_the_earlier_files_whole() {
    let workplace = workplace();
    let dir = workplace.path();
    let (code, _, stderr) = run(dir, &format!("{TRAIN} --iters 1 --rank 2"));
    assert_eq!(code, Some(0), "{stderr}");
    let before = fs::read(dir.join("out/adapters.safetensors")).unwrap();

    // With a limit on the size of files, writes fail as on a full disk.
    let program = cotangent(dir, &format!("{TRAIN} --iters 1 --rank 2 --seed 1 --overwrite"));
    let mut limited = Command::new("sh");
    limited.arg("-c").arg("trap '' XFSZ; ulimit -f 8; exec \"$@\"").arg("sh").arg(program.get_program());
    limited.args(program.get_args()).current_dir(dir).env("OPENBLAS_NUM_THREADS", "1");
    let output = limited.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("error: `out/0000001_adapters.safetensors`: File too large"), "{stderr}");
    assert_eq!(fs::read(dir.join("out/adapters.safetensors")).unwrap(), before);
    assert!(!files(dir).iter().any(|file| file.contains(".writing-")), "{:?}", files(dir));
}

/// All paths under `dir`.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        found.push(path.display().to_string());
        if path.is_dir() {
            found.extend(files(&path));
        }
    }
    found.sort();
    found
}
