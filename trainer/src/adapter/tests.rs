//! Tests of adapters that other programs wrote, and of damaged ones.

use std::fs;

use super::*;
use cotangent_models::checkpoint::{SafetensorsFile, write_safetensors};
use serde_json::{Value as Json, json};

fn factor(shape: &[usize]) -> HostTensor {
    let elements = shape.iter().product::<usize>();
    HostTensor::from_f32(shape, &(0..elements).map(|i| i as f32).collect::<Vec<_>>())
}

/// Rank 2 on two modules of a layer with width 4 and MLP width 6.
fn tensors() -> BTreeMap<String, HostTensor> {
    [
        ("layers.0.mlp.up_proj.lora_a", factor(&[4, 2])),
        ("layers.0.mlp.up_proj.lora_b", factor(&[2, 6])),
        ("layers.1.mlp.down_proj.lora_a", factor(&[6, 2])),
        ("layers.1.mlp.down_proj.lora_b", factor(&[2, 4])),
    ]
    .map(|(name, tensor)| (name.to_owned(), tensor))
    .into()
}

fn model() -> TextConfig {
    let json = json!({
        "model_type": "qwen3_5_text", "vocab_size": 6, "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
        "linear_num_key_heads": 1, "linear_num_value_heads": 2, "linear_key_head_dim": 2, "linear_value_head_dim": 3,
        "linear_conv_kernel_dim": 4, "rope_parameters": {"rope_theta": 1e4}
    });
    TextConfig::from_json(&json, Path::new("config.json")).unwrap()
}

fn write(dir: &Path, config: &Json, tensors: &BTreeMap<String, HostTensor>) {
    fs::write(dir.join(CONFIG_FILE), config.to_string()).unwrap();
    write_safetensors(&dir.join(WEIGHTS_FILE), tensors, &BTreeMap::new()).unwrap();
}

fn config() -> Json {
    json!({"num_layers": -1, "lora_parameters": {"rank": 2, "scale": 20.0, "dropout": 0.0}})
}

fn load(dir: &Path) -> String {
    match Adapter::load(dir) {
        Ok(_) => "no error".into(),
        Err(error) => error.to_string().replace(&format!("{}/", dir.display()), ""),
    }
}

#[test]
fn what_is_written_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let config = AdapterConfig::from_tensors(tensors().keys().map(String::as_str), 2, 20.0);
    config.write(&dir.path().join(CONFIG_FILE), &BTreeMap::new()).unwrap();
    write_tensors(&dir.path().join(WEIGHTS_FILE), &tensors()).unwrap();
    let adapter = Adapter::load(dir.path()).unwrap();
    assert_eq!(adapter, Adapter { file: dir.path().join(WEIGHTS_FILE), config, tensors: tensors() });
    adapter.check_fits(&model()).unwrap();
}

#[test]
fn the_files_are_those_of_mlx_lm() {
    let dir = tempfile::tempdir().unwrap();
    let config = AdapterConfig::from_tensors(tensors().keys().map(String::as_str), 2, 20.0);
    let run = [("iters".to_owned(), json!(100)), ("data".to_owned(), json!("chats"))].into();
    config.write(&dir.path().join(CONFIG_FILE), &run).unwrap();
    assert_eq!(
        fs::read_to_string(dir.path().join(CONFIG_FILE)).unwrap(),
        r#"{
    "data": "chats",
    "fine_tune_type": "lora",
    "iters": 100,
    "lora_parameters": {
        "dropout": 0.0,
        "keys": [
            "language_model.model.layers.0.mlp.up_proj",
            "language_model.model.layers.1.mlp.down_proj"
        ],
        "rank": 2,
        "scale": 20.0
    },
    "num_layers": -1
}"#
    );
    write_tensors(&dir.path().join(WEIGHTS_FILE), &tensors()).unwrap();
    let file = SafetensorsFile::open(&dir.path().join(WEIGHTS_FILE)).unwrap();
    assert_eq!(file.names().next(), Some("language_model.model.layers.0.mlp.up_proj.lora_a"));
    assert!(file.metadata().is_empty());
}

