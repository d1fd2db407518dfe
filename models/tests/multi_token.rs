//! The head of multi-token prediction: where checkpoints keep it, and how far its gradient reaches.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{batch, config, model};
use cotangent::parameters::Path as Name;
use cotangent::random::Key;
use cotangent::{
    CodeFormat, CodeMode, Dtype, Gradients, Keep, Parameters as _, Session, Stored, Trainable, train_stack,
};
use cotangent_kernels::Labels;
use cotangent_models::checkpoint::{HostTensor, SafetensorsFile, write_safetensors};
use cotangent_models::config::TextConfig;
use cotangent_models::conversion::{Scheme, convert};
use cotangent_models::qwen35::{Ahead, AheadLoss, Batch, LoraOptions, Model};
use cotangent_models::rope::{Positions, Rotary};
use cotangent_models::transfer::{from_host, to_host};
use cotangent_models::weight::Weight;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/fixtures/mtp")
}

fn write(dir: &Path, file: &str, tensors: BTreeMap<String, HostTensor>) {
    fs::create_dir_all(dir).unwrap();
    fs::copy(fixture().join("config.json"), dir.join("config.json")).unwrap();
    write_safetensors(&dir.join(file), &tensors, &BTreeMap::new()).unwrap();
}

/// The values of the head by name, or why there is none.
fn head(dir: &Path) -> Result<BTreeMap<String, Vec<f32>>, String> {
    let (mut model, mut config, mut findings) = Model::load(dir, Dtype::F32).unwrap();
    let loaded = model.load_multi_token_head(dir, &mut config, Dtype::F32, &mut findings);
    loaded.map_err(|error| error.to_string())?;
    assert!(config.has_multi_token_head && findings.skipped.multi_token_prediction == 0);
    let mut values = BTreeMap::new();
    model.mtp.unwrap().visit(&mut Name::root(), &mut |name, tensor| {
        values.insert(name.to_string(), tensor.to_vec().unwrap());
    });
    Ok(values)
}

/// A norm of the head as mlx-vlm stores it.
fn with_one_added(name: &str, tensor: &HostTensor) -> HostTensor {
    let values: Vec<f32> = tensor.to_f32().unwrap();
    let added = if name.contains("norm") { 1.0 } else { 0.0 };
    HostTensor::from_f32(&tensor.shape, &values.iter().map(|value| value + added).collect::<Vec<_>>())
}

#[test]
fn a_head_is_the_same_among_the_tensors_in_a_file_beside_them_and_in_a_folder_of_its_own() {
    let expected = head(&fixture()).unwrap();
    assert_eq!(expected.len(), 15);
    let file = SafetensorsFile::open(&fixture().join("model.safetensors")).unwrap();
    let tensors: BTreeMap<_, _> = file.names().map(|name| (name.to_owned(), file.read(name).unwrap())).collect();
    let (of_head, of_model): (BTreeMap<_, _>, BTreeMap<_, _>) =
        tensors.into_iter().partition(|(name, _)| name.starts_with("mtp."));
    let bare = |name: &str| name["mtp.".len()..].to_owned();

    let dir = tempfile::tempdir().unwrap();
    // Each conversion of the head is in a file beside the model.
    let mut converted = (0..).map(|number| dir.path().join(format!("converted-{number}")));
    let mut converted_head = |source: &Path| {
        let (target, scheme) =
            (converted.next().unwrap(), Scheme::new(CodeMode::Affine, Some(32), None, None).unwrap());
        let written = convert(source, &target, &scheme, &mut |_, _| true).unwrap().unwrap();
        assert_eq!(written.multi_token_head, target.join("mtp.safetensors").exists());
        head(&target)
    };
    assert_eq!(converted_head(&fixture()).unwrap(), expected);
    let model = dir.path().join("model");
    write(&model, "model.safetensors", of_model);
    assert!(converted_head(&model).is_err());
    let message = head(&model).unwrap_err();
    assert!(
        message.contains("has no head of multi-token prediction: no tensors `mtp.*`, no `mtp.safetensors`, no folder")
    );

    let folder = dir.path().join("model-mtp");
    write(&folder, "model.safetensors", of_head.clone());
    assert_eq!(head(&model).unwrap(), expected, "copied as it is");
    assert_eq!(converted_head(&model).unwrap(), expected);
    let converted = of_head.iter().map(|(name, tensor)| (bare(name), with_one_added(name, tensor))).collect();
    write(&folder, "model.safetensors", converted);
    let found = head(&model).unwrap();
    for (name, expected) in &expected {
        let distance = found[name].iter().zip(expected).map(|(left, right)| (left - right).abs()).fold(0.0, f32::max);
        assert!(distance < 1e-6, "{name}: {distance}");
    }
    assert_eq!(converted_head(&model).unwrap(), found);

    write(&model, "mtp.safetensors", of_head);
    assert_eq!(head(&model).unwrap(), expected, "a file beside the model comes first");
    assert_eq!(converted_head(&model).unwrap(), expected);
    let stray = BTreeMap::from([("fc.weight".to_owned(), HostTensor::from_f32(&[1], &[0.0]))]);
    write(&model, "mtp.safetensors", stray);
    assert!(
        head(&model).unwrap_err().contains("is no tensor of multi-token prediction, whose names begin with `mtp.`")
    );
}

