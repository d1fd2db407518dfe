//! The training loop: which step follows which, when to validate, report and save, and how a run ends.

mod claim;
mod error;
mod event;
mod micro_batches;
mod output;
mod state;
mod step;
mod window;

use std::collections::BTreeMap;
use std::time::Instant;

use cotangent::optimizer::{AdamW, AdamWOptions};
use cotangent::{Keep, Session, Stored, Trainable};
use cotangent_models::checkpoint::Checksum;
use cotangent_models::config::RopeConfig;
use cotangent_models::qwen35::{AheadLoss, Model};

use crate::data::{Dataset, TokenBatch, VisionFormat};
use crate::interrupt;
use crate::loss_curve::LossCurve;
use crate::schedule::{Decay, Schedule};

pub use claim::{Claim, Earlier, check_writable};
pub use error::TrainingError;
pub use event::{Event, RoutingReport, StepReport};
pub use micro_batches::{BatchMaker, MicroBatches};
pub use output::{Output, Saved};
pub use state::{STATE_FILE, TrainingState, state_file};
use window::{Iteration, Window};

pub use step::{Accumulated, Losses, RoutingMeans, accumulate, first_loss, validate};

/// Steps in a row with gradients that are not finite after which a run gives up: one may be bad luck, these are not.
const MOST_SKIPPED: usize = 20;

/// The options of a training run.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingOptions {
    /// Rows of a micro-batch.
    pub batch_size: usize,
    /// Micro-batches of an iteration, which is one step of the optimizer.
    pub accumulation: usize,
    /// The learning rate of each iteration, and how many there are.
    pub schedule: Schedule,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Gradients are scaled down to this global norm.
    pub max_gradient_norm: Option<f32>,
    /// The loss of the head of multi-token prediction; `None` if it is not trained.
    pub mtp: Option<AheadLoss>,
    /// The coefficient of the load-balancing loss of routers; 0 for none.
    pub router_aux_loss: f32,
    /// Decides the order of the examples.
    pub seed: u64,
    /// The results that the forward pass keeps.
    pub keep: Keep,
    /// Iterations between reports.
    pub steps_per_report: usize,
    /// Iterations between validations.
    pub steps_per_eval: usize,
    /// Batches of a validation; `None` for all.
    pub validation_batches: Option<usize>,
    /// Iterations between saves.
    pub save_every: usize,
}

impl TrainingOptions {
    /// The constants of the optimizer.
    pub fn optimizer(&self) -> AdamWOptions {
        AdamWOptions { weight_decay: self.weight_decay, max_norm: self.max_gradient_norm, ..AdamWOptions::default() }
    }

    /// Checks that there is enough to train on.
    ///
    /// # Errors
    /// [`TrainingError::TooFewExamples`] if `data` does not fill a batch.
    pub fn check(&self, data: &Dataset) -> Result<(), TrainingError> {
        let (examples, batch_size) = (data.examples.len(), self.batch_size);
        if examples < batch_size { Err(TrainingError::TooFewExamples { examples, batch_size }) } else { Ok(()) }
    }

