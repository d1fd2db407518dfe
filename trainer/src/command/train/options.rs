//! The options of `cotangent train`, and what follows from them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use cotangent::Keep;
use cotangent_models::qwen35::{AheadLoss, LoraOptions, LoraTargets};
use cotangent_trainer::adapter::{AdapterFile, CONFIG_FILE};
use cotangent_trainer::data::Dataset;
use cotangent_trainer::schedule::{Decay, Schedule};
use cotangent_trainer::training::TrainingOptions;
use serde_json::{Value as Json, json};

use crate::command::data_arguments::DataArguments;
use crate::command::values::{Count, count, count_or_all, number_from_zero, positive_count, positive_number};

/// The largest number of iterations that `--epochs` may give.
const MOST_ITERATIONS: usize = 1_000_000_000;

/// Options of `cotangent train`.
#[derive(Args, Debug)]
pub struct Train {
    /// Folder of a Qwen3.5 checkpoint: config.json, safetensors, tokenizer, chat template
    #[arg(long, value_name = "DIR")]
    pub(super) model: PathBuf,
    /// Folder of train.jsonl and valid.jsonl, or a file to train on: on each line {"messages": [{"role": .., "content": ..}, ..]}
    #[arg(long, value_name = "PATH")]
    pub(super) data: PathBuf,
    /// Folder for the adapters; made if it is not there
    #[arg(long, visible_alias = "adapter-path", value_name = "DIR", default_value = "adapters")]
    pub(super) output: PathBuf,

    /// Iterations: steps of the optimizer [default: 1000]
    #[arg(long, value_name = "N", value_parser = positive_count, conflicts_with = "epochs", help_heading = "Length")]
    pub(super) iters: Option<usize>,
    /// Passes over the training data, instead of --iters; may be a fraction
    #[arg(long, value_name = "N", value_parser = positive_number, help_heading = "Length")]
    pub(super) epochs: Option<f64>,
    /// Conversations in a batch
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "4", help_heading = "Length")]
    pub(super) batch_size: usize,
    /// Batches in an iteration; every token counts the same, whichever batch it is in
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "1", help_heading = "Length")]
    pub(super) grad_accumulation_steps: usize,

    #[command(flatten)]
    pub(super) data_arguments: DataArguments,

    /// Highest learning rate
    #[arg(long, value_name = "RATE", value_parser = positive_number, default_value = "1e-5", help_heading = "Optimizer")]
    pub(super) learning_rate: f64,
    /// How the learning rate falls
    #[arg(long, value_enum, default_value_t, help_heading = "Optimizer")]
    pub(super) schedule: Decay,
    /// Iterations in which the learning rate rises to the highest
    #[arg(long, value_name = "N", value_parser = count, default_value = "0", help_heading = "Optimizer")]
    pub(super) warmup: usize,
    /// Where the learning rate falls to
    #[arg(long, value_name = "RATE", value_parser = number_from_zero, default_value = "0", help_heading = "Optimizer")]
    pub(super) min_learning_rate: f64,
    /// Decoupled weight decay of AdamW
    #[arg(long, value_name = "X", value_parser = number_from_zero, default_value = "0.01", help_heading = "Optimizer")]
    pub(super) weight_decay: f64,
    /// Gradients are scaled down to this norm; 0 to leave them
    #[arg(long, value_name = "X", value_parser = number_from_zero, default_value = "1.0", help_heading = "Optimizer")]
    pub(super) max_grad_norm: f64,
    /// Seed of the adapters' first values and of the order of the data
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Optimizer")]
    pub(super) seed: u64,

    /// Multi-token prediction: off; loss WEIGHT, an auxiliary loss [default weight: 0.1]; or only, which trains its head alone: all of it, or the adapters that --target names
    #[arg(long, value_names = ["off|loss|only", "WEIGHT"], num_args = 1..=2, help_heading = "Multi-token prediction")]
    pub(super) mtp: Vec<String>,
    /// With --mtp loss, let its gradient end at its head, so that the rest trains as without it
    #[arg(long, help_heading = "Multi-token prediction")]
    pub(super) mtp_detach: bool,

    /// Train on the load-balancing loss of a mixture of experts too, multiplied by X; 0 for none
    #[arg(long, value_name = "X", value_parser = number_from_zero, default_value = "0", help_heading = "Mixtures of experts")]
    pub(super) router_aux_loss: f64,

    /// Inner dimension of the adapters [default: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=4096), help_heading = "Adapters")]
    pub(super) rank: Option<i32>,
    /// Multiplier of the adapters' output [default: 20]
    #[arg(long, value_name = "X", value_parser = positive_number, conflicts_with = "alpha", help_heading = "Adapters")]
    pub(super) scale: Option<f64>,
    /// Multiplier as PEFT gives it: the scale times the rank
    #[arg(long, value_name = "X", value_parser = positive_number, help_heading = "Adapters")]
    pub(super) alpha: Option<f64>,
    /// What to adapt: attention, linear_attention, mlp, experts, router, vision, mtp, q_proj, mlp.down_proj, in_proj_*, ..; [default: every linear layer but routed experts and routers]
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = "Adapters")]
    pub(super) target: Vec<String>,
    /// Adapt only this number of layers at the end of the model; -1 for all
    #[arg(long, value_name = "N", value_parser = count_or_all, default_value = "-1", allow_hyphen_values = true, help_heading = "Adapters")]
    pub(super) num_layers: Count,
    /// Begin with this adapter, a folder or its adapters.safetensors, and with its rank, scale and layers
    #[arg(long, value_name = "PATH", help_heading = "Adapters")]
    pub(super) resume_adapter_file: Option<PathBuf>,

    /// Iterations between reports
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "10", help_heading = "Reports and saves")]
    pub(super) steps_per_report: usize,
    /// Iterations between validations
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "200", help_heading = "Reports and saves")]
    pub(super) steps_per_eval: usize,
    /// Batches of a validation; -1 for all
    #[arg(long, value_name = "N", value_parser = count_or_all, default_value = "25", allow_hyphen_values = true, help_heading = "Reports and saves")]
    pub(super) val_batches: Count,
    /// Iterations between saves
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "100", help_heading = "Reports and saves")]
    pub(super) save_every: usize,
    /// Go on with the run in the output folder exactly where it stopped
    #[arg(long, help_heading = "Reports and saves")]
    pub(super) resume: bool,
    /// Replace an earlier run in the output folder, once this one has saved
    #[arg(long, conflicts_with = "resume", help_heading = "Reports and saves")]
    pub(super) overwrite: bool,
    /// Write reports also as lines of JSON
    #[arg(long, value_name = "FILE", help_heading = "Reports and saves")]
    pub(super) log_json: Option<PathBuf>,
    /// Draw the loss as an SVG picture in the end
    #[arg(long, value_name = "FILE", help_heading = "Reports and saves")]
    pub(super) loss_curve: Option<PathBuf>,

    /// What the forward pass keeps: all is faster, block-inputs takes far less memory
    #[arg(long, value_enum, default_value_t, help_heading = "Memory")]
    pub(super) keep: KeepOption,
    /// With block-inputs, keep all of the last N layers too: as many as memory allows make a step faster
    #[arg(long, value_name = "N", value_parser = count, default_value = "0", help_heading = "Memory")]
    pub(super) keep_last_layers: usize,
    /// With block-inputs, keep what expensive kernels computed too, up to X GiB: a step need not compute it again
    #[arg(long, value_name = "X", default_value = "0", value_parser = number_from_zero, conflicts_with = "keep_last_layers", help_heading = "Memory")]
    pub(super) keep_gib: f64,
}

