//! `cotangent train`.

mod data_files;
mod options;

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context, Result, bail};
use cotangent::Session;
use cotangent_models::config::FeedForwardConfig;
use cotangent_models::qwen35::AheadLoss;
use cotangent_trainer::adapter::{AdapterFile, Parts};
use cotangent_trainer::base_model::BaseModel;
use cotangent_trainer::data::Dataset;
use cotangent_trainer::interrupt;
use cotangent_trainer::loss_curve::LossCurve;
use cotangent_trainer::reporting::Reporter;
use cotangent_trainer::training::{
    BatchMaker, Claim, Earlier, Outcome, Output, Trainer, TrainingOptions, TrainingState, check_writable, first_loss,
    state_file,
};

use super::checkpoint::{check_finite, load_checkpoint, warn_of_other_norms};

pub use data_files::DataFiles;
pub use options::Train;

impl Train {
    /// Runs the command, and returns its exit code.
    pub fn run(self) -> Result<u8> {
        // Everything that can fail at once is checked before the weights are read, which takes long.
        let claim = Claim::new(&self.output, self.earlier())?;
        for file in [&self.log_json, &self.loss_curve].into_iter().flatten() {
            check_writable(file.parent().unwrap_or(Path::new(".")))?;
        }
        let files = DataFiles::find(&self.data)?;
        let ahead = self.ahead()?;
        let start = self.resume_adapter_file.as_deref().map(AdapterFile::load).transpose()?;
        let mut session = Session::new()?;
        let mut base = load_checkpoint(&session, &self.model)?;
        let data_options = self.data_arguments.prepare(&mut base)?;
        let (train, valid) = files.load(&base.format, &data_options)?;
        let options = self.options(&train)?;
        options.check(&train)?;
        let has_pictures = train.pictures() + valid.as_ref().map_or(0, Dataset::pictures) > 0;
        let of_start = start.as_ref().map(AdapterFile::parts).unwrap_or_default();
        let trains_whole_head = self.trains_whole_head(start.as_ref(), ahead);
        if trains_whole_head {
            base.load_multi_token_head_to_train()?;
        }
        base.load_parts(Parts {
            tower: has_pictures || of_start.tower,
            multi_token_head: ahead.is_some() || of_start.multi_token_head,
        })?;

        let lora = self.lora(base.config.layers.len(), start.as_ref(), ahead)?;
        let config = base.add_adapters(&lora, self.seed)?;
        if let Some(start) = &start {
            base.set_adapters(start)?;
            if let Some(config) = &start.config {
                warn_of_other_norms(config, &base.findings, &start.file);
            }
        }
        check_ahead(ahead, &base, &train)?;
        if trains_whole_head {
            base.model.multi_token_head_trainable().context("`--mtp only`")?;
        }
        self.check_router_loss(ahead, &base)?;
        let mut identity = options.identity(&train);
        identity.extend(base.identity(&config));
        identity.extend(self.data_arguments.identity());
        let state = if self.resume { Some(TrainingState::load(&state_file(&self.output), &identity)?) } else { None };
        let done = state.as_ref().map_or(0, |state| state.iteration);
        if done >= options.schedule.steps && state.as_ref().is_some_and(|state| state.validated) {
            writeln!(
                io::stdout(),
                "Nothing to do: the run in `{}` has all its {done} iterations\nhelp: give more by `--iters`",
                self.output.display()
            )?;
            return Ok(0);
        }
        if state.is_none() {
            let mut maker = BatchMaker::new(base.config.rope.clone(), base.vision().cloned()).ahead(ahead);
            let loss = first_loss(&mut session, &base.model, &mut maker, &train, &options)?;
            check_finite(&base, loss)?;
        }
        let output = Output::prepare(claim, config, self.arguments(&options, data_options.max_seq_length), identity)?;
        let mut reporter = Reporter::new(options.schedule.steps, done);
        if let Some(file) = &self.log_json {
            reporter = reporter.with_json(file, state.as_ref())?;
        }
        interrupt::install().context("cannot listen for signals")?;
        self.say_what_is_trained(&reporter, &session, &mut base, &train, done, &options);

        let mut curve = LossCurve::default();
        let vision = base.vision().cloned();
        let trainer = Trainer {
            session: &mut session,
            model: &mut base.model,
            rope: &base.config.rope,
            vision: vision.as_ref(),
            train: &train,
            valid: valid.as_ref(),
            options: &options,
            output: Some(&output),
            kept: start.iter().flat_map(AdapterFile::head).map(str::to_owned).collect(),
            curve: &mut curve,
        };
        let outcome = trainer.run(state.as_ref(), &mut |event| reporter.show(event), &interrupt::asked);
        reporter.finish();
        let outcome = outcome?;
        if let Some(file) = &self.loss_curve {
            curve.write_svg(file, "Loss")?;
        }
        if let Outcome::Interrupted { iteration } = outcome {
            let message = match iteration - done {
                0 => "Interrupted before an iteration was done: nothing was saved.".to_owned(),
                _ => format!(
                    "Interrupted after iteration {iteration}: the adapters are in `{}`; the same command with `--resume` \
                     goes on.",
                    self.output.display()
                ),
            };
            // The terminal may be closed.
            let _ = writeln!(io::stderr(), "{message}");
        }
        Ok(interrupt::exit_code().unwrap_or(0))
    }

