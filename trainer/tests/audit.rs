//! `cotangent audit`: sound checkpoints pass, and whatever lost its gradient is named.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cotangent_models::checkpoint::{HostTensor, SafetensorsFile, write_safetensors};
use cotangent_trainer::adapter::write_tensors;
use tempfile::TempDir;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/fixtures/dense-untied")
}

/// Exit code, standard output, standard error.
fn audit(checkpoint: &Path, options: &[&str]) -> (Option<i32>, String, String) {
    audit_on("cpu", checkpoint, options)
}

fn audit_on(backend: &str, checkpoint: &Path, options: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cotangent"))
        .arg("audit")
        .arg(checkpoint)
        .args(options)
        .env("OPENBLAS_NUM_THREADS", "1")
        .env("COTANGENT_BACKEND", backend)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The fixture, with its tensors changed.
fn changed(change: impl FnOnce(&mut BTreeMap<String, HostTensor>)) -> TempDir {
    let file = SafetensorsFile::open(&fixture().join("model.safetensors")).unwrap();
    let mut tensors: BTreeMap<String, HostTensor> =
        file.names().map(|name| (name.to_owned(), file.read(name).unwrap())).collect();
    change(&mut tensors);
    let dir = tempfile::tempdir().unwrap();
    fs::copy(fixture().join("config.json"), dir.path().join("config.json")).unwrap();
    write_safetensors(&dir.path().join("model.safetensors"), &tensors, &BTreeMap::new()).unwrap();
    dir
}

/// The tensor of the fixture whose name ends so.
fn tensor<'a>(tensors: &'a mut BTreeMap<String, HostTensor>, end: &str) -> &'a mut HostTensor {
    let mut found = tensors.iter_mut().filter(|(name, _)| name.ends_with(end));
    let (_, tensor) = found.next().unwrap();
    assert!(found.next().is_none(), "`{end}` is the end of several names");
    tensor
}

