//! The matrices of experts in every layout, and those that do not fit the configuration.

use std::collections::BTreeMap;

use super::*;
use crate::config::{Quantization, TextConfig};
use crate::qwen35::Model;
use cotangent::{Plan, Planned};

const EXPERTS: usize = 3;
const INNER: usize = 2;
const HIDDEN: usize = 64;

fn planned() -> Model<Planned> {
    let json = json!({
        "model_type": "qwen3_5_moe_text", "vocab_size": 6, "hidden_size": HIDDEN, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "linear_num_key_heads": 1,
        "linear_num_value_heads": 2, "linear_key_head_dim": 2, "linear_value_head_dim": 3, "linear_conv_kernel_dim": 4,
        "rope_parameters": {"rope_theta": 1e4}, "num_experts": EXPERTS, "num_experts_per_tok": 1,
        "moe_intermediate_size": INNER, "shared_expert_intermediate_size": 5
    });
    Model::planned(&TextConfig::from_json(&json, Path::new("config.json")).unwrap(), cotangent::Dtype::F32)
}

type Tensors = BTreeMap<String, HostTensor>;

/// A tensor whose numbers say where they are, from `first` on.
fn tensor(first: usize, shape: &[usize]) -> HostTensor {
    let count: usize = shape.iter().product();
    HostTensor::from_f32(shape, &(first..first + count).map(|value| value as f32).collect::<Vec<_>>())
}

/// All but the experts.
fn others() -> Tensors {
    let parameters = Plan::all(&planned()).into_iter().filter(|(name, _)| !name.contains(".mlp.experts."));
    parameters.map(|(name, plan)| (format!("model.{name}"), tensor(0, &plan.shape))).collect()
}

/// The size of one expert's matrix.
const SIZE: usize = INNER * HIDDEN;
const NAME: &str = "model.layers.0.mlp.experts";

/// The published layout: gates and the others in one tensor.
fn packed() -> Tensors {
    let gate_up = (format!("{NAME}.gate_up_proj"), tensor(0, &[EXPERTS, 2 * INNER, HIDDEN]));
    [gate_up, (format!("{NAME}.down_proj"), tensor(9000, &[EXPERTS, HIDDEN, INNER]))].into()
}

/// The same numbers with a tensor for each expert.
fn per_expert() -> Tensors {
    let of_expert = |expert: usize| {
        [
            ("gate_proj", tensor(2 * expert * SIZE, &[INNER, HIDDEN])),
            ("up_proj", tensor((2 * expert + 1) * SIZE, &[INNER, HIDDEN])),
            ("down_proj", tensor(9000 + expert * SIZE, &[HIDDEN, INNER])),
        ]
        .map(|(projection, tensor)| (format!("{NAME}.{expert}.{projection}.weight"), tensor))
    };
    (0..EXPERTS).flat_map(of_expert).collect()
}

/// The same numbers under the names of MLX.
fn switched() -> Tensors {
    let stack = |first: usize| {
        let experts = (0..EXPERTS).flat_map(|expert| tensor((2 * expert + first) * SIZE, &[SIZE]).to_f32().unwrap());
        HostTensor::from_f32(&[EXPERTS, INNER, HIDDEN], &experts.collect::<Vec<_>>())
    };
    [("gate_proj", stack(0)), ("up_proj", stack(1)), ("down_proj", tensor(9000, &[EXPERTS, HIDDEN, INNER]))]
        .map(|(projection, tensor)| (format!("model.layers.0.mlp.switch_mlp.{projection}.weight"), tensor))
        .into()
}

fn open(experts: Tensors) -> (tempfile::TempDir, Checkpoint) {
    let dir = tempfile::tempdir().unwrap();
    let tensors = others().into_iter().chain(experts).collect();
    write_safetensors(&dir.path().join("model.safetensors"), &tensors, &BTreeMap::new()).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    (dir, checkpoint)
}