#[test]
fn adapters_of_experts_have_the_names_of_mlx_lm() {
    let tensors: BTreeMap<String, HostTensor> = [
        ("layers.0.mlp.experts.up_proj.lora_a", factor(&[3, 2, 4])),
        ("layers.0.mlp.experts.up_proj.lora_b", factor(&[3, 5, 2])),
    ]
    .map(|(name, tensor)| (name.to_owned(), tensor))
    .into();
    let dir = tempfile::tempdir().unwrap();
    let config = AdapterConfig::from_tensors(tensors.keys().map(String::as_str), 2, 20.0);
    assert_eq!(config.keys.as_deref().unwrap(), ["language_model.model.layers.0.mlp.switch_mlp.up_proj"]);
    config.write(&dir.path().join(CONFIG_FILE), &BTreeMap::new()).unwrap();
    write_tensors(&dir.path().join(WEIGHTS_FILE), &tensors).unwrap();
    let file = SafetensorsFile::open(&dir.path().join(WEIGHTS_FILE)).unwrap();
    assert_eq!(file.names().next(), Some("language_model.model.layers.0.mlp.switch_mlp.up_proj.lora_a"));
    let adapter = Adapter::load(dir.path()).unwrap();
    assert_eq!(adapter.tensors, tensors);

    let model = |experts: usize| {
        let json = json!({
            "model_type": "qwen3_5_moe_text", "vocab_size": 6, "hidden_size": 4, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "linear_num_key_heads": 1,
            "linear_num_value_heads": 2, "linear_key_head_dim": 2, "linear_value_head_dim": 3,
            "linear_conv_kernel_dim": 4, "rope_parameters": {"rope_theta": 1e4}, "num_experts": experts,
            "num_experts_per_tok": 1, "moe_intermediate_size": 5, "shared_expert_intermediate_size": 7
        });
        TextConfig::from_json(&json, Path::new("config.json")).unwrap()
    };
    adapter.check_fits(&model(3)).unwrap();
    let error = adapter.check_fits(&model(4)).unwrap_err().to_string();
    assert!(error.contains("has shape [3, 2, 4], expected [4, 2, 4] as the layer has it"), "{error}");
}

#[test]
fn other_prefixes_are_read_too() {
    for prefix in ["language_model.model.", "model.", ""] {
        let dir = tempfile::tempdir().unwrap();
        let renamed = tensors().into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect();
        write(dir.path(), &config(), &renamed);
        assert_eq!(Adapter::load(dir.path()).unwrap().tensors, tensors());
    }
}

#[test]
fn a_configuration_that_cannot_be_used_is_refused() {
    let parameters = |changes: Json| {
        let mut json = config();
        for (key, value) in changes.as_object().unwrap() {
            json["lora_parameters"][key] = value.clone();
        }
        json
    };
    let table = [
        (json!({"peft_type": "LORA", "r": "8"}), "`r`: found \"8\", expected a positive integer"),
        (json!({"fine_tune_type": "dora"}), "`fine_tune_type`: found \"dora\"; only `lora` is supported for now"),
        (json!({}), "`num_layers`: found nothing, expected an integer (-1 for all layers)"),
        (json!({"num_layers": "all"}), "`num_layers`: found \"all\", expected an integer"),
        (json!({"num_layers": 2, "lora_parameters": null}), "`lora_parameters`: found nothing, expected an object"),
        (parameters(json!({"rank": 0})), "`lora_parameters.rank`: found 0, expected a positive integer"),
        (parameters(json!({"rank": null})), "`lora_parameters.rank`: found null, expected a positive integer"),
        (
            parameters(json!({"scale": null, "alpha": 16})),
            "`lora_parameters.scale`: found nothing, expected a number\nhelp: replace `alpha` by `scale`: 8, which is \
             alpha / rank",
        ),
        (parameters(json!({"scale": "20"})), "`lora_parameters.scale`: found \"20\", expected a number"),
        (parameters(json!({"dropout": 1})), "`lora_parameters.dropout`: found 1, expected at least 0 and less than 1"),
        (
            parameters(json!({"keys": "mlp.up_proj"})),
            "`lora_parameters.keys`: found \"mlp.up_proj\", expected a list of module names",
        ),
    ];
    for (config, expected) in table {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &config, &tensors());
        assert_eq!(load(dir.path()), format!("`adapter_config.json`: {expected}"));
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(load(dir.path()).starts_with("`adapter_config.json`: No such file"));
}

