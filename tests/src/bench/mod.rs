//! Times LoRA training steps of a described model with random weights, as `tests/reference/peer_bench.py` does for
//! other implementations.

mod description;
mod gradients;
mod random;

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use cotangent::optimizer::{AdamW, AdamWOptions};
use cotangent::random::Key;
use cotangent::{
    Gradients, Keep, Parameters as _, Session, Stored, Trainable, evaluate_stack, parameters, train_stack,
};
use cotangent_models::config::{FeedForwardConfig, Quantization, TextConfig};
use cotangent_models::qwen35::{Balance, Batch, LoraOptions, LoraTargets, Model};
use serde_json::{Value, json};

use description::Description;
pub use gradients::{compare, record};
pub(crate) use random::Spread;

/// A line of what the system says of this process' memory, in bytes; known on Linux only.
pub(crate) fn memory_of_process(line: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let found = status.lines().find_map(|found| found.strip_prefix(line))?;
    let kib: u64 = found.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib << 10)
}

fn round(value: f64, digits: i32) -> f64 {
    let unit = 10_f64.powi(digits);
    (value * unit).round() / unit
}

/// A model with adapters that is ready to train.
pub(crate) struct Training {
    pub(crate) session: Session,
    config: TextConfig,
    description: Description,
    keep: Keep,
    model: Model<Stored>,
    adapted: usize,
    trainable: Trainable,
    optimizer: AdamW,
}

impl Training {
    /// Makes the model that the file `path` describes.
    pub(crate) fn described(path: &Path) -> Result<Self> {
        let (description, json) = Description::read(path)?;
        let mut config = TextConfig::from_json_with_vision(&json, path)?;
        match (description.patches_per_side, &config.vision) {
            (None, _) => config.vision = None,
            (Some(_), None) => bail!("`{}`: `patches_per_side`, and a model that reads text only", path.display()),
            (Some(_), Some(_)) => {}
        }
        let quantization = Quantization::from_json(&json, path)?;
        let session = Session::new()?;
        let mut model = random::model(&config, quantization.as_ref(), description.dtype()?, description.seed)?;
        let adapted = model.add_adapters(
            &LoraOptions {
                rank: description.lora.rank,
                scale: description.lora.scale,
                targets: LoraTargets::Patterns(description.lora.targets.clone()),
                last_layers: None,
            },
            &Key::new(description.seed)?,
        )?;
        let adapters = model.adapters_trainable()?;
        let trainable = Trainable::new(&model, |name| {
            adapters.contains(name) || description.train_tower && name.starts_with("visual.")
        })?;
        let options = AdamWOptions { weight_decay: description.optimizer.weight_decay, ..AdamWOptions::default() };
        let (optimizer, keep) = (AdamW::new(options), description.keep());
        let adapted = adapted.len();
        cotangent::memory::clear_cache()?;
        Ok(Training { session, config, description, keep, model, adapted, trainable, optimizer })
    }

    /// Tokens of a row.
    pub(crate) fn tokens(&self) -> usize {
        self.description.tokens
    }

    pub(crate) fn batch_of(&self, tokens: usize) -> Result<Batch> {
        random::batch(&self.description, tokens, &self.config)
    }

    /// Runs forward, backward and update, and returns the loss.
    pub(crate) fn step(&mut self, batch: &Batch) -> Result<f32> {
        let Training { session, model, trainable, keep, optimizer, description, .. } = self;
        let mut gradients = Gradients::new();
        let loss = train_stack(session, model, trainable, batch, *keep, &mut gradients)?;
        optimizer.update(model, &gradients, description.optimizer.lr)?;
        Ok(loss.item::<f32>()?)
    }

    /// Returns the shares of the tokens of the idlest and of the busiest expert, means over layers; nothing without
    /// experts.
    fn shares_of_experts(&mut self) -> Result<Option<[f32; 2]>> {
        if !matches!(self.config.feed_forward, FeedForwardConfig::Experts(_)) {
            return Ok(None);
        }
        let batch = self.batch_of(self.tokens())?;
        let is_token = vec![true; self.description.batch * self.tokens()];
        let batch = Batch { balance: Some(Balance::new(&self.model, &is_token, 0.0)?), ..batch };
        // The shares of the experts follow the two losses.
        let shares = evaluate_stack(&mut self.session, &self.model, &batch)?.to_vec::<f32>()?.split_off(2);
        Ok(Some([f32::min, f32::max].map(|of| shares.iter().copied().reduce(of).unwrap_or(f32::NAN))))
    }
}

