//! The training loop: which step follows which, when to validate, report and save, and how a run ends.

mod error;
mod event;
mod micro_batches;
mod output;
mod state;
mod step;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cotangent::optimizer::{AdamW, AdamWOptions};
use cotangent::{Keep, Session, Stored, Trainable};
use cotangent_models::config::RopeConfig;
use cotangent_models::qwen35::Model;

use crate::data::{Batch, Dataset};
use crate::schedule::{Decay, Schedule};

pub use error::TrainingError;
pub use event::{Event, Report};
pub use micro_batches::{BatchMaker, MicroBatches};
pub use output::{Output, Saved, check_folder};
pub use state::{STATE_FILE, TrainingState, state_file};
pub use step::{Accumulated, accumulate, validate};

/// Steps in a row with gradients that are not finite after which a run gives up: one may be bad luck, these are not.
const MOST_SKIPPED: usize = 20;

/// How to train.
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
    /// Decides the order of the examples.
    pub seed: u64,
    /// What the forward pass keeps.
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

    /// What must be the same for a run to go on where another stopped, by the names of the command's options.
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
            ("the checksum of the training data", format!("{:016x}", checksum(data))),
        ]);
        // A constant rate does not depend on where the run ends, so such a run may be prolonged.
        if decay != Decay::Constant {
            identity.insert("--iters", steps.to_string());
        }
        identity.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// FNV-1a over all tokens and what is learned of them.
fn checksum(data: &Dataset) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |value: u64| hash = (hash ^ value).wrapping_mul(0x0000_0100_0000_01b3);
    for example in &data.examples {
        add(example.tokens.len() as u64);
        for (token, is_target) in example.tokens.iter().zip(&example.is_target) {
            add(u64::from(*token) << 1 | u64::from(*is_target));
        }
    }
    hash
}

/// How a run ended.
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

/// What a run works with.
pub struct Trainer<'a> {
    /// Where it computes.
    pub session: &'a mut Session,
    /// The model, adapters included; they are trained, all else is frozen.
    pub model: &'a mut Model<Stored>,
    /// The positions of the model.
    pub rope: &'a RopeConfig,
    /// What to learn.
    pub train: &'a Dataset,
    /// What to measure.
    pub valid: Option<&'a Dataset>,
    /// How.
    pub options: &'a TrainingOptions,
    /// Where to save; `None` for nowhere.
    pub output: Option<&'a Output>,
}