#[test]
fn tensors_that_are_not_an_adapters_are_refused() {
    type Change = fn(&mut BTreeMap<String, HostTensor>);
    let table: [(Change, &str); 8] = [
        (
            |t| _ = t.insert("base_model.model.lm_head.base_layer.weight".into(), factor(&[6, 4])),
            "base_layer.weight`: is a parameter of the base model, which PEFT saves beside an adapter of the head\nhelp: ",
        ),
        (|t| _ = t.insert("layers.0.mlp.up_proj.weight".into(), factor(&[6, 4])), "`: expected a name like"),
        (|t| _ = t.insert("layers.00.mlp.up_proj.lora_a".into(), factor(&[4, 2])), "`: expected a name like"),
        (|t| _ = t.remove("layers.0.mlp.up_proj.lora_b"), "lora_a`: is there without `layers.0.mlp.up_proj.lora_b`"),
        (
            |t| _ = t.insert("layers.0.mlp.up_proj.lora_b".into(), factor(&[3, 6])),
            "lora_a`: has shape [4, 2], which does not go with [3, 6] of `layers.0.mlp.up_proj.lora_b`",
        ),
        (
            |t| _ = t.insert("layers.0.mlp.up_proj.lora_a".into(), factor(&[8, 4, 2])),
            "lora_a`: has shape [8, 4, 2], expected [inputs, rank]",
        ),
        (
            |t| {
                t.insert("layers.0.mlp.up_proj.lora_a".into(), factor(&[4, 3]));
                t.insert("layers.0.mlp.up_proj.lora_b".into(), factor(&[3, 6]));
            },
            "lora_a`: has shape [4, 3], expected the rank 2 of `adapter_config.json`",
        ),
        (|t| t.clear(), "`adapters.safetensors`: holds no tensors"),
    ];
    for (change, expected) in table {
        let dir = tempfile::tempdir().unwrap();
        let mut tensors = tensors();
        change(&mut tensors);
        write(dir.path(), &config(), &tensors);
        let message = load(dir.path());
        assert!(message.starts_with("`adapters.safetensors`: ") && message.contains(expected), "{message}\n{expected}");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut with_keys = config();
    with_keys["lora_parameters"]["keys"] = json!(["mlp.up_proj"]);
    write(dir.path(), &with_keys, &tensors());
    assert!(
        load(dir.path())
            .contains("is of the module `mlp.down_proj`, which `keys` of `adapter_config.json` does not list")
    );
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let fits = |config: Json, tensors: BTreeMap<String, HostTensor>| {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &config, &tensors);
        let adapter = Adapter::load(dir.path()).unwrap();
        adapter.check_fits(&model()).unwrap_err().to_string().replace(&format!("{}/", dir.path().display()), "")
    };
    let moved = |from: &str, to: &str| {
        tensors().into_iter().map(|(name, tensor)| (name.replace(from, to), tensor)).collect::<BTreeMap<_, _>>()
    };
    let mut last_only = config();
    last_only["num_layers"] = json!(1);
    for (config, tensors, expected) in [
        (config(), moved("layers.1", "layers.2"), "tensor `layers.2.mlp.down_proj.lora_a`: belongs to no linear layer"),
        (
            config(),
            moved("mlp.down_proj", "linear_attn.conv1d"),
            "tensor `layers.1.linear_attn.conv1d.lora_a`: belongs to no",
        ),
        (
            config(),
            moved("mlp.down_proj", "mlp.gate_proj"),
            "tensor `layers.1.mlp.gate_proj.lora_a`: has shape [6, 2], expected [4, 2]",
        ),
        (
            last_only,
            tensors(),
            "tensor `layers.0.mlp.up_proj.lora_a`: is in layer 0, expected 1 or above by `num_layers`",
        ),
    ] {
        let message = fits(config, tensors);
        assert!(message.contains(expected), "{message}\n{expected}");
    }
}

