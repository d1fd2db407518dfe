//! The program on a base whose matrices are codes of 8 bits: it trains, is measured and answers.

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cotangent::{CodeFormat, CodeMode, Dtype, Stored, Tensor};
use cotangent_models::checkpoint::{HostTensor, SafetensorsFile, write_safetensors};
use serde_json::{Value, json};

use program::{TRAIN, cotangent, demo, workplace};

/// Writes the demo's checkpoint to `dir` with every matrix in codes of 8 bits, as mlx-lm packs them.
fn write_quantized(dir: &Path) {
    fs::create_dir(dir).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        fs::copy(demo("checkpoint").join(file), dir.join(file)).unwrap();
    }
    let config = fs::read_to_string(demo("checkpoint/config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["quantization"] = json!({"group_size": 64, "bits": 8, "mode": "affine"});
    config["text_config"]["max_position_embeddings"] = json!(2048);
    fs::write(dir.join("config.json"), config.to_string()).unwrap();

    let stored = SafetensorsFile::open(&demo("checkpoint/model.safetensors")).unwrap();
    let format = CodeFormat::new(CodeMode::Affine, Some(64), Some(8)).unwrap();
    let mut tensors = BTreeMap::new();
    for name in stored.names() {
        let tensor = stored.read(name).unwrap();
        let (Some(module), [rows, columns]) = (name.strip_suffix(".weight"), &tensor.shape[..]) else {
            tensors.insert(name.to_owned(), tensor);
            continue;
        };
        let matrix = Tensor::from_slice(&tensor.to_f32().unwrap(), &[*rows as i32, *columns as i32]).unwrap();
        for (part, values) in ["weight", "scales", "biases"].into_iter().zip(matrix.quantize(format).unwrap()) {
            tensors.insert(format!("{module}.{part}"), on_host(&values));
        }
    }
    write_safetensors(&dir.join("model.safetensors"), &tensors, &BTreeMap::new()).unwrap();
}

fn on_host(tensor: &Tensor<Stored>) -> HostTensor {
    let dtype = match tensor.dtype() {
        Dtype::U32 => cotangent_models::checkpoint::Dtype::U32,
        _ => cotangent_models::checkpoint::Dtype::F32,
    };
    let shape = tensor.shape().iter().map(|extent| *extent as usize).collect();
    HostTensor { dtype, shape, bytes: tensor.to_bytes().unwrap() }
}

#[test]
fn a_base_of_8_bits_trains_is_measured_and_answers() {
    let workplace = workplace();
    let dir = workplace.path();
    write_quantized(&dir.join("q8"));
    let run = |arguments: &str| {
        let output = cotangent(dir, arguments).output().unwrap();
        let text = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
        assert!(output.status.success(), "{arguments}\n{text}");
        text
    };
    let test_loss = |more: &str| {
        let text = run(&format!("evaluate --model q8 --data data/train.jsonl {more}"));
        let loss = text.split("Test loss ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or_default();
        loss.parse::<f64>().unwrap_or_else(|_| panic!("no loss in {text}"))
    };
    // Rank, batch and length are those that people use on such a base; the run is made in one part and in two.
    let train = "train --model q8 --data data --rank 16 --batch-size 2 --grad-accumulation-steps 4 --max-seq-length 2048 \
                 --learning-rate 5e-3";
    run(&format!("{train} --output whole --iters 4"));
    run(&format!("{train} --output parts --iters 3"));
    run(&format!("{train} --output parts --iters 4 --resume"));
    let adapters = |folder: &str| fs::read(dir.join(folder).join("adapters.safetensors")).unwrap();
    assert!(adapters("whole") == adapters("parts"), "the run that went on has another adapter");
    let (before, after) = (test_loss(""), test_loss("--adapter-path whole"));
    assert!(after < before - 0.1, "{before} {after}");

    // The adapter of a dense base of this size has the same names and shapes.
    let adapter = SafetensorsFile::open(&dir.join("whole/adapters.safetensors")).unwrap();
    let down = adapter.get("language_model.model.layers.0.mlp.down_proj.lora_a").unwrap();
    assert_eq!(down.shape, [384, 16]);

    let answer = run("generate --model q8 --adapter-path whole --prompt One? --max-tokens 4");
    assert!(!answer.trim().is_empty(), "{answer}");
    run("audit q8 --batch-size 1");
}

/// Scales that a quantizer folds into norms are not marked anywhere: the adapter knows its own.
#[test]
fn an_adapter_on_a_base_with_other_norms_is_doubted() {
    let workplace = workplace();
    let dir = workplace.path();
    let run = |arguments: &str| {
        let output = cotangent(dir, arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments}\n{text}");
        text
    };
    run("train --model CHECKPOINT --data data --output out --iters 1 --batch-size 2 --num-layers 1 --rank 2");
    // A conversion adds 1 to the norms, and rounds them.
    run("convert --model CHECKPOINT --output converted");
    let doubted = |model: &str| {
        let text = run(&format!("audit {model} --adapter-path out --tokens 4 --batch-size 1"));
        text.contains("the adapter was trained on a model with other norms: where a quantizer folds scales")
    };
    assert!(!doubted("CHECKPOINT") && !doubted("converted"));

    fs::create_dir(dir.join("folded")).unwrap();
    fs::copy(demo("checkpoint/config.json"), dir.join("folded/config.json")).unwrap();
    let stored = SafetensorsFile::open(&demo("checkpoint/model.safetensors")).unwrap();
    let mut tensors: BTreeMap<String, HostTensor> =
        stored.names().map(|name| (name.to_owned(), stored.read(name).unwrap())).collect();
    let (_, norm) = tensors.iter_mut().find(|(name, _)| name.ends_with("layers.0.input_layernorm.weight")).unwrap();
    let values: Vec<f32> = norm.to_f32().unwrap().iter().map(|value| value * 1.5 + 0.5).collect();
    *norm = HostTensor::from_f32(&norm.shape.clone(), &values).cast(norm.dtype).unwrap();
    write_safetensors(&dir.join("folded/model.safetensors"), &tensors, &BTreeMap::new()).unwrap();
    assert!(doubted("folded"));
}

#[test]
fn codes_of_another_width_are_one_sentence_and_leave_nothing() {
    let workplace = workplace();
    let dir = workplace.path();
    write_quantized(&dir.join("q8"));
    let config = fs::read_to_string(dir.join("q8/config.json")).unwrap();
    fs::write(dir.join("q8/config.json"), config.replace("\"bits\":8", "\"bits\":4")).unwrap();
    let output = cotangent(dir, &TRAIN.replace("CHECKPOINT", "q8")).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("as `config.json` says codes of 4 bits in groups of 64 (affine)"), "{error}");
    assert!(!dir.join("out").exists());
}