    /// Returns the options that must not change if a run goes on where another stopped, by the names of the command's
    /// options.
    pub fn identity(&self, data: &Dataset) -> BTreeMap<String, String> {
        let Schedule { peak, minimum, warmup, steps, decay } = self.schedule;
        let mut identity = BTreeMap::from([
            ("--batch-size", self.batch_size.to_string()),
            ("--grad-accumulation-steps", self.accumulation.to_string()),
            ("--learning-rate", peak.to_string()),
            ("--min-learning-rate", minimum.to_string()),
            ("--warmup", warmup.to_string()),
            ("--schedule", format!("{decay:?}").to_lowercase()),
            ("--weight-decay", self.weight_decay.to_string()),
            ("--max-grad-norm", self.max_gradient_norm.map_or("off".into(), |norm| norm.to_string())),
            ("--seed", self.seed.to_string()),
            ("--mtp", mtp_text(self.mtp)),
            ("--router-aux-loss", self.router_aux_loss.to_string()),
            ("the checksum of the training data", checksum(data).to_string()),
        ]);
        // A constant rate does not depend on where the run ends, so such a run may be prolonged.
        if decay != Decay::Constant {
            identity.insert("--iters", steps.to_string());
        }
        identity.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Returns the loss of multi-token prediction in the words of the command's options.
fn mtp_text(mtp: Option<AheadLoss>) -> String {
    match mtp {
        None => "off".into(),
        Some(AheadLoss::Alone) => "only".into(),
        Some(AheadLoss::Beside { weight, detached }) => {
            format!("loss {weight}{}", if detached { " --mtp-detach" } else { "" })
        }
    }
}

/// Returns the checksum of all tokens, of what is learned of them, and of the names and sizes of pictures.
fn checksum(data: &Dataset) -> Checksum {
    let mut checksum = Checksum::default();
    for example in &data.examples {
        checksum.add(example.tokens.len() as u64);
        for (token, is_target) in example.tokens.iter().zip(&example.is_target) {
            checksum.add(u64::from(*token) << 1 | u64::from(*is_target));
        }
        for picture in &example.pictures {
            checksum.add_bytes(format!("{} {:?}", picture.source, picture.grid).as_bytes());
        }
    }
    checksum
}

/// The end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All iterations are done.
    Finished,
    /// The caller asked for an end; this iteration was the last.
    Interrupted {
        /// Iterations done.
        iteration: usize,
    },
}

/// The model, data and options of a run.
pub struct Trainer<'a> {
    /// The session in which the run computes.
    pub session: &'a mut Session,
    /// The model, adapters included; they are trained, all else is frozen. Where multi-token prediction is trained alone,
    /// only those of its head are trained, or all of its head where it has none.
    pub model: &'a mut Model<Stored>,
    /// The positions of the model.
    pub rope: &'a RopeConfig,
    /// The way in which the model reads pictures, if it has a vision tower.
    pub vision: Option<&'a VisionFormat>,
    /// The examples to train on.
    pub train: &'a Dataset,
    /// The examples to measure on.
    pub valid: Option<&'a Dataset>,
    /// The options of the run.
    pub options: &'a TrainingOptions,
    /// The folder to save in; `None` to save nothing.
    pub output: Option<&'a Output>,
    /// Tensors of the head of multi-token prediction that an earlier run trained, by full name: they are saved again.
    pub kept: Vec<String>,
    /// The curve that gets the losses, after those of the run that this one continues.
    pub curve: &'a mut LossCurve,
}