impl Trainer<'_> {
    /// Trains from the beginning or from `start` to the last iteration, or until `interrupted` says so: then the
    /// iteration in flight is finished and saved. `observe` is told what happens.
    ///
    /// # Errors
    /// [`TrainingError::TooFewExamples`], [`TrainingError::NotFinite`]; if a computation fails or a file cannot be
    /// written.
    pub fn run(
        mut self,
        start: Option<&TrainingState>,
        observe: &mut dyn FnMut(&Event),
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Outcome, TrainingError> {
        let options = self.options;
        options.check(self.train)?;
        let trainable = self.model.adapters_trainable()?;
        let mut optimizer = AdamW::new(options.optimizer());
        let mut done = 0;
        let mut window = Window::default();
        if let Some(state) = start {
            self.model.set_adapters(&state.adapters)?;
            optimizer = state.resume_optimizer(options.optimizer())?;
            (done, window.trained_tokens) = (state.iteration, state.trained_tokens);
        }
        let mut micro_batches = MicroBatches::new(self.train, options.batch_size, options.seed);
        let mut maker = BatchMaker::new(self.rope.clone());
        let last = options.schedule.steps;
        let mut skipped_in_a_row = 0;

        if done == 0 {
            self.validate(&mut maker, 0, observe, interrupted)?;
        }
        let mut stop = interrupted();
        while done < last && !stop {
            let iteration = done + 1;
            let learning_rate = options.schedule.learning_rate(done);
            let numbers = done * options.accumulation..iteration * options.accumulation;
            let batches: Vec<Batch> = numbers.map(|number| micro_batches.get(number)).collect();

            let started = Instant::now();
            let step = self.step(&trainable, &mut maker, &batches, &mut optimizer, learning_rate)?;
            window.add(&step, started.elapsed());
            done = iteration;
            if step.applied {
                skipped_in_a_row = 0;
            } else {
                skipped_in_a_row += 1;
                observe(&Event::Skipped { iteration, loss: step.loss, gradient_norm: step.gradient_norm });
                if skipped_in_a_row == MOST_SKIPPED {
                    return Err(TrainingError::NotFinite { steps: MOST_SKIPPED, iteration, loss: step.loss });
                }
            }
            observe(&Event::Step(window.report(iteration, step.loss, learning_rate)?));
            if iteration % options.steps_per_report == 0 || iteration == last {
                if let Some(loss) = window.mean_loss() {
                    observe(&Event::Trained(window.report(iteration, loss, learning_rate)?));
                }
                window.restart();
            }
            if iteration % options.steps_per_eval == 0 || iteration == last {
                self.validate(&mut maker, iteration, observe, interrupted)?;
            }
            stop = interrupted();
            if iteration % options.save_every == 0 || iteration == last || stop {
                self.save(iteration, window.trained_tokens, &optimizer, observe)?;
            }
        }
        Ok(if done < last { Outcome::Interrupted { iteration: done } } else { Outcome::Finished })
    }

    fn step(
        &mut self,
        trainable: &Trainable,
        maker: &mut BatchMaker,
        batches: &[Batch],
        optimizer: &mut AdamW,
        learning_rate: f64,
    ) -> cotangent::Result<Step> {
        let keep = self.options.keep;
        let accumulated = accumulate(self.session, self.model, trainable, maker, batches, keep)?;
        let update = optimizer.update(self.model, &accumulated.gradients, learning_rate as f32)?;
        Ok(Step {
            loss: accumulated.loss,
            targets: accumulated.targets,
            tokens: accumulated.tokens,
            applied: update.applied()?,
            gradient_norm: update.gradient_norm()?,
        })
    }

    fn validate(
        &mut self,
        maker: &mut BatchMaker,
        iteration: usize,
        observe: &mut dyn FnMut(&Event),
        interrupted: &dyn Fn() -> bool,
    ) -> Result<(), TrainingError> {
        let Some(valid) = self.valid else { return Ok(()) };
        let TrainingOptions { batch_size, validation_batches, .. } = *self.options;
        let started = Instant::now();
        let loss = validate(self.session, self.model, maker, valid, batch_size, validation_batches, interrupted)?;
        if let Some(loss) = loss {
            observe(&Event::Validated { iteration, loss, seconds: started.elapsed().as_secs_f64() });
        }
        Ok(())
    }

    fn save(
        &self,
        iteration: usize,
        trained_tokens: usize,
        optimizer: &AdamW,
        observe: &mut dyn FnMut(&Event),
    ) -> Result<(), TrainingError> {
        let Some(output) = self.output else { return Ok(()) };
        let (adapters, optimizer) = (self.model.adapters(), optimizer.state()?);
        let state = TrainingState { iteration, trained_tokens, adapters, optimizer };
        observe(&Event::Saved(output.save(&state)?));
        Ok(())
    }
}

/// What one iteration did.
struct Step {
    loss: f64,
    targets: usize,
    tokens: usize,
    applied: bool,
    gradient_norm: f32,
}

/// What happened since the last report.
#[derive(Default)]
struct Window {
    iterations: usize,
    elapsed: Duration,
    tokens: usize,
    loss_sum: f64,
    targets: usize,
    /// Since the run began.
    trained_tokens: usize,
}

impl Window {
    fn add(&mut self, step: &Step, elapsed: Duration) {
        self.iterations += 1;
        self.elapsed += elapsed;
        self.tokens += step.tokens;
        if step.applied {
            self.loss_sum += step.loss * step.targets as f64;
            self.targets += step.targets;
            self.trained_tokens += step.targets;
        }
    }

    /// Of the tokens that the loss counted; `None` if all steps were skipped.
    fn mean_loss(&self) -> Option<f64> {
        (self.targets > 0).then(|| self.loss_sum / self.targets as f64)
    }

    fn report(&self, iteration: usize, loss: f64, learning_rate: f64) -> cotangent::Result<Report> {
        let seconds = self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        Ok(Report {
            iteration,
            loss,
            learning_rate,
            iterations_per_second: self.iterations as f64 / seconds,
            tokens_per_second: self.tokens as f64 / seconds,
            trained_tokens: self.trained_tokens,
            peak_memory: cotangent::memory::peak()?,
        })
    }

    fn restart(&mut self) {
        *self = Window { trained_tokens: self.trained_tokens, ..Window::default() };
    }
}
