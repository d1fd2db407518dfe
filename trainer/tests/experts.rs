//! The program on a mixture of experts: it trains, goes on, is measured and answers.

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cotangent_models::checkpoint::{HostTensor, SafetensorsFile, write_safetensors};
use serde_json::{Value, json};

use program::{TRAIN, cotangent, demo, workplace};

const EXPERTS: usize = 4;
const INNER: usize = 32;
const HIDDEN: usize = 128;

/// Numbers that follow no rule a model could use.
fn drawn(shape: &[usize], seed: usize) -> HostTensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|index| ((index * 7 + seed * 31 + 3) as f32 * 12.9898).sin() * 0.1).collect();
    HostTensor::from_f32(shape, &values)
}

/// Writes the demo's checkpoint to `dir` with experts in the place of its feed-forward layers, as Hugging Face stores them.
fn write_experts(dir: &Path) {
    fs::create_dir(dir).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        fs::copy(demo("checkpoint").join(file), dir.join(file)).unwrap();
    }
    let mut config: Value = serde_json::from_str(&fs::read_to_string(demo("checkpoint/config.json")).unwrap()).unwrap();
    config["model_type"] = json!("qwen3_5_moe");
    let text = config["text_config"].as_object_mut().unwrap();
    text.remove("intermediate_size");
    text.extend([
        ("model_type".to_owned(), json!("qwen3_5_moe_text")),
        ("num_experts".to_owned(), json!(EXPERTS)),
        ("num_experts_per_tok".to_owned(), json!(2)),
        ("moe_intermediate_size".to_owned(), json!(INNER)),
        ("shared_expert_intermediate_size".to_owned(), json!(INNER)),
    ]);
    fs::write(dir.join("config.json"), config.to_string()).unwrap();

    let stored = SafetensorsFile::open(&demo("checkpoint/model.safetensors")).unwrap();
    let mut tensors: BTreeMap<String, HostTensor> = stored
        .names()
        .filter(|name| !name.contains(".mlp."))
        .map(|name| (name.to_owned(), stored.read(name).unwrap()))
        .collect();
    let prefixes: Vec<String> = stored
        .names()
        .filter_map(|name| name.strip_suffix(".mlp.up_proj.weight").map(|layer| format!("{layer}.mlp.")))
        .collect();
    for (layer, prefix) in prefixes.iter().enumerate() {
        for (name, shape) in [
            ("gate.weight", vec![EXPERTS, HIDDEN]),
            ("experts.gate_up_proj", vec![EXPERTS, 2 * INNER, HIDDEN]),
            ("experts.down_proj", vec![EXPERTS, HIDDEN, INNER]),
            ("shared_expert.gate_proj.weight", vec![INNER, HIDDEN]),
            ("shared_expert.up_proj.weight", vec![INNER, HIDDEN]),
            ("shared_expert.down_proj.weight", vec![HIDDEN, INNER]),
            ("shared_expert_gate.weight", vec![1, HIDDEN]),
        ] {
            tensors.insert(format!("{prefix}{name}"), drawn(&shape, layer + name.len()));
        }
    }
    write_safetensors(&dir.join("model.safetensors"), &tensors, &BTreeMap::new()).unwrap();
}

/// Runs the program, which must succeed, and returns what it prints.
fn run(dir: &Path, arguments: &str) -> String {
    let output = cotangent(dir, arguments).output().unwrap();
    let text = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    assert!(output.status.success(), "{arguments}\n{text}");
    text
}