/// The results that the forward pass keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum KeepOption {
    /// Every intermediate result.
    All,
    /// The inputs of the layers; the rest is computed again.
    #[default]
    BlockInputs,
}

impl Train {
    pub(super) fn options(&self, train: &Dataset) -> Result<TrainingOptions> {
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
            mtp: self.ahead()?,
            router_aux_loss: self.router_aux_loss as f32,
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

    /// Returns what the head of multi-token prediction learns.
    pub(super) fn ahead(&self) -> Result<Option<AheadLoss>> {
        let words: Vec<&str> = self.mtp.iter().map(String::as_str).collect();
        let weight = match words[..] {
            [] | ["off"] => None,
            ["only"] => return if self.mtp_detach { self.no_detach() } else { Ok(Some(AheadLoss::Alone)) },
            ["loss"] => Some(0.1),
            ["loss", weight] => match positive_number(weight) {
                Ok(weight) => Some(weight as f32),
                Err(expected) => bail!("`--mtp loss {weight}`: {expected}"),
            },
            _ => bail!("`--mtp {}`: expected `off`, `loss`, `loss WEIGHT` or `only`", self.mtp.join(" ")),
        };
        match weight {
            Some(weight) => Ok(Some(AheadLoss::Beside { weight, detached: self.mtp_detach })),
            None if self.mtp_detach => self.no_detach(),
            None => Ok(None),
        }
    }

    fn no_detach<T>(&self) -> Result<T> {
        bail!("`--mtp-detach` is about the gradient of `--mtp loss`; give that too, or leave it out")
    }

    /// Returns whether all of the head of multi-token prediction trains: alone, and where no adapters of it are asked
    /// for.
    pub(super) fn trains_whole_head(&self, start: Option<&AdapterFile>, ahead: Option<AheadLoss>) -> bool {
        let adapts = |start: &AdapterFile| start.layers().iter().any(|layer| is_of_head(layer));
        ahead == Some(AheadLoss::Alone) && self.target.is_empty() && !start.is_some_and(adapts)
    }

    /// Returns how adapters are made: by the options, or like the adapter that the run begins with.
    pub(super) fn lora(
        &self,
        layers: usize,
        start: Option<&AdapterFile>,
        ahead: Option<AheadLoss>,
    ) -> Result<LoraOptions> {
        let rank = match (self.rank, start) {
            (Some(rank), Some(start)) if rank as usize != start.rank => bail!(
                "`--rank {rank}`: the adapter in `{}` has rank {}\nhelp: leave out `--rank`",
                start.file.display(),
                start.rank
            ),
            (_, Some(start)) => i32::try_from(start.rank)?,
            (Some(rank), None) => rank,
            (None, None) => 8,
        };
        if let Some(last) = self.num_layers.limit().filter(|last| *last > layers) {
            bail!("`--num-layers {last}`: the model has {layers} layers; give less, or -1 for all");
        }
        let alone = ahead == Some(AheadLoss::Alone);
        if let Some(other) = self.target.iter().find(|name| alone && !is_of_head(name)) {
            bail!(
                "`--target {other}`: `--mtp only` trains its head alone; leave it out, or name `mtp` or parts of `mtp.*` to \
                 train adapters of it"
            );
        }
        // An adapter that the run begins with does not change while only the head trains.
        let of_start = start.filter(|_| alone || self.target.is_empty() && self.num_layers == Count::All);
        let mut patterns = of_start.map(AdapterFile::layers).unwrap_or_default();
        patterns.extend(self.target.iter().cloned());
        let names_head = patterns.iter().any(|name| is_of_head(name));
        let whole_head = self.trains_whole_head(start, ahead);
        if of_start.is_some() && ahead.is_some() && !whole_head && !names_head {
            patterns.push("mtp".into());
        }
        let is_default = patterns.is_empty() && !whole_head;
        let targets = if is_default { LoraTargets::All } else { LoraTargets::Patterns(patterns) };
        let scale = self.lora_scale(rank, start)? as f32;
        Ok(LoraOptions { rank, scale, targets, last_layers: self.num_layers.limit() })
    }

    fn lora_scale(&self, rank: i32, start: Option<&AdapterFile>) -> Result<f64> {
        let given = self.scale.or(self.alpha.map(|alpha| alpha / f64::from(rank)));
        let Some(start) = start else { return Ok(given.unwrap_or(20.0)) };
        let file = start.file.display();
        match (given, start.config.as_ref().map(|config| config.scale)) {
            // Both become float32, and are compared as such.
            (Some(given), Some(scale)) if given as f32 != scale as f32 => bail!(
                "the scale {given} is asked for, but the adapter in `{file}` was trained with {scale}\nhelp: leave out \
                 `--scale` and `--alpha`"
            ),
            (_, Some(scale)) => Ok(scale),
            (Some(given), None) => Ok(given),
            (None, None) => bail!(
                "`{file}`: its scale is not known, because there is no `{CONFIG_FILE}` beside it\nhelp: give the scale \
                 that it was trained with, by `--scale` or `--alpha`"
            ),
        }
    }

    /// Returns what `adapter_config.json` records of the run, by mlx-lm's names where it has one.
    pub(super) fn arguments(&self, options: &TrainingOptions, max_seq_length: usize) -> BTreeMap<String, Json> {
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
            ("max_seq_length", json!(max_seq_length)),
            ("chat_template_args", json!(self.data_arguments.template.text())),
            ("one_example_per_turn", json!(self.data_arguments.one_example_per_turn)),
            ("learning_rate", json!(peak)),
            ("router_aux_loss", json!(self.router_aux_loss)),
            ("min_learning_rate", json!(minimum)),
            ("schedule", json!(format!("{decay:?}").to_lowercase())),
            ("warmup", json!(warmup)),
            ("weight_decay", json!(self.weight_decay)),
            ("max_grad_norm", json!(self.max_grad_norm)),
            ("mtp", json!(self.mtp.join(" "))),
            ("mtp_detach", json!(self.mtp_detach)),
            ("seed", json!(self.seed)),
            ("steps_per_report", json!(self.steps_per_report)),
            ("steps_per_eval", json!(self.steps_per_eval)),
            ("val_batches", count(self.val_batches)),
            ("save_every", json!(self.save_every)),
            ("resume_adapter_file", json!(self.resume_adapter_file)),
        ];
        arguments.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Returns whether a target is the head of multi-token prediction or a part of it.
fn is_of_head(target: &str) -> bool {
    target == "mtp" || target.starts_with("mtp.")
}