impl Trainer<'_> {
    /// Trains from the beginning or from `start` to the last iteration, or until `interrupted` says so: then the
    /// iteration in flight is finished and saved; a validation is cut short, and made when the run goes on. `observe` gets
    /// what happens.
    ///
    /// # Errors
    /// [`TrainingError::TooFewExamples`], [`TrainingError::NotFinite`]; if a computation fails, or the last save does:
    /// after an earlier one that fails the run goes on.
    pub fn run(
        mut self,
        start: Option<&TrainingState>,
        observe: &mut dyn FnMut(&Event),
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Outcome, TrainingError> {
        let options = self.options;
        options.check(self.train)?;
        let trainable = match options.mtp {
            Some(AheadLoss::Alone) => self.model.multi_token_head_trainable()?,
            _ => self.model.adapters_trainable()?,
        };
        let mut optimizer = AdamW::new(options.optimizer());
        let mut window = Window::default();
        let (mut done, mut validated) = (0, false);
        if let Some(state) = start {
            self.model.set_adapters(&state.adapters)?;
            optimizer = state.resume_optimizer(options.optimizer())?;
            (done, validated) = (state.iteration, state.validated);
            window.trained_tokens = state.trained_tokens;
            window.sums = state.unreported;
            window.routing = state.unreported_routing.clone();
            *self.curve = state.curve.clone();
        }
        let mut micro_batches = MicroBatches::new(self.train, options.batch_size, options.seed);
        let mut maker = BatchMaker::new(self.rope.clone(), self.vision.cloned())
            .ahead(options.mtp)
            .balanced(options.router_aux_loss);
        let last = options.schedule.steps;
        let mut skipped_in_a_row = 0;

        self.kept.extend(trainable.names().filter(|name| name.starts_with("mtp.")).map(str::to_owned));

        if !validated {
            validated = self.validate(&mut maker, done, observe, interrupted)?;
            if done == last && validated {
                self.save(done, &window, validated, &optimizer, observe)?;
            }
        }
        let mut stop = interrupted();
        while done < last && !stop {
            let iteration = done + 1;
            let learning_rate = options.schedule.learning_rate(done);
            let numbers = done * options.accumulation..iteration * options.accumulation;
            let batches: Vec<TokenBatch> = numbers.map(|number| micro_batches.get(number)).collect();

            let started = Instant::now();
            let step = self.step(&trainable, &mut maker, &batches, &mut optimizer, learning_rate)?;
            window.add(&step, started.elapsed());
            done = iteration;
            if step.applied {
                skipped_in_a_row = 0;
            } else {
                skipped_in_a_row += 1;
                let (loss, gradient_norm) = (step.losses.loss, step.gradient_norm);
                observe(&Event::Skipped { iteration, loss, gradient_norm });
                if skipped_in_a_row == MOST_SKIPPED {
                    return Err(TrainingError::NotFinite { steps: MOST_SKIPPED, iteration, loss });
                }
            }
            self.curve.add_training(iteration, step.losses.loss);
            observe(&Event::Step(window.report(iteration, step.losses, learning_rate)?));
            if iteration % options.steps_per_report == 0 || iteration == last {
                if let Some(losses) = window.mean_losses(step.losses.mtp_loss.is_some()) {
                    observe(&Event::Trained(window.report(iteration, losses, learning_rate)?));
                }
                window.restart();
            }
            validated = true;
            if iteration % options.steps_per_eval == 0 || iteration == last {
                validated = self.validate(&mut maker, iteration, observe, interrupted)?;
            }
            stop = interrupted();
            if iteration % options.save_every == 0 || iteration == last || stop {
                let saved = self.save(iteration, &window, validated, &optimizer, observe);
                match saved {
                    Err(error) if iteration < last && !stop && error.is_about_a_file() => {
                        observe(&Event::NotSaved { iteration, reason: error.to_string() });
                    }
                    saved => saved?,
                }
            }
        }
        Ok(if done < last { Outcome::Interrupted { iteration: done } } else { Outcome::Finished })
    }

    fn step(
        &mut self,
        trainable: &Trainable,
        maker: &mut BatchMaker,
        batches: &[TokenBatch],
        optimizer: &mut AdamW,
        learning_rate: f64,
    ) -> cotangent::Result<Iteration> {
        let keep = self.options.keep;
        let accumulated = accumulate(self.session, self.model, trainable, maker, batches, keep)?;
        let update = optimizer.update(self.model, &accumulated.gradients, learning_rate as f32)?;
        Ok(Iteration {
            losses: accumulated.losses,
            targets: maker.counted(accumulated.targets),
            tokens: accumulated.tokens,
            routing: accumulated.routing,
            applied: update.applied()?,
            gradient_norm: update.gradient_norm()?,
        })
    }

    /// Validates, if there is something to validate on. `false` if that was cut short.
    fn validate(
        &mut self,
        maker: &mut BatchMaker,
        iteration: usize,
        observe: &mut dyn FnMut(&Event),
        interrupted: &dyn Fn() -> bool,
    ) -> Result<bool, TrainingError> {
        let Some(valid) = self.valid else { return Ok(true) };
        let TrainingOptions { batch_size, validation_batches, .. } = *self.options;
        let started = Instant::now();
        let losses = validate(self.session, self.model, maker, valid, batch_size, validation_batches, interrupted)?;
        let Some(losses) = losses else { return Ok(false) };
        self.curve.add_validation(iteration, losses.loss);
        observe(&Event::Validated { iteration, losses, seconds: started.elapsed().as_secs_f64() });
        Ok(true)
    }

    fn save(
        &self,
        iteration: usize,
        window: &Window,
        validated: bool,
        optimizer: &AdamW,
        observe: &mut dyn FnMut(&Event),
    ) -> Result<(), TrainingError> {
        let Some(output) = self.output else { return Ok(()) };
        let _whole = interrupt::hold();
        let mut adapters = self.model.adapters();
        adapters.extend(self.model.named(|name| self.kept.iter().any(|kept| kept == name)));
        let state = TrainingState {
            iteration,
            trained_tokens: window.trained_tokens,
            adapters,
            optimizer: optimizer.state()?,
            validated,
            unreported: window.sums,
            unreported_routing: window.routing.clone(),
            curve: self.curve.clone(),
        };
        observe(&Event::Saved(output.save(&state)?));
        Ok(())
    }
}