#[test]
fn the_head_and_the_tower_have_names_of_their_own() {
    let pair =
        |module: &str| [(format!("{module}.lora_a"), factor(&[4, 2])), (format!("{module}.lora_b"), factor(&[2, 6]))];
    let tensors: BTreeMap<String, HostTensor> =
        [pair("lm_head"), pair("visual.blocks.0.attn.qkv"), pair("layers.0.mlp.up_proj")]
            .into_iter()
            .flatten()
            .collect();
    let dir = tempfile::tempdir().unwrap();
    let config = AdapterConfig::from_tensors(tensors.keys().map(String::as_str), 2, 20.0);
    let keys =
        ["language_model.model.layers.0.mlp.up_proj", "language_model.lm_head", "vision_tower.blocks.0.attn.qkv"];
    assert_eq!(config.keys.as_deref().unwrap(), keys);
    config.write(&dir.path().join(CONFIG_FILE), &BTreeMap::new()).unwrap();
    write_tensors(&dir.path().join(WEIGHTS_FILE), &tensors).unwrap();
    assert_eq!(Adapter::load(dir.path()).unwrap().tensors, tensors);
    let file = SafetensorsFile::open(&dir.path().join(WEIGHTS_FILE)).unwrap();
    assert!(file.get("language_model.lm_head.lora_a").is_some());
}

/// PEFT may have trained an adapter of gate and up that was exported: it is not one of each any more.
#[test]
fn an_adapter_of_gate_and_up_of_twice_the_rank_gives_all_that_rank() {
    let dir = tempfile::tempdir().unwrap();
    let json = json!({
        "peft_type": "LORA", "r": 1, "lora_alpha": 3, "rank_pattern": {"gate_up_proj": 2}, "alpha_pattern": {"gate_up_proj": 6},
        "target_modules": ["q_proj"], "target_parameters": ["layers.0.mlp.experts.gate_up_proj"]
    });
    fs::write(dir.path().join(CONFIG_FILE), json.to_string()).unwrap();
    let stored = [
        ("mlp.experts.lora_A", factor(&[3 * 2, 4])),
        ("mlp.experts.lora_B", factor(&[10, 2 * 3])),
        ("self_attn.q_proj.lora_A", factor(&[1, 4])),
        ("self_attn.q_proj.lora_B", factor(&[2, 1])),
    ];
    let stored = stored.map(|(name, tensor)| (format!("base_model.model.model.layers.0.{name}.weight"), tensor)).into();
    write_safetensors(&dir.path().join("adapter_model.safetensors"), &stored, &BTreeMap::new()).unwrap();

    let Adapter { config, tensors, .. } = Adapter::load(dir.path()).unwrap();
    assert_eq!((config.rank, config.scale), (2, 3.0));
    let values = |name: &str| (tensors[name].shape.clone(), tensors[name].to_f32().unwrap());
    assert_eq!(values("layers.0.self_attn.q_proj.lora_a"), (vec![4, 2], vec![0.0, 0.0, 1.0, 0.0, 2.0, 0.0, 3.0, 0.0]));
    assert_eq!(values("layers.0.self_attn.q_proj.lora_b"), (vec![2, 2], vec![0.0, 1.0, 0.0, 0.0]));
    for projection in ["gate_proj", "up_proj"] {
        assert_eq!(values(&format!("layers.0.mlp.experts.{projection}.lora_a")).0, [3, 2, 4]);
        assert_eq!(values(&format!("layers.0.mlp.experts.{projection}.lora_b")).0, [3, 5, 2]);
    }
    let file = AdapterFile::load(&dir.path().join("adapter_model.safetensors")).unwrap();
    assert_eq!((file.rank, file.tensors), (2, tensors));
}