#[test]
fn every_layout_gives_the_same_matrices() {
    let names = ["gate_proj", "up_proj", "down_proj"].map(|name| format!("layers.0.mlp.experts.{name}.weight"));
    let read = |experts: Tensors| {
        let (_dir, checkpoint) = open(experts);
        let plan = LoadPlan::new(&checkpoint, Plan::all(&planned())).unwrap();
        names.clone().map(|name| plan.read(&name).unwrap())
    };
    let [gates, others, _] = read(packed());
    assert_eq!(gates.shape, [EXPERTS, INNER, HIDDEN]);
    // The second expert's values begin after both halves of the first.
    assert_eq!((gates.to_f32().unwrap()[SIZE], others.to_f32().unwrap()[SIZE]), (2.0 * 128.0, 3.0 * 128.0));
    assert_eq!(read(per_expert()), read(packed()));
    assert_eq!(read(switched()), read(packed()));
}

#[test]
fn experts_that_are_not_those_of_the_configuration_are_one_sentence() {
    let say = "as `num_experts` of `config.json` says";
    let without =
        |expert: usize| per_expert().into_iter().filter(move |(name, _)| !name.contains(&format!(".{expert}.")));
    let surplus = (format!("{NAME}.3.up_proj.weight"), tensor(0, &[INNER, HIDDEN]));
    for (tensors, expected) in [
        (
            without(1).collect::<Tensors>(),
            format!(
                "tensor `layers.0.mlp.experts.down_proj.weight`: is missing for expert 1, expected 3 experts, {say}"
            ),
        ),
        (
            per_expert().into_iter().chain([surplus]).collect(),
            format!("tensor `{NAME}.3.up_proj.weight`: is of expert 3, expected 3 experts from 0 on, {say}"),
        ),
        (
            [(format!("{NAME}.gate_up_proj"), tensor(0, &[2, 2 * INNER, HIDDEN]))].into_iter().collect(),
            format!("tensor `{NAME}.gate_up_proj`: holds 2 experts, expected 3, {say}"),
        ),
        (
            [(format!("{NAME}.gate_up_proj"), tensor(0, &[EXPERTS, INNER, HIDDEN]))].into_iter().collect(),
            format!("shape: `{NAME}.gate_up_proj`, found [3, 2, 64], expected [3, 4, 64]"),
        ),
        (packed().into_iter().chain(switched()).collect(), "is the same parameter as".to_owned()),
    ] {
        let (dir, checkpoint) = open(tensors);
        let message = message(LoadPlan::new(&checkpoint, Plan::all(&planned())), dir.path());
        assert!(message.contains(&expected), "{message}\nshould say: {expected}");
        assert!(expected.starts_with("shape") || message.lines().count() <= 2, "{message}");
    }
}

#[test]
fn codes_of_experts_are_held_against_the_configuration() {
    let codes = |experts: usize, words: usize| {
        let (mut header, mut end) = (json!({}), 0);
        for (part, dtype, columns) in [("weight", "U32", words), ("scales", "F32", 1), ("biases", "F32", 1)] {
            let begin = end;
            end += experts * INNER * columns * 4;
            header[format!("language_model.model.layers.0.mlp.switch_mlp.up_proj.{part}")] =
                json!({"dtype": dtype, "shape": [experts, INNER, columns], "data_offsets": [begin, end]});
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("model.safetensors"), file_of(&header.to_string(), &vec![0; end])).unwrap();
        let config = json!({"quantization": {"group_size": 64, "bits": 8,
            "language_model.model.layers.0.mlp.switch_mlp.up_proj": {"bits": 4}}});
        let quantization = Quantization::from_json(&config, Path::new("config.json")).unwrap();
        let mut model = planned();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        match checkpoint.plan_codes(&mut model, quantization.as_ref()) {
            Ok(()) => {
                let plans = Plan::all(&model).into_iter();
                let words = plans.filter(|(name, _)| name == "layers.0.mlp.experts.up_proj.weight");
                words.map(|(_, plan)| format!("{:?}", plan.shape)).collect()
            }
            error => message(error, dir.path()),
        }
    };
    assert_eq!(codes(3, 8), "[3, 2, 8]");
    let wide = codes(3, 16);
    assert!(wide.contains("holds U32 [3, 2, 16] with scales [3, 2, 1], expected U32 [3, 2, 8]"), "{wide}");
    let short = codes(2, 8);
    assert!(short.contains("switch_mlp.up_proj.weight`: holds 2 experts, expected 3"), "{short}");
}