    fn earlier(&self) -> Earlier {
        match (self.resume, self.overwrite) {
            (true, _) => Earlier::Resume,
            (false, true) => Earlier::Replace,
            (false, false) => Earlier::Refuse,
        }
    }

    fn check_router_loss(&self, ahead: Option<AheadLoss>, base: &BaseModel) -> Result<()> {
        if self.router_aux_loss == 0.0 {
            return Ok(());
        }
        let given = format!("`--router-aux-loss {}`", self.router_aux_loss);
        if matches!(base.config.feed_forward, FeedForwardConfig::Dense { .. }) {
            bail!("{given}: the model has no experts, and so no routers\nhelp: leave it out");
        }
        if ahead == Some(AheadLoss::Alone) {
            bail!("{given}: `--mtp only` trains nothing that the routers read\nhelp: leave out one of the two");
        }
        Ok(())
    }

    fn say_what_is_trained(
        &self,
        reporter: &Reporter,
        session: &Session,
        base: &mut BaseModel,
        train: &Dataset,
        done: usize,
        options: &TrainingOptions,
    ) {
        let millions = |count: usize| count as f64 / 1e6;
        let is_adapter = |name: &str| name.ends_with(".lora_a") || name.ends_with(".lora_b");
        let trainable = match options.mtp {
            Some(AheadLoss::Alone) => base.model.multi_token_head_trainable(),
            _ => base.model.adapters_trainable(),
        };
        let trains = |name: &str| trainable.as_ref().is_ok_and(|trainable| trainable.contains(name));
        let (adapters, trained) = (base.model.count(is_adapter), base.model.count(trains));
        let all = adapters + base.size();
        reporter.print(&format!(
            "Trainable parameters: {:.3}% ({:.3}M/{:.3}M)",
            100.0 * trained as f64 / all as f64,
            millions(trained),
            millions(all)
        ));
        if base.model.leaves_experts_as_they_are() {
            reporter.print(
                "The experts that the router chooses from stay as they are: no target reaches them (`--target experts` does)",
            );
        }
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

/// Checks that the head of multi-token prediction has something to learn, and to learn it with.
fn check_ahead(ahead: Option<AheadLoss>, base: &BaseModel, train: &Dataset) -> Result<()> {
    if ahead.is_some() && train.targets_after_next() == 0 {
        bail!("`--mtp`: no answer of the training data has a token after its next\nhelp: leave it out");
    }
    let detached = matches!(ahead, Some(AheadLoss::Beside { detached: true, .. }));
    if detached && base.model.count(|name| name.starts_with("mtp.") && name.ends_with(".lora_a")) == 0 {
        bail!(
            "`--mtp-detach`: nothing of the head is adapted, so its loss would train nothing\nhelp: add `--target mtp`"
        );
    }
    Ok(())
}