/// Other programs refuse files that name what they do not have.
#[test]
fn the_head_of_multi_token_prediction_is_in_a_file_of_its_own() {
    let pair =
        [("mtp.fc.lora_a", factor(&[8, 2])), ("mtp.fc.lora_b", factor(&[2, 4])), ("mtp.norm.weight", factor(&[4]))];
    let head: BTreeMap<String, HostTensor> = pair.map(|(name, tensor)| (name.to_owned(), tensor)).into();
    let all: BTreeMap<String, HostTensor> = tensors().into_iter().chain(head.clone()).collect();
    let dir = tempfile::tempdir().unwrap();
    let [file, of_head] = [WEIGHTS_FILE, "adapters.mtp.safetensors"].map(|name| dir.path().join(name));
    let names = |file: &Path| SafetensorsFile::open(file).unwrap().names().map(str::to_owned).collect::<Vec<_>>();
    AdapterConfig::from_tensors(all.keys().map(String::as_str), 2, 20.0)
        .write(&dir.path().join(CONFIG_FILE), &BTreeMap::new())
        .unwrap();
    for (written, in_main) in [(&all, 4), (&head, 0)] {
        write_tensors(&file, written).unwrap();
        assert_eq!(names(&file).len(), in_main);
        assert_eq!(
            names(&of_head),
            ["language_model.mtp.fc.lora_a", "language_model.mtp.fc.lora_b", "mtp.norm.weight"]
        );
        let adapter = Adapter::load(dir.path()).unwrap();
        assert_eq!(&adapter.tensors, written);
        assert!(adapter.config.keys.unwrap().iter().all(|key| !key.contains("mtp")));
    }
    // A head that is not there any more leaves nothing behind.
    write_tensors(&file, &tensors()).unwrap();
    assert!(!of_head.exists());
    fs::copy(&file, &of_head).unwrap();
    assert!(load(dir.path()).contains("is not of the head of multi-token prediction"));
    // Earlier versions wrote one file.
    fs::remove_file(&of_head).unwrap();
    write_safetensors(&file, &all, &BTreeMap::new()).unwrap();
    assert_eq!(Adapter::load(dir.path()).unwrap().tensors, all);
}

#[test]
fn an_export_for_peft_says_what_it_leaves_out_and_refuses_what_is_left_empty() {
    let folder = tempfile::tempdir().unwrap();
    let [base, written] = ["base", "written"].map(|name| folder.path().join(name));
    let adapter = |tensors: BTreeMap<String, HostTensor>| {
        let config = AdapterConfig::from_tensors(tensors.keys().map(String::as_str), 2, 20.0);
        Adapter { file: WEIGHTS_FILE.into(), config, tensors }
    };
    let head = [("mtp.fc.lora_a", factor(&[8, 2])), ("mtp.fc.lora_b", factor(&[2, 4]))];
    let head: BTreeMap<String, HostTensor> = head.map(|(name, tensor)| (name.to_owned(), tensor)).into();
    let error = export_to_peft(adapter(head.clone()), &base, &model(), &written).unwrap_err().to_string();
    assert!(error.contains("holds the head of multi-token prediction alone"), "{error}");
    let other = adapter(tensors().into_iter().map(|(name, tensor)| (name.replace("mlp.", "wings."), tensor)).collect());
    let error = export_to_peft(other, &base, &model(), &written).unwrap_err().to_string();
    assert!(error.contains("belongs to no linear layer of the model"), "{error}");
    assert!(!written.exists());

    let both = adapter(tensors().into_iter().chain(head).collect());
    let exported = export_to_peft(both, &base, &model(), &written).unwrap();
    assert_eq!(exported, Exported { modules: 2, parameters: 0, left_out: 2 });
    let again = Adapter::load(&written).unwrap();
    assert_eq!((again.tensors, again.config.rank, again.config.scale), (tensors(), 2, 20.0));
    let config: Json = serde_json::from_slice(&fs::read(written.join(CONFIG_FILE)).unwrap()).unwrap();
    assert_eq!(config["target_modules"], json!(["layers.0.mlp.up_proj", "layers.1.mlp.down_proj"]));
    assert_eq!(config["target_parameters"], Json::Null);
}
