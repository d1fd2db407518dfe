//! `cotangent train`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use cotangent::{Keep, Session};
use cotangent_models::qwen35::{LoraOptions, LoraTargets};
use cotangent_trainer::base_model::BaseModel;
use cotangent_trainer::data::{ChatFormat, Dataset};
use cotangent_trainer::interrupt;
use cotangent_trainer::reporting::Reporter;
use cotangent_trainer::schedule::{Decay, Schedule};
use cotangent_trainer::training::{Outcome, Output, Trainer, TrainingOptions, TrainingState, check_folder, state_file};
use serde_json::{Value as Json, json};

use super::values::{Count, count, count_or_all, number_from_zero, positive_count, positive_number};

/// The most that `--epochs` may amount to.
const MOST_ITERATIONS: usize = 1_000_000_000;

/// Options of `cotangent train`.
#[derive(Args, Debug)]
pub struct Train {
    /// Folder of a Qwen3.5 checkpoint: config.json, safetensors, tokenizer, chat template
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Folder of train.jsonl and valid.jsonl: on each line {"messages": [{"role": .., "content": ..}, ..]}
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Folder for the adapters; made if it is not there
    #[arg(long, visible_alias = "adapter-path", value_name = "DIR", default_value = "adapters")]
    output: PathBuf,

    /// Iterations: steps of the optimizer [default: 1000]
    #[arg(long, value_name = "N", value_parser = positive_count, conflicts_with = "epochs", help_heading = "Length")]
    iters: Option<usize>,
    /// Passes over the training data, instead of --iters; may be a fraction
    #[arg(long, value_name = "N", value_parser = positive_number, help_heading = "Length")]
    epochs: Option<f64>,
    /// Conversations in a batch
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "4", help_heading = "Length")]
    batch_size: usize,
    /// Batches in an iteration; every token counts the same, whichever batch it is in
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "1", help_heading = "Length")]
    grad_accumulation_steps: usize,
    /// Conversations are cut at so many tokens
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "2048", help_heading = "Length")]
    max_seq_length: usize,

    /// Highest learning rate
    #[arg(long, value_name = "RATE", value_parser = positive_number, default_value = "1e-5", help_heading = "Optimizer")]
    learning_rate: f64,
    /// How the learning rate falls
    #[arg(long, value_enum, default_value_t, help_heading = "Optimizer")]
    schedule: Decay,
    /// Iterations in which the learning rate rises to the highest
    #[arg(long, value_name = "N", value_parser = count, default_value = "0", help_heading = "Optimizer")]
    warmup: usize,
    /// Where the learning rate falls to
    #[arg(long, value_name = "RATE", value_parser = number_from_zero, default_value = "0", help_heading = "Optimizer")]
    min_learning_rate: f64,
    /// Decoupled weight decay of AdamW
    #[arg(long, value_name = "X", value_parser = number_from_zero, default_value = "0.01", help_heading = "Optimizer")]
    weight_decay: f64,
    /// Gradients are scaled down to this norm; 0 to leave them
    #[arg(long, value_name = "X", value_parser = number_from_zero, default_value = "1.0", help_heading = "Optimizer")]
    max_grad_norm: f64,
    /// Of the adapters' first values and of the order of the data
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Optimizer")]
    seed: u64,

    /// Inner dimension of the adapters
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=4096), default_value = "8", help_heading = "Adapters")]
    rank: i32,
    /// Multiplier of the adapters' output [default: 20]
    #[arg(long, value_name = "X", value_parser = positive_number, conflicts_with = "alpha", help_heading = "Adapters")]
    scale: Option<f64>,
    /// Multiplier as PEFT gives it: the scale times the rank
    #[arg(long, value_name = "X", value_parser = positive_number, help_heading = "Adapters")]
    alpha: Option<f64>,
    /// What to adapt: attention, linear_attention, mlp, q_proj, mlp.down_proj, in_proj_*, ..; [default: every linear layer]
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = "Adapters")]
    target: Vec<String>,
    /// Adapt only the last so many layers; -1 for all
    #[arg(long, value_name = "N", value_parser = count_or_all, default_value = "-1", allow_hyphen_values = true, help_heading = "Adapters")]
    num_layers: Count,
    /// Begin with the weights of this adapters.safetensors
    #[arg(long, value_name = "FILE", conflicts_with = "resume", help_heading = "Adapters")]
    resume_adapter_file: Option<PathBuf>,

    /// Iterations between reports
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "10", help_heading = "Reports and saves")]
    steps_per_report: usize,
    /// Iterations between validations
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "200", help_heading = "Reports and saves")]
    steps_per_eval: usize,
    /// Batches of a validation; -1 for all
    #[arg(long, value_name = "N", value_parser = count_or_all, default_value = "25", allow_hyphen_values = true, help_heading = "Reports and saves")]
    val_batches: Count,
    /// Iterations between saves
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "100", help_heading = "Reports and saves")]
    save_every: usize,
    /// Go on with the run in the output folder exactly where it stopped
    #[arg(long, help_heading = "Reports and saves")]
    resume: bool,
    /// Write reports also as lines of JSON
    #[arg(long, value_name = "FILE", help_heading = "Reports and saves")]
    log_json: Option<PathBuf>,
    /// Draw the loss as an SVG picture in the end
    #[arg(long, value_name = "FILE", help_heading = "Reports and saves")]
    loss_curve: Option<PathBuf>,

    /// What the forward pass keeps: all is faster, block-inputs takes far less memory
    #[arg(long, value_enum, default_value_t, help_heading = "Memory")]
    keep: KeepOption,
    /// With block-inputs, keep all of the last N layers too: as many as memory allows make a step faster
    #[arg(long, value_name = "N", value_parser = count, default_value = "0", help_heading = "Memory")]
    keep_last_layers: usize,
    /// With block-inputs, keep what expensive kernels computed too, up to X GiB: a step need not compute it again
    #[arg(long, value_name = "X", default_value = "0", value_parser = number_from_zero, conflicts_with = "keep_last_layers", help_heading = "Memory")]
    keep_gib: f64,
}

