//! Tests of which stored tensors make a model, and of those that do not fit it.

use super::*;
use crate::config::TextConfig;
use crate::qwen35::Model;
use cotangent::Plan;

fn config(tied: bool) -> TextConfig {
    let json = json!({
        "model_type": "qwen3_5_text", "vocab_size": 6, "hidden_size": 4, "intermediate_size": 5, "num_hidden_layers": 2,
        "full_attention_interval": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
        "linear_num_key_heads": 1, "linear_num_value_heads": 2, "linear_key_head_dim": 2, "linear_value_head_dim": 3,
        "linear_conv_kernel_dim": 4, "rope_parameters": {"rope_theta": 1e4}, "tie_word_embeddings": tied
    });
    TextConfig::from_json(&json, Path::new("config.json")).unwrap()
}

/// The tensors of a checkpoint of the model.
fn parameters_of(config: &TextConfig) -> Vec<(String, Plan)> {
    Plan::all(&Model::planned(config, cotangent::Dtype::F32))
}

fn parameters(tied: bool) -> Vec<(String, Plan)> {
    parameters_of(&config(tied))
}

type Tensors = Vec<(String, Vec<usize>)>;

fn open(tensors: &Tensors) -> (tempfile::TempDir, Checkpoint) {
    let dir = tempfile::tempdir().unwrap();
    let tensors: Vec<(&str, &[usize])> =
        tensors.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
    fs::write(dir.path().join("model.safetensors"), f32_file(&tensors)).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    (dir, checkpoint)
}

fn named(prefix: &str, head: &str) -> Tensors {
    let rename = |(name, plan): (String, Plan)| match name.strip_prefix("lm_head.") {
        Some(rest) => (format!("{head}{rest}"), plan.shape),
        None => (format!("{prefix}{name}"), plan.shape),
    };
    parameters(false).into_iter().map(rename).collect()
}

#[test]
fn every_naming_loads_as_the_same_model() {
    for (prefix, head) in [
        ("model.language_model.", "lm_head."),
        ("language_model.model.", "language_model.lm_head."),
        ("model.", "lm_head."),
        ("model.language_model.", "model.lm_head."),
        ("", "lm_head."),
    ] {
        let (_dir, checkpoint) = open(&named(prefix, head));
        let expected = parameters(false);
        let plan = LoadPlan::new(&checkpoint, expected.clone()).unwrap();
        for (name, planned) in &expected {
            assert_eq!(plan.read(name).unwrap().shape, planned.shape);
        }
        assert_eq!(plan.skipped(), Skipped::default());
    }
}

#[test]
fn vision_and_prediction_tensors_and_a_tied_head_are_skipped_and_counted() {
    let mut tensors = named("model.", "lm_head.");
    for name in [
        "mtp.fc.weight",
        "mtp.norm.weight",
        "model.visual.pos_embed.weight",
        "model.layers.1.self_attn.rotary_emb.inv_freq",
    ] {
        tensors.push((name.to_owned(), vec![2]));
    }
    let (_dir, checkpoint) = open(&tensors);
    let plan = LoadPlan::new(&checkpoint, parameters(true)).unwrap();
    assert_eq!(plan.skipped(), Skipped { multi_token_prediction: 2, vision: 1, redundant: 2 });
    assert!(plan.read("lm_head.weight").is_err());
}

/// Both tables in a file, of which the second is drawn differently if `differs`.
fn with_head(differs: bool, names: [&str; 2]) -> (tempfile::TempDir, Checkpoint) {
    let dir = tempfile::tempdir().unwrap();
    let table = |offset: f32| HostTensor::from_f32(&[6, 4], &(0..24).map(|i| i as f32 + offset).collect::<Vec<_>>());
    let mut tensors: std::collections::BTreeMap<String, HostTensor> = named("model.", "lm_head.")
        .into_iter()
        .map(|(name, shape)| (name, HostTensor::from_f32(&shape, &vec![0.5; shape.iter().product()])))
        .filter(|(name, _)| !name.contains("embed_tokens") && !name.contains("lm_head"))
        .collect();
    tensors.insert(names[0].into(), table(0.0));
    tensors.insert(names[1].into(), table(if differs { 1.0 } else { 0.0 }));
    write_safetensors(&dir.path().join("model.safetensors"), &tensors, &std::collections::BTreeMap::new()).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    (dir, checkpoint)
}