fn test_loss(dir: &Path, more: &str) -> f64 {
    let text = run(dir, &format!("evaluate --model moe --data data/train.jsonl {more}"));
    let loss = text.split("Test loss ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or_default();
    loss.parse().unwrap_or_else(|_| panic!("no loss in {text}"))
}

const FROZEN: &str = "The experts that the router chooses from stay as they are";

#[test]
fn experts_train_go_on_are_measured_and_answer() {
    let workplace = workplace();
    let dir = workplace.path();
    write_experts(&dir.join("moe"));
    let train = "train --model moe --data data --batch-size 2 --max-seq-length 64 --learning-rate 5e-3 --rank 4 \
                 --steps-per-eval 100";
    let all = "--target attention,linear_attention,mlp,experts,router --router-aux-loss 0.01 --steps-per-report 1";
    let printed = run(dir, &format!("{train} {all} --iters 4 --output whole --log-json log.jsonl"));
    assert!(!printed.contains(FROZEN) && printed.contains(", Router loss 2."), "{printed}");
    let log = fs::read_to_string(dir.join("log.jsonl")).unwrap();
    let line: Value =
        serde_json::from_str(log.lines().rfind(|line| line.contains("train_router_loss")).unwrap()).unwrap();
    let number = |key: &str| line[key].as_f64().unwrap_or_else(|| panic!("{key} in {line}"));
    let (busiest, idlest) = (number("busiest_expert"), number("idlest_expert"));
    assert!(busiest >= 0.5 && idlest <= 0.5 && busiest <= 1.0 && idlest >= 0.0, "{line}");
    let (before, after) = (test_loss(dir, ""), test_loss(dir, "--adapter-path whole"));
    assert!(after < before - 0.1, "{before} {after}");

    // The same run is made in two parts.
    run(dir, &format!("{train} {all} --iters 2 --output parts"));
    run(dir, &format!("{train} {all} --iters 4 --output parts --resume"));
    let adapters = |folder: &str| fs::read(dir.join(folder).join("adapters.safetensors")).unwrap();
    assert_eq!(adapters("whole"), adapters("parts"));
    let stored = SafetensorsFile::open(&dir.join("whole/adapters.safetensors")).unwrap();
    let shape = |name: &str| stored.get(&format!("language_model.model.layers.0.mlp.{name}")).unwrap().shape.to_vec();
    assert_eq!(shape("switch_mlp.up_proj.lora_a"), [EXPERTS, 4, HIDDEN]);
    assert_eq!(shape("switch_mlp.down_proj.lora_b"), [EXPERTS, HIDDEN, 4]);
    assert_eq!(shape("gate.lora_b"), [4, EXPERTS]);

    // PEFT's form holds gate and up together, at twice the rank, and the router as a parameter.
    let printed = run(dir, "export --model moe --adapter-path whole --output peft");
    assert!(printed.contains("Wrote `peft` for PEFT: adapters of 35 linear layers and 12 parameters of"), "{printed}");
    let config: Value =
        serde_json::from_str(&fs::read_to_string(dir.join("peft/adapter_config.json")).unwrap()).unwrap();
    assert_eq!((&config["r"], &config["lora_alpha"]), (&json!(4), &json!(80.0)));
    assert_eq!(config["rank_pattern"], json!({"gate_up_proj": 8}));
    assert_eq!(config["alpha_pattern"], json!({"gate_up_proj": 160.0}));
    assert_eq!(config["target_parameters"][0], "layers.0.mlp.gate.weight");
    assert_eq!(test_loss(dir, "--adapter-path peft"), after);

    let answer = run(dir, "generate --model moe --adapter-path whole --prompt One? --max-tokens 4");
    assert!(!answer.trim().is_empty(), "{answer}");
    run(dir, "audit moe --batch-size 1");
}

#[test]
fn the_loss_of_routers_is_refused_where_there_are_none() {
    let workplace = workplace();
    let output = cotangent(workplace.path(), &format!("{TRAIN} --router-aux-loss 0.01")).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("`--router-aux-loss 0.01`: the model has no experts"), "{error}");
}

#[test]
fn experts_have_adapters_by_name_alone() {
    let workplace = workplace();
    let dir = workplace.path();
    write_experts(&dir.join("moe"));
    for target in ["", "--target up_proj"] {
        let printed = run(
            dir,
            &format!(
                "train --model moe --data data --batch-size 2 --max-seq-length 32 --iters 1 --output out --overwrite {target}"
            ),
        );
        assert!(printed.contains(FROZEN), "{printed}");
        let stored = SafetensorsFile::open(&dir.join("out/adapters.safetensors")).unwrap();
        assert!(stored.names().any(|name| name.contains("shared_expert.up_proj")), "{target}");
        assert!(!stored.names().any(|name| name.contains("switch_mlp") || name.contains(".mlp.gate.")), "{target}");
    }
}
