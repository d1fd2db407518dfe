//! Times LoRA training steps of a described model with random weights, as `tests/reference/peer_bench.py` does for
//! other implementations.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use cotangent::optimizer::{AdamW, AdamWOptions};
use cotangent::random::Key;
use cotangent::{Dtype, Gradients, Indices, Keep, Plan, Session, Stored, Trainable, train_stack};
use cotangent_kernels::Labels;
use cotangent_models::checkpoint::{CheckpointError, HostTensor};
use cotangent_models::config::TextConfig;
use cotangent_models::qwen35::{Batch, LoraOptions, LoraTargets, Model};
use cotangent_models::rope::{Positions, Rotary};
use serde::Deserialize;
use serde_json::{Value, json};

/// The description: the keys of `peer_bench.py`, those that do not concern us ignored.
#[derive(Debug, Deserialize)]
struct Description {
    config: Option<Value>,
    config_path: Option<String>,
    batch: usize,
    tokens: usize,
    lora: Lora,
    #[serde(default)]
    optimizer: Optimizer,
    #[serde(default = "one")]
    warmup: usize,
    #[serde(default = "five")]
    steps: usize,
    #[serde(default)]
    seed: u64,
    /// Whether intermediate results are computed again in the backward pass instead of being kept.
    #[serde(default)]
    grad_checkpoint: bool,
    /// But those of the last so many layers, if others are not.
    #[serde(default)]
    keep_last_layers: usize,
    /// And so much of what expensive kernels computed, in GiB.
    #[serde(default)]
    keep_expensive_gib: f64,
    /// `float32` or `bfloat16`.
    #[serde(default)]
    dtype: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Lora {
    rank: i32,
    scale: f32,
    targets: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Optimizer {
    lr: f32,
    weight_decay: f32,
}

impl Default for Optimizer {
    fn default() -> Self {
        Optimizer { lr: 1e-4, weight_decay: 0.01 }
    }
}

fn one() -> usize {
    1
}

fn five() -> usize {
    5
}

/// A small generator: what the numbers are does not matter, only that they are spread and the same in every run.
pub(crate) struct Spread(pub(crate) u64);

impl Spread {
    /// Evenly in 0..1. SplitMix64 (Steele, Lea and Flood, 2014).
    pub(crate) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1_u64 << 24) as f32
    }
}

fn random_model(config: &TextConfig, seed: u64, dtype: Dtype) -> Result<Model<Stored>> {
    let mut spread = Spread(seed);
    let mut source = |_: &str, plan: &Plan| -> Result<HostTensor, CheckpointError> {
        let shape = &plan.shape;
        let count = plan.size();
        let fan_in = shape.last().copied().unwrap_or(1).max(1) as f32;
        let width = if shape.len() > 1 { fan_in.powf(-0.5) } else { 0.1 };
        let values: Vec<f32> = (0..count).map(|_| (2.0 * spread.next() - 1.0) * width).collect();
        Ok(HostTensor::from_f32(shape, &values))
    };
    Ok(Model::from_source(config, dtype, &mut source)?)
}

fn random_batch(seed: u64, (rows, tokens): (usize, usize), config: &TextConfig) -> Result<Batch> {
    let mut spread = Spread(seed ^ 0x5eed);
    let highest = config.vocab_size - 1;
    let mut token = || 1 + ((spread.next() * highest as f32) as usize).min(highest - 1) as i32;
    let (mut inputs, mut labels) = (Vec::new(), Vec::new());
    for _ in 0..rows {
        let row: Vec<i32> = (0..=tokens).map(|_| token()).collect();
        inputs.extend_from_slice(&row[..tokens]);
        labels.extend_from_slice(&row[1..]);
    }
    Ok(Batch {
        tokens: Indices::from_slice(&inputs, &[rows as i32, tokens as i32])?,
        pictures: None,
        rotary: Rotary::new(&config.rope, &Positions::text(rows, 0, tokens))?,
        labels: Labels::from_slice(&labels)?,
        scale: 1.0 / (rows * tokens) as f32,
        ahead: None,
        balance: None,
    })
}

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
    /// What the description in the file `path` says.
    pub(crate) fn described(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("`{}`", path.display()))?;
        let description: Description = serde_json::from_str(&text).with_context(|| format!("`{}`", path.display()))?;
        let json = match (&description.config, &description.config_path) {
            (Some(config), None) => config.clone(),
            (None, Some(file)) => {
                let file = path.parent().unwrap_or(Path::new(".")).join(file);
                let text = std::fs::read_to_string(&file).with_context(|| format!("`{}`", file.display()))?;
                serde_json::from_str(&text).with_context(|| format!("`{}`", file.display()))?
            }
            _ => bail!("`{}`: give one of `config` and `config_path`", path.display()),
        };
        if description.batch == 0 || description.tokens == 0 || description.steps == 0 {
            bail!("`{}`: `batch`, `tokens` and `steps` must be positive", path.display());
        }
        let keep = match (description.grad_checkpoint, description.keep_last_layers, description.keep_expensive_gib) {
            (false, ..) => Keep::All,
            (true, 0, gib) if gib > 0.0 => Keep::Expensive { bytes: (gib * f64::from(1 << 30)) as usize },
            (true, 0, _) => Keep::BlockInputs,
            (true, layers, _) => Keep::LastBlocks(layers),
        };
        let dtype = match description.dtype.as_deref() {
            None | Some("float32") => Dtype::F32,
            Some("bfloat16") => Dtype::BF16,
            Some(other) => bail!("`dtype` is `{other}`, expected `float32` or `bfloat16`"),
        };
        let config = TextConfig::from_json(&json, path)?;
        let session = Session::new()?;
        let mut model = random_model(&config, description.seed, dtype)?;
        let adapted = model.add_adapters(
            &LoraOptions {
                rank: description.lora.rank,
                scale: description.lora.scale,
                targets: LoraTargets::Patterns(description.lora.targets.clone()),
                last_layers: None,
            },
            &Key::new(description.seed)?,
        )?;
        let trainable = model.adapters_trainable()?;
        let options = AdamWOptions { weight_decay: description.optimizer.weight_decay, ..AdamWOptions::default() };
        let optimizer = AdamW::new(options);
        let adapted = adapted.len();
        Ok(Training { session, config, description, keep, model, adapted, trainable, optimizer })
    }

    /// Tokens of a row.
    pub(crate) fn tokens(&self) -> usize {
        self.description.tokens
    }

    pub(crate) fn batch_of(&self, tokens: usize) -> Result<Batch> {
        random_batch(self.description.seed, (self.description.batch, tokens), &self.config)
    }

    /// Forward, backward and update: the loss.
    pub(crate) fn step(&mut self, batch: &Batch) -> Result<f32> {
        let Training { session, model, trainable, keep, optimizer, description, .. } = self;
        let mut gradients = Gradients::new();
        let loss = train_stack(session, model, trainable, batch, *keep, &mut gradients)?;
        optimizer.update(model, &gradients, description.optimizer.lr)?;
        Ok(loss.item::<f32>()?)
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
    let Training { description, model, trainable, .. } = &training;
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
        "mlx_peak_mib": round(cotangent::memory::peak()? as f64 / f64::from(1 << 20), 1),
    }))
}