/// What the forward pass keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum KeepOption {
    /// Every intermediate result.
    All,
    /// The inputs of the layers; the rest is computed again.
    #[default]
    BlockInputs,
}

impl Train {
    /// Trains.
    pub fn run(self) -> Result<u8> {
        check_folder(&self.output)?;
        let mut session = Session::new()?;
        let mut base = BaseModel::load(&session, &self.model)?;
        let (train, valid) = load_data(&self.data, &base.format, self.max_seq_length)?;
        let options = self.options(&train)?;
        options.check(&train)?;

        let lora = self.lora(base.config.layers.len())?;
        let config = base.add_adapters(&lora, self.seed)?;
        if let Some(file) = &self.resume_adapter_file {
            base.set_adapters(file)?;
        }
        let mut identity = options.identity(&train);
        identity.insert("--scale".into(), config.scale.to_string());
        let state = if self.resume { Some(TrainingState::load(&state_file(&self.output), &identity)?) } else { None };
        let output = Output::prepare(&self.output, config, self.arguments(&options), identity)?;
        let done = state.as_ref().map_or(0, |state| state.iteration);
        let mut reporter = Reporter::new(options.schedule.steps, done);
        if let Some(file) = &self.log_json {
            reporter = reporter.with_json(file, self.resume).with_context(|| format!("`{}`", file.display()))?;
        }
        interrupt::install().context("cannot listen for Ctrl-C")?;
        self.say_what_is_trained(&reporter, &session, &base, &train, done, &options);

        let trainer = Trainer {
            session: &mut session,
            model: &mut base.model,
            rope: &base.config.rope,
            train: &train,
            valid: valid.as_ref(),
            options: &options,
            output: Some(&output),
        };
        let outcome = trainer.run(state.as_ref(), &mut |event| reporter.show(event), &interrupt::asked);
        let curve = reporter.finish();
        let outcome = outcome?;
        if let Some(file) = &self.loss_curve {
            curve.write_svg(file, "Loss")?;
        }
        match outcome {
            Outcome::Finished => Ok(0),
            Outcome::Interrupted { iteration } => {
                match iteration - done {
                    0 => eprintln!("Interrupted before an iteration was done: nothing was saved."),
                    _ => eprintln!(
                        "Interrupted after iteration {iteration}: the adapters are in `{}`; the same command with \
                         `--resume` goes on.",
                        self.output.display()
                    ),
                }
                Ok(interrupt::EXIT_CODE)
            }
        }
    }

    fn options(&self, train: &Dataset) -> Result<TrainingOptions> {
        let steps = match self.epochs {
            Some(epochs) => {
                let batches = train.examples.len().div_ceil(self.batch_size);
                (epochs * batches as f64 / self.grad_accumulation_steps as f64).ceil() as usize
            }
            None => self.iters.unwrap_or(1000),
        };
        if steps > MOST_ITERATIONS {
            bail!(
                "{steps} iterations are more than any run has, expected at most {MOST_ITERATIONS}; give less `--epochs`"
            );
        }
        if self.warmup >= steps {
            bail!("`--warmup {}` leaves none of the {steps} iterations for training; give less", self.warmup);
        }
        if self.min_learning_rate > self.learning_rate {
            bail!(
                "`--min-learning-rate {}` is above `--learning-rate {}`; give less",
                self.min_learning_rate,
                self.learning_rate
            );
        }
        if self.keep == KeepOption::All && (self.keep_last_layers > 0 || self.keep_gib > 0.0) {
            bail!("`--keep all` keeps everything; leave out `--keep-last-layers` and `--keep-gib`, or `--keep all`");
        }
        Ok(TrainingOptions {
            batch_size: self.batch_size,
            accumulation: self.grad_accumulation_steps,
            schedule: Schedule {
                peak: self.learning_rate,
                minimum: self.min_learning_rate,
                warmup: self.warmup,
                steps,
                decay: self.schedule,
            },
            weight_decay: self.weight_decay as f32,
            max_gradient_norm: (self.max_grad_norm > 0.0).then_some(self.max_grad_norm as f32),
            seed: self.seed,
            keep: match self.keep {
                KeepOption::All => Keep::All,
                KeepOption::BlockInputs if self.keep_last_layers > 0 => Keep::LastBlocks(self.keep_last_layers),
                KeepOption::BlockInputs if self.keep_gib > 0.0 => {
                    Keep::Expensive { bytes: (self.keep_gib * f64::from(1 << 30)) as usize }
                }
                KeepOption::BlockInputs => Keep::BlockInputs,
            },
            steps_per_report: self.steps_per_report,
            steps_per_eval: self.steps_per_eval,
            validation_batches: self.val_batches.limit(),
            save_every: self.save_every,
        })
    }