#[test]
fn a_stored_head_counts_if_it_differs_from_the_embedding() {
    for (differs, names) in [
        (true, ["model.embed_tokens.weight", "lm_head.weight"]),
        (false, ["model.embed_tokens.weight", "lm_head.weight"]),
        (true, ["model.language_model.embed_tokens.weight", "model.language_model.lm_head.weight"]),
    ] {
        let (_dir, checkpoint) = with_head(differs, names);
        assert_eq!(checkpoint.has_head_of_its_own().unwrap(), differs, "{names:?}");
    }
}

#[test]
fn a_head_that_is_stored_alone_is_the_tied_table() {
    let mut tensors = named("model.", "lm_head.");
    tensors.retain(|(name, _)| !name.contains("embed_tokens"));
    let (_dir, checkpoint) = open(&tensors);
    assert!(!checkpoint.has_head_of_its_own().unwrap());
    let plan = LoadPlan::new(&checkpoint, parameters(true)).unwrap();
    assert_eq!(plan.read("embed_tokens.weight").unwrap().shape, [6, 4]);
    assert_eq!(plan.skipped(), Skipped::default());
}

#[test]
fn all_differences_come_in_one_error() {
    let mut tensors = named("model.", "lm_head.");
    tensors.retain(|(name, _)| !name.contains("q_norm") && !name.starts_with("lm_head"));
    tensors.push(("model.layers.2.mlp.up_proj.weight".into(), vec![5, 4]));
    tensors.iter_mut().find(|(name, _)| name.ends_with("layers.0.mlp.up_proj.weight")).unwrap().1 = vec![4, 5];
    let (dir, checkpoint) = open(&tensors);
    assert_eq!(
        message(LoadPlan::new(&checkpoint, parameters(false)), dir.path()),
        "`.`: the tensors are not those of the model in `config.json`\n  \
         missing: `layers.1.self_attn.q_norm.weight`, expected [8]\n  \
         missing: `lm_head.weight`, expected [6, 4]\n  \
         extra: `model.layers.2.mlp.up_proj.weight`, found [5, 4]\n  \
         shape: `model.layers.0.mlp.up_proj.weight`, found [4, 5], expected [5, 4]\n\
         help: take `config.json` and the safetensors files from the same model"
    );
}

#[test]
fn integer_weights_are_refused_by_name() {
    let tensors = named("model.", "lm_head.");
    let (dir, _) = open(&tensors);
    let path = dir.path().join("model.safetensors");
    let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
    assert!(text.contains("F32"));
    let bytes = fs::read(&path).unwrap();
    let position = bytes.windows(3).position(|window| window == b"F32").unwrap();
    let changed = [&bytes[..position], b"I32", &bytes[position + 3..]].concat();
    fs::write(&path, changed).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let message = message(LoadPlan::new(&checkpoint, parameters(false)), dir.path());
    assert!(
        message.contains("\n  dtype: `model.embed_tokens.weight`, found I32, expected F32, BF16 or F16"),
        "{message}"
    );
}

#[test]
fn two_tensors_for_one_parameter_are_refused() {
    let mut tensors = named("model.", "lm_head.");
    tensors.push(("norm.weight".into(), vec![4]));
    let (dir, checkpoint) = open(&tensors);
    assert_eq!(
        message(LoadPlan::new(&checkpoint, parameters(false)), dir.path()),
        "`.`: tensor `norm.weight`: is the same parameter as `model.norm.weight`"
    );
}