/// mlx-vlm writes the head's matrices as codes: a conversion of the model keeps them, and says how to read them.
#[test]
fn a_head_of_codes_stays_as_it_is_in_a_conversion() {
    let dir = tempfile::tempdir().unwrap();
    let [model, folder, target] = ["model", "model-mtp", "converted"].map(|name| dir.path().join(name));
    let file = SafetensorsFile::open(&fixture().join("model.safetensors")).unwrap();
    let read = |name: &str| (name.to_owned(), file.read(name).unwrap());
    let (of_head, of_model): (Vec<&str>, Vec<&str>) = file.names().partition(|name| name.starts_with("mtp."));
    write(&model, "model.safetensors", of_model.into_iter().map(read).collect());
    let mut tensors: BTreeMap<_, _> = of_head
        .into_iter()
        .map(|name| (name["mtp.".len()..].to_owned(), with_one_added(name, &file.read(name).unwrap())))
        .collect();
    let matrix = from_host(&tensors["fc.weight"]).unwrap();
    let format = CodeFormat::new(CodeMode::Affine, Some(32), Some(8)).unwrap();
    for (part, tensor) in ["weight", "scales", "biases"].iter().zip(matrix.quantize(format).unwrap()) {
        tensors.insert(format!("fc.{part}"), to_host(&tensor).unwrap());
    }
    write(&folder, "model.safetensors", tensors.clone());
    let config = fs::read_to_string(folder.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["quantization"] = serde_json::json!({"group_size": 32, "bits": 8});
    fs::write(folder.join("config.json"), config.to_string()).unwrap();

    let scheme = Scheme::new(CodeMode::Affine, Some(32), Some(4), None).unwrap();
    convert(&model, &target, &scheme, &mut |_, _| true).unwrap().unwrap();
    let converted = SafetensorsFile::open(&target.join("mtp.safetensors")).unwrap();
    for (name, tensor) in &tensors {
        assert_eq!(converted.read(&format!("mtp.{name}")).unwrap(), *tensor, "{name}");
    }
    let (mut loaded, mut config, mut findings) = Model::load(&target, Dtype::F32).unwrap();
    loaded.load_multi_token_head(&target, &mut config, Dtype::F32, &mut findings).unwrap();
    let Weight::Quantized(codes) = &loaded.mtp.as_ref().unwrap().fc.weight else { panic!("dense") };
    assert_eq!(codes.format, format);
    // Codes never train.
    let message = loaded.multi_token_head_trainable().unwrap_err().to_string();
    assert!(message.contains("`mtp.fc.weight`") && message.contains("is packed codes, which never train"), "{message}");
}

fn with_ahead(config: &TextConfig, loss: Option<AheadLoss>) -> Batch {
    const TOKENS: usize = 24;
    let labels: Vec<i32> = (2..TOKENS as i32).chain([-100, -100]).collect();
    let ahead = loss.map(|loss| Ahead {
        rotary: Rotary::new(&config.rope, &Positions::text(1, 1, TOKENS)).unwrap(),
        labels: Labels::from_slice(&labels).unwrap(),
        scale: 0.05,
        loss,
    });
    Batch { ahead, ..batch(config, TOKENS) }
}

/// The losses, and the gradients of the parameters that `select` picks.
fn pulled(
    model: &Model<Stored>,
    config: &TextConfig,
    loss: Option<AheadLoss>,
    select: fn(&str) -> bool,
) -> (Vec<f32>, BTreeMap<String, Vec<f32>>) {
    let trainable = Trainable::new(model, select).unwrap();
    let mut gradients = Gradients::new();
    let batch = with_ahead(config, loss);
    let losses =
        train_stack(&mut Session::new().unwrap(), model, &trainable, &batch, Keep::BlockInputs, &mut gradients)
            .unwrap();
    let gradients = gradients.iter().map(|(name, gradient)| (name.to_owned(), gradient.to_vec().unwrap())).collect();
    (losses.to_vec().unwrap(), gradients)
}

#[test]
fn a_detached_loss_leaves_the_trunk_as_it_would_be_without_it() {
    let config = TextConfig { has_multi_token_head: true, ..config(4) };
    let mut model = model(&config, Dtype::F32);
    model.add_adapters(&LoraOptions::default(), &Key::new(0).unwrap()).unwrap();
    let of_factor = |name: &str| name.ends_with(".lora_b");
    let beside = |detached| Some(AheadLoss::Beside { weight: 0.5, detached });
    let (without, off) = pulled(&model, &config, None, of_factor);
    let (apart, detached) = pulled(&model, &config, beside(true), of_factor);
    let (together, reached) = pulled(&model, &config, beside(false), of_factor);
    assert_eq!((without[0], apart.len()), (apart[0], 2));
    assert_eq!(apart, together, "the losses do not depend on their weights");
    for (name, gradient) in &off {
        assert!(name.starts_with("layers.") || gradient.iter().all(|value| *value == 0.0), "{name}");
        let is_of_head = name.starts_with("mtp.");
        assert_eq!(detached[name] == *gradient, !is_of_head, "{name}");
        assert_ne!(reached[name], *gradient, "{name}");
        assert!(!is_of_head || reached[name] == detached[name], "{name}");
    }

    // If the head trains alone, the loss is the same, with its whole gradient and no other.
    let (alone, of_head) =
        pulled(&model, &config, Some(AheadLoss::Alone), |name| name.starts_with("mtp.") && name.ends_with("lora_b"));
    assert_eq!(alone, apart[1..]);
    for (name, gradient) in &of_head {
        let half: Vec<f32> = gradient.iter().map(|value| value * 0.5).collect();
        let distance = half.iter().zip(&detached[name]).map(|(left, right)| (left - right).abs()).fold(0.0, f32::max);
        assert!(distance < 1e-7 * half.iter().fold(1.0, |most: f32, value| most.max(value.abs())), "{name} {distance}");
    }
}

/// A head that is tied to the embedding and trains gets no gradient of a loss that is detached from it.
#[test]
fn a_detached_loss_leaves_the_embedding_and_the_models_own_head_as_they_would_be() {
    let config = TextConfig { has_multi_token_head: true, ..config(1) };
    let model = model(&config, Dtype::F32);
    let of_embedding = |name: &str| name == "embed_tokens.weight" || name == "norm.weight";
    let beside = |detached| Some(AheadLoss::Beside { weight: 0.5, detached });
    let (_, off) = pulled(&model, &config, None, of_embedding);
    assert_eq!(pulled(&model, &config, beside(true), of_embedding).1, off);
    for (name, gradient) in pulled(&model, &config, beside(false), of_embedding).1 {
        assert_ne!(gradient, off[&name], "{name}");
    }
}
