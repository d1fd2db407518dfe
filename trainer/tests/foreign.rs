//! Files that other programs wrote with their own save functions (`tests/foreign`, made by `make.py`) mean the same here as
//! there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cotangent::{Dtype, Indices, Infer, Session, Stored};
use cotangent_models::checkpoint::{HostTensor, SafetensorsFile};
use cotangent_models::config::TextConfig;
use cotangent_models::qwen35::{Cache, Model, Step};
use cotangent_models::rope::{Positions, Rotary};
use cotangent_trainer::adapter::{Adapter, AdapterFile, export_to_peft};
use cotangent_trainer::base_model::attach;
use serde_json::Value;

/// The share of the largest score by which two may differ: both sides compute in float32, in different orders.
const TOLERANCE: f32 = 1e-5;

fn top(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn foreign(path: &str) -> PathBuf {
    top("tests/foreign").join(path)
}

fn manifest() -> Value {
    serde_json::from_str(&fs::read_to_string(foreign("manifest.json")).unwrap()).unwrap()
}

fn base_folder(name: &str) -> PathBuf {
    match name {
        "demo" => top("demo/checkpoint"),
        "vlm" | "moe" => top("tests/reference/fixtures").join(name),
        other => panic!("no base `{other}`"),
    }
}

fn base(name: &str) -> (Model<Stored>, TextConfig) {
    let (model, config, _) = Model::load(&base_folder(name), Dtype::F32).unwrap();
    (model, config)
}

/// Scores of the token after `tokens`.
fn scores(model: &Model<Stored>, config: &TextConfig, tokens: &[i32]) -> Vec<f32> {
    let mut session = Session::new().unwrap();
    let step = Step {
        tokens: Indices::from_slice(tokens, &[1, tokens.len() as i32]).unwrap(),
        rotary: Rotary::new(&config.rope, &Positions::text(1, 0, tokens.len())).unwrap(),
        pictures: None,
    };
    let cache = Cache::empty(config, 1, Dtype::F32).unwrap();
    let (scores, _) = session.infer(model, &cache, &step, Model::<Infer>::decode).unwrap();
    scores.to_vec().unwrap()
}

fn expected_scores(name: &str) -> Vec<f32> {
    let file = SafetensorsFile::open(&foreign(name).join("logits.safetensors")).unwrap();
    file.read("logits").unwrap().to_f32().unwrap()
}

fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values.map(f32::abs).fold(0.0, f32::max)
}

/// The largest difference, as a share of the largest score.
fn largest_difference(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    largest(left.iter().zip(right).map(|(left, right)| left - right)) / largest(right.iter().copied())
}

fn tokens() -> Vec<i32> {
    serde_json::from_value(manifest()["tokens"].clone()).unwrap()
}

#[test]
fn every_folder_is_in_the_manifest_and_together_they_are_small() {
    let named: BTreeSet<String> = manifest()["files"].as_object().unwrap().keys().cloned().collect();
    let (mut there, mut bytes) = (BTreeSet::new(), 0);
    for entry in fs::read_dir(foreign("")).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir()) {
        there.insert(entry.file_name().into_string().unwrap());
        bytes += fs::read_dir(entry.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>();
    }
    assert_eq!(there, named);
    assert!(bytes < 2_000_000, "{bytes} bytes");
}