#[test]
fn a_checkpoint_whose_codes_were_not_planned_is_refused() {
    let mut tensors = named("language_model.model.", "language_model.lm_head.");
    tensors.push(("language_model.model.layers.0.mlp.up_proj.scales".into(), vec![5, 1]));
    let (dir, checkpoint) = open(&tensors);
    let message = message(LoadPlan::new(&checkpoint, parameters(false)), dir.path());
    assert!(message.starts_with(
        "`model.safetensors`: tensor `language_model.model.layers.0.mlp.up_proj.scales`: belongs to a quantized model"
    ));
}

#[test]
fn an_mlx_checkpoint_is_brought_to_hugging_face_layout_exactly() {
    let mut tensors = named("language_model.model.", "language_model.lm_head.");
    for (name, shape) in &mut tensors {
        if name.ends_with("conv1d.weight") {
            shape.swap(1, 2);
        }
    }
    let (_dir, checkpoint) = open(&tensors);
    let plan = LoadPlan::new(&checkpoint, parameters(false)).unwrap();
    assert_eq!(plan.layout(), Layout::Mlx);

    let convolution = plan.read("layers.0.linear_attn.conv1d.weight").unwrap();
    assert_eq!(convolution.shape, [10, 1, 4]);
    let counted: Vec<f32> = (0..40).map(|i| i as f32).collect();
    assert_eq!(convolution.to_f32().unwrap(), counted);

    // The stored values 0, 1, 2, 3 stand for 1 + w.
    for norm in ["norm.weight", "layers.0.input_layernorm.weight", "layers.1.post_attention_layernorm.weight"] {
        assert_eq!(plan.read(norm).unwrap().to_f32().unwrap(), [-1.0, 0.0, 1.0, 2.0], "{norm}");
    }
    assert_eq!(plan.read("layers.1.self_attn.k_norm.weight").unwrap().to_f32().unwrap()[7], 6.0);
    assert_eq!(
        plan.read("layers.0.linear_attn.norm.weight").unwrap().to_f32().unwrap(),
        [0.0, 1.0, 2.0],
        "not shifted"
    );
    assert_eq!(plan.read("layers.0.mlp.gate_proj.weight").unwrap().to_f32().unwrap()[3], 3.0);
}

#[test]
fn a_layout_that_cannot_be_told_is_refused() {
    let mut mixed = config(false);
    mixed.layers = vec![crate::config::LayerKind::LinearAttention; 2];
    let shapes = |(name, plan): (String, Plan)| (name, plan.shape);
    let mut tensors: Tensors = parameters_of(&mixed).into_iter().map(shapes).collect();
    tensors.iter_mut().find(|(name, _)| name.ends_with("1.linear_attn.conv1d.weight")).unwrap().1 = vec![10, 4, 1];
    let (dir, checkpoint) = open(&tensors);
    let told = message(LoadPlan::new(&checkpoint, parameters_of(&mixed)), dir.path());
    assert!(
        told.contains("tensor `layers.1.linear_attn.conv1d.weight`: has the shape [10, 4, 1] of the Mlx layout"),
        "{told}"
    );

    let mut attention = config(false);
    attention.layers = vec![crate::config::LayerKind::FullAttention; 2];
    let dir = tempfile::tempdir().unwrap();
    let parameters = parameters_of(&attention);
    let tensors = parameters
        .iter()
        .map(|(name, plan)| (name.clone(), HostTensor::from_f32(&plan.shape, &vec![0.0; plan.size()])));
    let metadata = [("format".to_owned(), "mlx".to_owned())].into();
    write_safetensors(&dir.path().join("model.safetensors"), &tensors.collect(), &metadata).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let told = message(LoadPlan::new(&checkpoint, parameters), dir.path());
    assert!(told.starts_with("`.`: was written by MLX and has no convolution"), "{told}");
}