#[test]
fn every_parameter_of_a_sound_checkpoint_trains() {
    let (code, text, errors) = audit(&fixture(), &["--all"]);
    assert_eq!(code, Some(0), "{text}{errors}");
    assert!(text.ends_with("\nAll 56 parameters train.\n"), "{text}");
    // Only the rows of the embedding whose tokens occur have a gradient; elsewhere every element has one.
    assert_eq!((text.matches("  finite  ").count(), text.matches(" % zero  ").count()), (55, 1), "{text}");
    assert!(text.contains("indices as data: a position is what a token is rotated by\n    at kernels/src/"), "{text}");
    assert!(text.contains("\n    in layers.3\n"), "{text}");
    // The first line holds the folder's name, however long that is.
    assert!(text.lines().skip(1).all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn the_kernels_own_text_gives_every_parameter_the_same_gradient() {
    let norms = |backend: &str| -> BTreeMap<String, f64> {
        let options = ["--json", "--batch-size", "1", "--tokens", "16"];
        let (code, text, errors) = audit_on(backend, &fixture(), &options);
        assert_eq!(code, Some(0), "{text}{errors}");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["backend"], backend);
        let rows = json["parameters"].as_array().unwrap().iter();
        rows.map(|row| (row["name"].as_str().unwrap().to_owned(), row["norm"].as_f64().unwrap())).collect()
    };
    let (cpu, emulated) = (norms("cpu"), norms("emulated"));
    assert_eq!(cpu.len(), 56);
    for (name, norm) in &cpu {
        let other = emulated[name];
        assert!((norm - other).abs() <= 1e-4 * norm, "`{name}`: {norm} on the cpu, {other} by the kernels' text");
    }
}

#[test]
fn adapters_train_where_both_factors_are_there() {
    let (code, text, errors) = audit(&fixture(), &["--lora", "--json"]);
    assert_eq!(code, Some(0), "{text}{errors}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let names: Vec<_> =
        json["parameters"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert!(names.iter().all(|name| name.ends_with(".lora_a") || name.ends_with(".lora_b")), "{names:?}");
    assert_eq!((names.len(), json["frozen"].as_u64()), (62, Some(56)));
}

#[test]
fn a_parameter_that_the_loss_does_not_depend_on_fails_and_is_named() {
    let lost = changed(|tensors| tensor(tensors, "layers.1.mlp.down_proj.weight").bytes.fill(0));
    let (code, text, errors) = audit(lost.path(), &[]);
    assert_eq!(code, Some(1), "{text}{errors}");
    for expected in [
        "\nlayers.1\n  post_attention_layernorm.weight  64           ZERO\n",
        "\n  mlp.gate_proj.weight             96 x 64      ZERO\n  mlp.up_proj.weight               96 x 64      ZERO\n",
        "\nFAILED: 3 of 56 parameters should train and do not\n  layers.1.post_attention_layernorm.weight  zero\n",
        "\nhelp: find out why the loss does not depend on a parameter",
    ] {
        assert!(text.contains(expected), "expected `{expected}` in\n{text}");
    }
}

#[test]
fn a_gradient_that_is_no_number_fails() {
    let broken = changed(|tensors| {
        let weight = tensor(tensors, "layers.3.self_attn.q_norm.weight");
        *weight = HostTensor::from_f32(&weight.shape, &vec![f32::NAN; weight.shape.iter().product()]);
    });
    let (code, text, errors) = audit(broken.path(), &["--json"]);
    assert_eq!(code, Some(1), "{text}{errors}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let rows = json["parameters"].as_array().unwrap();
    let row = rows.iter().find(|row| row["name"] == "layers.3.self_attn.q_norm.weight").unwrap();
    assert_eq!((&row["gradient"], &row["norm"]), (&"not finite".into(), &serde_json::Value::Null));
    assert_eq!(json["passed"], false);
}

#[test]
fn an_adapter_whose_second_factor_is_zero_has_no_gradient_in_the_first() {
    let adapter = tempfile::tempdir().unwrap();
    let factor = |shape: &[usize], value: f32| HostTensor::from_f32(shape, &vec![value; shape.iter().product()]);
    let pair = BTreeMap::from([
        ("layers.0.mlp.up_proj.lora_a".to_owned(), factor(&[64, 4], 0.01)),
        ("layers.0.mlp.up_proj.lora_b".to_owned(), factor(&[4, 96], 0.0)),
    ]);
    write_tensors(&adapter.path().join("adapters.safetensors"), &pair).unwrap();
    let config = r#"{"fine_tune_type": "lora", "num_layers": -1, "lora_parameters": {"rank": 4, "scale": 2.0, "dropout": 0.0, "keys": ["mlp.up_proj"]}}"#;
    fs::write(adapter.path().join("adapter_config.json"), config).unwrap();
    let (code, text, errors) = audit(&fixture(), &["--adapter-path", adapter.path().to_str().unwrap()]);
    assert_eq!(code, Some(1), "{text}{errors}");
    assert!(text.contains("FAILED: 1 of 2 parameters should train and do not, 56 are frozen\n"), "{text}");
    assert!(text.contains("  layers.0.mlp.up_proj.lora_a  zero\n"), "{text}");
}

#[test]
fn what_cannot_be_loaded_is_one_error_as_elsewhere() {
    let missing = changed(|tensors| tensors.retain(|name, _| !name.ends_with("layers.2.linear_attn.A_log")));
    let truncated = changed(|_| ());
    let file = truncated.path().join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 100]).unwrap();
    let absent = Path::new("no/such/folder");
    for (checkpoint, options, expected) in [
        (absent, &[][..], "no/such/folder/config.json`: cannot be read: No such file"),
        (missing.path(), &[], "layers.2.linear_attn.A_log"),
        (truncated.path(), &[], "model.safetensors`"),
        (&fixture(), &["--tokens", "1"], "`--tokens 1` leaves nothing to predict\nhelp: give at least 2"),
        (&fixture(), &["--tokens", "1000000"], "`--tokens 1000000`: the model was made for "),
        (&fixture(), &["--adapter-path", "no/adapter"], "`no/adapter/adapter_config.json`: No such file"),
    ] {
        let (code, text, errors) = audit(checkpoint, options);
        assert_eq!((code, text.as_str()), (Some(1), ""), "{errors}");
        assert!(errors.starts_with("error: ") && errors.contains(expected), "expected `{expected}` in\n{errors}");
    }
    assert_eq!(audit(&fixture(), &["--lora", "--adapter-path", "x"]).0, Some(2));
}