#[test]
fn adapters_of_other_programs_compute_what_they_compute_there() {
    for (name, rank, scale) in [
        ("mlx-lm", 2, 3.0),
        ("mlx-vlm", 2, 3.0),
        ("unsloth", 2, 3.0),
        ("peft", 2, 3.0),
        ("peft-rslora", 2, 6.0 / 2.0_f64.sqrt()),
        ("peft-vision", 2, 3.0),
        ("peft-experts", 2, 3.0),
    ] {
        let (mut model, config) = base(manifest()["files"][name]["base"].as_str().unwrap());
        let before = scores(&model, &config, &tokens());
        attach(&mut model, &config, &Adapter::load(&foreign(name)).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let (found, expected) = (scores(&model, &config, &tokens()), expected_scores(name));
        let difference = largest_difference(&found, &expected);
        assert!(difference < TOLERANCE, "{name}: the scores differ by {difference}");
        let effect = largest_difference(&before, &expected);
        assert!(effect > 100.0 * TOLERANCE, "{name}: an adapter of effect {effect} proves nothing");

        let file = AdapterFile::load(&foreign(name)).unwrap();
        assert_eq!((file.rank, file.config.unwrap().scale), (rank, scale), "{name}");
    }
}

/// What PEFT wrote is written again as PEFT wrote it.
#[test]
fn adapters_of_peft_are_exported_as_they_came() {
    for name in ["peft", "peft-rslora", "peft-vision", "peft-experts"] {
        let dir = tempfile::tempdir().unwrap();
        let (folder, written) =
            (base_folder(manifest()["files"][name]["base"].as_str().unwrap()), dir.path().join("peft"));
        let adapter = Adapter::load(&foreign(name)).unwrap();
        let config = TextConfig::load_with_vision(&folder).unwrap();
        export_to_peft(adapter.clone(), &folder, &config, &written).unwrap();
        let tensors = |dir: &Path| {
            let file = SafetensorsFile::open(&dir.join("adapter_model.safetensors")).unwrap();
            let read = |name: &str| (name.to_owned(), file.read(name).unwrap());
            file.names().map(read).collect::<BTreeMap<String, HostTensor>>()
        };
        let (found, expected) = (tensors(&written), tensors(&foreign(name)));
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}");
        assert!(found == expected, "{name}");
        let again = Adapter::load(&written).unwrap();
        assert!((again.config.scale - adapter.config.scale).abs() < 1e-12, "{name}");
        assert!(again.tensors == adapter.tensors, "{name}");
    }
}

#[test]
fn a_checkpoint_of_mlx_lm_computes_what_it_computes_there() {
    let (model, config, findings) = Model::load(&foreign("mlx-lm-model"), Dtype::F32).unwrap();
    let difference = largest_difference(&scores(&model, &config, &tokens()), &expected_scores("mlx-lm-model"));
    assert!(difference < TOLERANCE, "the scores differ by {difference}");
    assert!(!findings.own_head);
}

#[test]
fn files_of_mlx_itself_are_read_with_and_without_metadata() {
    let read = |name: &str| {
        let file = SafetensorsFile::open(&foreign("mlx").join(name)).unwrap();
        let tensors: BTreeMap<String, HostTensor> =
            file.names().map(|name| (name.to_owned(), file.read(name).unwrap())).collect();
        (file.metadata().clone(), tensors)
    };
    let (none, tensors) = read("without-metadata.safetensors");
    assert!(none.is_empty());
    assert_eq!(tensors["a"].to_f32().unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!((tensors["b"].to_f32().unwrap(), tensors["b"].shape.clone()), (vec![1.5, -2.0], vec![2]));
    let (some, same) = read("with-metadata.safetensors");
    assert_eq!(some.get("format").map(String::as_str), Some("mlx"));
    assert_eq!(same, tensors);
}

/// transformers does this if both are stored and differ.
#[test]
fn a_stored_head_is_used_although_the_configuration_ties_it() {
    let fixture = top("tests/reference/fixtures/dense-untied");
    let (untied, config, findings) = Model::load(&fixture, Dtype::F32).unwrap();
    assert!(!findings.own_head);
    let dir = tempfile::tempdir().unwrap();
    fs::copy(fixture.join("model.safetensors"), dir.path().join("model.safetensors")).unwrap();
    let text = fs::read_to_string(fixture.join("config.json")).unwrap();
    let tied = text.replace("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
    assert_ne!(tied, text);
    fs::write(dir.path().join("config.json"), tied).unwrap();
    let (model, config_of_it, findings) = Model::load(dir.path(), Dtype::F32).unwrap();
    assert!(findings.own_head && !config_of_it.tie_word_embeddings);
    assert_eq!(scores(&model, &config_of_it, &tokens()), scores(&untied, &config, &tokens()));
}