/// Runs the description in the file `path`, and returns what `peer_bench.py` prints.
///
/// # Errors
/// If the description is wrong or the model cannot be run.
pub fn run(path: &Path) -> Result<Value> {
    let mut training = Training::described(path)?;
    let batch = training.batch_of(training.tokens())?;
    let (warmup, steps) = (training.description.warmup, training.description.steps);
    cotangent::memory::reset_peak()?;

    let (mut times, mut losses) = (Vec::new(), Vec::new());
    for step in 0..warmup + steps {
        let start = Instant::now();
        losses.push(f64::from(training.step(&batch)?));
        times.push(start.elapsed().as_secs_f64());
        eprintln!("step {step}: {:.4} s, loss {:.4}", times[step], losses[step]);
    }
    let mlx_peak = cotangent::memory::peak()?;
    let shares = training.shares_of_experts()?;
    let Training { description, model, trainable, .. } = &training;
    let mut weights = 0;
    model.leaves(&mut parameters::Path::root(), &mut |_, leaf| weights += leaf.tensor.bytes());
    let timed = &times[warmup..];
    let mut sorted = timed.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
    let tokens = (description.batch * description.tokens) as f64;
    let rounded = |times: &[f64]| times.iter().map(|time| round(*time, 4)).collect::<Vec<_>>();
    Ok(json!({
        "peer": "cotangent",
        "versions": { "cotangent": env!("CARGO_PKG_VERSION"), "mlx-sys": "0.7.0" },
        "device": training.session.backend().name(),
        "batch": description.batch,
        "tokens": description.tokens,
        "median_step_s": round(median, 4),
        "tokens_per_s": round(tokens / median, 2),
        "steps_s": rounded(timed),
        "warmup_s": rounded(&times[..warmup]),
        "first_loss": losses[0],
        "last_loss": losses[losses.len() - 1],
        "adapted": training.adapted,
        "trainable_parameters": model.count(|name| trainable.contains(name)),
        "peak_rss_mib": memory_of_process("VmHWM:").map(|bytes| round(bytes as f64 / f64::from(1 << 20), 1)),
        "weights_mib": round(weights as f64 / f64::from(1 << 20), 1),
        "mlx_peak_mib": round(mlx_peak as f64 / f64::from(1 << 20), 1),
        "shares_of_experts": shares,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the report of the smallest description with some members replaced by these.
    fn report_of(different: &Value) -> Value {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("description.json");
        let mut json = json!({
            "like": concat!(env!("CARGO_MANIFEST_DIR"), "/bench/tiny.json"), "tokens": 24, "warmup": 0, "steps": 3,
        });
        json.as_object_mut().unwrap().extend(different.as_object().unwrap().clone());
        std::fs::write(&path, json.to_string()).unwrap();
        let found = run(&path).unwrap();
        // A record serves for comparing backends; on one backend the values are equal.
        let record_of = folder.path().join("record.safetensors");
        record(&path, &record_of).unwrap();
        let table = compare(&path, &record_of).unwrap();
        assert!(table.passed() && table.all().all(|comparison| comparison.deviation == 0.0), "{table}");
        found
    }

    #[test]
    fn codes_and_experts_and_pictures_train() {
        let codes = json!({"quantization": {"group_size": 32, "bits": 4}});
        let experts = json!({
            "model_type": "qwen3_5_moe_text", "intermediate_size": null, "num_experts": 8, "num_experts_per_tok": 2,
            "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "tie_word_embeddings": false,
            "quantization": {"group_size": 32, "bits": 8},
        });
        let pictures = json!({
            "image_token_id": 252, "video_token_id": 253, "vision_start_token_id": 250, "vision_end_token_id": 251,
            "vision_config": {
                "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 4,
                "temporal_patch_size": 2, "spatial_merge_size": 2, "num_position_embeddings": 36, "out_hidden_size": 64,
            },
        });
        let of_experts = json!({"rank": 2, "scale": 2.0, "targets": ["attention", "mlp", "experts", "router"]});
        let weights = [
            (json!({}), false),
            (json!({"config": codes}), false),
            (json!({"config": experts, "lora": of_experts}), true),
            (json!({"config": pictures, "patches_per_side": 4}), false),
            (json!({"config": pictures, "patches_per_side": 4, "train_tower": true}), false),
        ]
        .map(|(different, has_experts)| {
            let report = report_of(&different);
            let [first, last] = ["first_loss", "last_loss"].map(|name| report[name].as_f64().unwrap());
            assert!(last < first, "{report}");
            assert_eq!(report["shares_of_experts"].is_array(), has_experts, "{report}");
            [&report["weights_mib"], &report["trainable_parameters"]].map(|value| value.as_f64().unwrap())
        });
        let [floats, codes, _, frozen, trained] = weights;
        assert!(codes[0] < 0.6 * floats[0] && codes[1] == floats[1], "{weights:?}");
        assert!(frozen[0] > floats[0] && frozen[1] == floats[1] && trained[1] > frozen[1], "{weights:?}");
    }

    #[test]
    fn every_shape_in_the_folder_is_one_of_a_model() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/bench"));
        let mut shapes = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let (description, json) = Description::read(&path).unwrap();
            let config = TextConfig::from_json_with_vision(&json, &path).unwrap();
            assert!(description.dtype().is_ok() && (description.patches_per_side.is_none() || config.vision.is_some()));
            shapes += 1;
        }
        assert!(shapes > 10, "{shapes}");
    }
}