    fn lora(&self, layers: usize) -> Result<LoraOptions> {
        let scale = match (self.scale, self.alpha) {
            (Some(scale), _) => scale,
            (None, Some(alpha)) => alpha / f64::from(self.rank),
            (None, None) => 20.0,
        };
        if let Some(last) = self.num_layers.limit().filter(|last| *last > layers) {
            bail!("`--num-layers {last}`: the model has {layers} layers; give less, or -1 for all");
        }
        Ok(LoraOptions {
            rank: self.rank,
            scale: scale as f32,
            targets: match self.target.as_slice() {
                [] => LoraTargets::All,
                names => LoraTargets::Patterns(names.to_vec()),
            },
            last_layers: self.num_layers.limit(),
        })
    }

    /// What `adapter_config.json` records of the run, by mlx-lm's names where it has one.
    fn arguments(&self, options: &TrainingOptions) -> BTreeMap<String, Json> {
        let Schedule { peak, minimum, warmup, steps, decay } = options.schedule;
        let count = |count: Count| count.limit().map_or(json!(-1), |count| json!(count));
        let arguments = [
            ("model", json!(self.model)),
            ("data", json!(self.data)),
            ("adapter_path", json!(self.output)),
            ("train", json!(true)),
            ("mask_prompt", json!(true)),
            ("optimizer", json!("adamw")),
            ("iters", json!(steps)),
            ("batch_size", json!(self.batch_size)),
            ("grad_accumulation_steps", json!(self.grad_accumulation_steps)),
            ("max_seq_length", json!(self.max_seq_length)),
            ("learning_rate", json!(peak)),
            ("min_learning_rate", json!(minimum)),
            ("schedule", json!(format!("{decay:?}").to_lowercase())),
            ("warmup", json!(warmup)),
            ("weight_decay", json!(self.weight_decay)),
            ("max_grad_norm", json!(self.max_grad_norm)),
            ("seed", json!(self.seed)),
            ("steps_per_report", json!(self.steps_per_report)),
            ("steps_per_eval", json!(self.steps_per_eval)),
            ("val_batches", count(self.val_batches)),
            ("save_every", json!(self.save_every)),
            ("resume_adapter_file", json!(self.resume_adapter_file)),
        ];
        arguments.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn say_what_is_trained(
        &self,
        reporter: &Reporter,
        session: &Session,
        base: &BaseModel,
        train: &Dataset,
        done: usize,
        options: &TrainingOptions,
    ) {
        let millions = |count: usize| count as f64 / 1e6;
        let is_adapter = |name: &str| name.ends_with(".lora_a") || name.ends_with(".lora_b");
        let (trained, frozen) = (base.model.count(is_adapter), base.model.count(|name| !is_adapter(name)));
        reporter.print(&format!(
            "Trainable parameters: {:.3}% ({:.3}M/{:.3}M)",
            100.0 * trained as f64 / (trained + frozen) as f64,
            millions(trained),
            millions(trained + frozen)
        ));
        if base.skipped.vision + base.skipped.multi_token_prediction > 0 {
            reporter.print(&format!(
                "Left out of the checkpoint: {} tensors of vision, {} of multi-token prediction",
                base.skipped.vision, base.skipped.multi_token_prediction
            ));
        }
        reporter.print(&format!(
            "Starting training on {}..., iters: {}, conversations: {}, tokens to learn: {}",
            session.backend(),
            options.schedule.steps,
            train.examples.len(),
            train.targets()
        ));
        if done > 0 {
            reporter.print(&format!("Resuming after iteration {done}"));
        }
    }
}

/// Loads `train.jsonl` and, if it is there, `valid.jsonl`; says what was cut or left out.
pub fn load_data(dir: &Path, format: &ChatFormat, max_seq_length: usize) -> Result<(Dataset, Option<Dataset>)> {
    let train = Dataset::load(&dir.join("train.jsonl"), format, max_seq_length)?;
    let file = dir.join("valid.jsonl");
    let valid = if fs::exists(&file).with_context(|| format!("`{}`", file.display()))? {
        Some(Dataset::load(&file, format, max_seq_length)?)
    } else {
        eprintln!("warning: `{}` is not there: no validation", file.display());
        None
    };
    for warning in [Some(&train), valid.as_ref()].into_iter().flatten().flat_map(Dataset::warnings) {
        eprintln!("warning: {warning}");
    }
    Ok((train, valid))
}
