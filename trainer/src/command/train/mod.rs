//! `cotangent train`.

mod options;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use cotangent::Session;
use cotangent_trainer::adapter::AdapterFile;
use cotangent_trainer::base_model::BaseModel;
use cotangent_trainer::data::{ChatFormat, DataOptions, Dataset};
use cotangent_trainer::interrupt;
use cotangent_trainer::reporting::Reporter;
use cotangent_trainer::training::{Outcome, Output, Trainer, TrainingOptions, TrainingState, check_folder, state_file};

use super::checkpoint::{load_checkpoint, under_a_spinner};
use super::warn;

pub use options::Train;

impl Train {
    /// Trains.
    pub fn run(self) -> Result<u8> {
        check_folder(&self.output)?;
        let mut session = Session::new()?;
        let start = self.resume_adapter_file.as_deref().map(AdapterFile::load).transpose()?;
        let mut base = load_checkpoint(&session, &self.model)?;
        let data_options = self.data_arguments.prepare(&mut base)?;
        let (train, valid) = load_data(&self.data, &base.format, &data_options)?;
        let options = self.options(&train)?;
        options.check(&train)?;

        let lora = self.lora(base.config.layers.len(), start.as_ref())?;
        let config = base.add_adapters(&lora, self.seed)?;
        if let Some(start) = &start {
            base.set_adapters(start)?;
        }
        let mut identity = options.identity(&train);
        identity.extend(base.identity(&config));
        identity.extend(self.data_arguments.identity());
        let state = if self.resume { Some(TrainingState::load(&state_file(&self.output), &identity)?) } else { None };
        let output =
            Output::prepare(&self.output, config, self.arguments(&options, data_options.max_seq_length), identity)?;
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
        let skipped = base.findings.skipped;
        if skipped.vision + skipped.multi_token_prediction > 0 {
            reporter.print(&format!(
                "Left out of the checkpoint: {} tensors of vision, {} of multi-token prediction",
                skipped.vision, skipped.multi_token_prediction
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
pub fn load_data(dir: &Path, format: &ChatFormat, options: &DataOptions) -> Result<(Dataset, Option<Dataset>)> {
    let load = |file: &Path| {
        let message = format!("Encoding `{}`", file.display());
        under_a_spinner(message, || Dataset::load(file, format, options))
    };
    let train = load(&dir.join("train.jsonl"))?;
    let file = dir.join("valid.jsonl");
    let valid = if fs::exists(&file).with_context(|| format!("`{}`", file.display()))? {
        Some(load(&file)?)
    } else {
        warn(&format!("`{}` is not there: no validation", file.display()));
        None
    };
    for warning in [Some(&train), valid.as_ref()].into_iter().flatten().flat_map(Dataset::warnings) {
        warn(&warning);
    }
    Ok((train, valid))
}
