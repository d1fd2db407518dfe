//! A small random model, and sentences of a made-up language for it.

use std::path::{Path, PathBuf};

use cotangent::random::Key;
use cotangent::{Dtype, Keep, Stored};
use cotangent_models::config::TextConfig;
use cotangent_models::qwen35::{LoraOptions, Model};
use cotangent_trainer::data::{Dataset, Example};
use cotangent_trainer::schedule::{Decay, Schedule};
use cotangent_trainer::training::TrainingOptions;

/// The checkpoint of 3 layers and 256 tokens whose results other tests compare with transformers.
pub fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/fixtures/dense-tied")
}

pub fn model() -> (Model<Stored>, TextConfig) {
    let (model, config, _) = Model::load(&fixture(), Dtype::F32).unwrap();
    (model, config)
}

/// A model with adapters whose factors are both random, so that every adapter has a gradient.
#[allow(dead_code)]
pub fn adapted_model() -> (Model<Stored>, TextConfig) {
    let (mut model, config) = model();
    let key = Key::new(5).unwrap();
    model.add_adapters(&LoraOptions { rank: 4, scale: 2.0, ..LoraOptions::default() }, &key).unwrap();
    let mut key = key;
    let mut tensors = model.adapters();
    for (name, tensor) in &mut tensors {
        if name.ends_with(".lora_b") {
            let (draw, next) = key.split().unwrap();
            key = next;
            *tensor = draw.uniform(-0.05, 0.05, tensor.shape()).unwrap();
        }
    }
    model.set_adapters(&tensors).unwrap();
    (model, config)
}

/// Rows that count upwards in steps of their own: the next token follows from those before. The first half of a row
/// is the question.
#[allow(dead_code)]
pub fn counting(lengths: &[usize]) -> Dataset {
    let examples = lengths.iter().enumerate().map(|(row, length)| Example {
        tokens: (0..*length).map(|place| ((row * 31 + place * (1 + row % 3)) % 250) as u32).collect(),
        is_target: (0..*length).map(|place| place >= length / 2).collect(),
        pictures: Vec::new(),
    });
    Dataset::from_examples(Path::new("train.jsonl"), examples.collect(), 128).unwrap()
}

#[allow(dead_code)]
pub fn options(steps: usize) -> TrainingOptions {
    TrainingOptions {
        batch_size: 2,
        accumulation: 2,
        schedule: Schedule { peak: 3e-3, minimum: 0.0, warmup: 2, steps, decay: Decay::Cosine },
        weight_decay: 0.01,
        max_gradient_norm: Some(1.0),
        mtp: None,
        router_aux_loss: 0.0,
        seed: 3,
        keep: Keep::BlockInputs,
        steps_per_report: 2,
        steps_per_eval: 4,
        validation_batches: None,
        save_every: 3,
    }
}
