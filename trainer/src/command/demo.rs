//! `cotangent demo`: a run small enough for any machine, with its effect made visible.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use cotangent::{Keep, Session};
use cotangent_models::qwen35::LoraOptions;
use cotangent_models::reading;
use cotangent_trainer::adapter::CONFIG_FILE;
use cotangent_trainer::base_model::BaseModel;
use cotangent_trainer::data::{Conversation, DataOptions, Dataset, Message, Role, lines};
use cotangent_trainer::generation::{Request, generate};
use cotangent_trainer::interrupt;
use cotangent_trainer::loss_curve::LossCurve;
use cotangent_trainer::reporting::Reporter;
use cotangent_trainer::sampling::SamplingOptions;
use cotangent_trainer::schedule::{Decay, Schedule};
use cotangent_trainer::training::{Claim, Earlier, Event, Outcome, Output, StepReport, Trainer, TrainingOptions};

use super::checkpoint::load_checkpoint;
use super::train::DataFiles;
use super::values::positive_count;

/// The value by which the adapter's configuration marks a demo.
const MARK: &str = "demo";
const RANK: i32 = 8;
const SCALE: f32 = 2.0;
const BATCH_SIZE: usize = 8;
const LEARNING_RATE: f64 = 2e-3;
const LONGEST_ANSWER: usize = 48;

/// Options of `cotangent demo`.
#[derive(Args, Debug)]
pub struct Demo {
    /// Folder for the adapters and the picture of the loss; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "demo-output")]
    output: PathBuf,
    /// Folder of the demo's checkpoint, data and questions
    #[arg(long, value_name = "DIR", default_value = "demo")]
    demo: PathBuf,
    /// Replace what is in the output folder, even if it is no earlier demo
    #[arg(long)]
    overwrite: bool,
    /// Iterations
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "100")]
    iters: usize,
    /// Seed of the adapters' first values and of the order of the data
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// The training data of the demo, and the questions that test it.
struct Lesson {
    train: Dataset,
    valid: Option<Dataset>,
    /// A conversation of the training data.
    sample: Option<Conversation>,
    /// The users' questions in the training data.
    taught: BTreeSet<String>,
    /// Questions whose answers are shown.
    questions: Vec<Conversation>,
    /// Questions that the training data does not have, and the answers wanted.
    exam: Vec<(Conversation, String)>,
}

/// The answers of a model.
struct Answers {
    /// The answers to the questions that are shown.
    shown: Vec<String>,
    /// The number of answers in the exam that are right, word for word.
    right: usize,
}

/// The losses and the duration of the run.
struct Run {
    curve: LossCurve,
    last: Option<StepReport>,
    time: Duration,
}

impl Demo {
    /// Runs the command, and returns its exit code.
    pub fn run(self) -> Result<u8> {
        let started = Instant::now();
        let mut out = io::stdout();
        let claim = Claim::new(&self.output, self.earlier())?;
        let checkpoint = self.demo.join("checkpoint");
        if !checkpoint.is_dir() {
            bail!(
                "`{}` is not there\nhelp: run this from the top of the project's checkout, or say with `--demo` where its \
                 folder `demo` is",
                checkpoint.display()
            );
        }
        let mut session = Session::new()?;
        let mut base = load_checkpoint(&session, &checkpoint)?;
        let lesson = Lesson::load(&self.demo, &base)?;
        introduce(&mut out, &session, &base, &lesson)?;
        let before = lesson.examine(&mut session, &base)?;
        let Some(run) = self.train(claim, &mut session, &mut base, &lesson)? else {
            return Ok(interrupt::exit_code().unwrap_or(0));
        };
        let after = lesson.examine(&mut session, &base)?;
        let picture = self.output.join("loss.svg");
        run.curve.write_svg(&picture, "LoRA on the demo's conversations")?;

        self.describe(&mut out, &base, &run)?;
        compare(&mut out, &lesson, &before, &after)?;
        writeln!(out, "The adapters:   {}", self.output.display())?;
        writeln!(out, "The loss curve: {}", picture.display())?;
        writeln!(out, "Time in all:    {:.0} s", started.elapsed().as_secs_f64())?;
        writeln!(out)?;
        writeln!(out, "Ask it yourself:")?;
        writeln!(
            out,
            "  {} generate --model {} --adapter-path {} --prompt \"What is the capital of Spain?\"",
            shell_word(&std::env::args().next().unwrap_or_else(|| "cotangent".into())),
            shell_word(&checkpoint.display().to_string()),
            shell_word(&self.output.display().to_string())
        )?;
        Ok(0)
    }

    /// An earlier demo is replaced; a run that someone made is not.
    fn earlier(&self) -> Earlier {
        let config = reading::read(&self.output.join(CONFIG_FILE), reading::CONFIGURATION_BYTES).ok();
        let json = config.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
        match json {
            _ if self.overwrite => Earlier::Replace,
            Some(json) if json[MARK] == true => Earlier::Replace,
            _ => Earlier::Refuse,
        }
    }

    fn options(&self) -> TrainingOptions {
        let (steps, warmup) = (self.iters, (self.iters / 20).min(10));
        TrainingOptions {
            batch_size: BATCH_SIZE,
            accumulation: 1,
            schedule: Schedule { peak: LEARNING_RATE, minimum: 0.0, warmup, steps, decay: Decay::Cosine },
            weight_decay: 0.01,
            max_gradient_norm: Some(1.0),
            mtp: None,
            router_aux_loss: 0.0,
            seed: self.seed,
            keep: Keep::BlockInputs,
            steps_per_report: 10,
            steps_per_eval: (steps / 10).max(1),
            validation_batches: None,
            save_every: steps,
        }
    }

    /// `None` if the person interrupted it.
    fn train(&self, claim: Claim, session: &mut Session, base: &mut BaseModel, lesson: &Lesson) -> Result<Option<Run>> {
        let options = self.options();
        let lora = LoraOptions { rank: RANK, scale: SCALE, ..LoraOptions::default() };
        let config = base.add_adapters(&lora, self.seed)?;
        let mut identity = options.identity(&lesson.train);
        identity.extend(base.identity(&config));
        let output = Output::prepare(claim, config, BTreeMap::from([(MARK.to_owned(), true.into())]), identity)?;
        let mut reporter = Reporter::new(options.schedule.steps, 0).quiet();
        let mut last = None;
        let mut observe = |event: &Event| {
            reporter.show(event);
            if let Event::Trained(report) = event {
                last = Some(*report);
            }
        };
        interrupt::install().context("cannot listen for signals")?;
        let started = Instant::now();
        let mut curve = LossCurve::default();
        let trainer = Trainer {
            session,
            model: &mut base.model,
            rope: &base.config.rope,
            vision: None,
            train: &lesson.train,
            valid: lesson.valid.as_ref(),
            options: &options,
            output: Some(&output),
            kept: Vec::new(),
            curve: &mut curve,
        };
        let outcome = trainer.run(None, &mut observe, &interrupt::asked);
        reporter.finish();
        if let Outcome::Interrupted { iteration } = outcome? {
            eprintln!("Interrupted after iteration {iteration} of {}.", options.schedule.steps);
            return Ok(None);
        }
        Ok(Some(Run { curve, last, time: started.elapsed() }))
    }

    fn describe(&self, out: &mut impl Write, base: &BaseModel, run: &Run) -> io::Result<()> {
        let trained: usize = base.model.adapters().values().map(|tensor| tensor.size()).sum();
        write!(
            out,
            "Trained {:.2} million parameters of adapters in {} iterations of {BATCH_SIZE} conversations: {:.0} s",
            trained as f64 / 1e6,
            self.iters,
            run.time.as_secs_f64()
        )?;
        if let Some(StepReport { tokens_per_second, peak_memory, .. }) = run.last {
            write!(out, ", {tokens_per_second:.0} tokens/s, {:.2} GB at most", peak_memory as f64 / 1e9)?;
        }
        writeln!(out, ".")?;
        if let Some((first, last)) = run.curve.validation_ends() {
            writeln!(out, "Validation loss: {first:.3} before, {last:.3} after.")?;
        }
        writeln!(out)
    }
}

impl Lesson {
    fn load(demo: &Path, base: &BaseModel) -> Result<Self> {
        let data = demo.join("data");
        let options = DataOptions::new(base.config.max_position_embeddings);
        let (train, valid) = DataFiles::find(&data)?.load(&base.format, &options)?;
        let conversations = read(&data.join("train.jsonl"))?;
        let users = conversations.iter().flat_map(|conversation| &conversation.messages);
        let taught: BTreeSet<String> =
            users.filter(|message| message.role == Role::User).map(|message| message.content.clone()).collect();
        let mut exam = Vec::new();
        for mut conversation in read(&data.join("valid.jsonl"))? {
            let Some(Message { role: Role::Assistant, content, .. }) = conversation.messages.pop() else { continue };
            if !taught.contains(question(&conversation)) {
                exam.push((conversation, content));
            }
        }
        let questions = read(&demo.join("prompts.jsonl"))?;
        Ok(Lesson { train, valid, sample: conversations.into_iter().next(), taught, questions, exam })
    }

    fn examine(&self, session: &mut Session, base: &BaseModel) -> Result<Answers> {
        let shown = self.questions.iter().map(|question| answer(session, base, question)).collect::<Result<_>>()?;
        let mut right = 0;
        for (question, wanted) in &self.exam {
            right += usize::from(answer(session, base, question)? == *wanted);
        }
        Ok(Answers { shown, right })
    }
}

fn introduce(out: &mut impl Write, session: &Session, base: &BaseModel, lesson: &Lesson) -> io::Result<()> {
    writeln!(
        out,
        "The model: a Qwen3.5 with {:.1} million parameters in {} layers, on {} in {}.",
        base.size() as f64 / 1e6,
        base.config.layers.len(),
        session.backend(),
        base.dtype
    )?;
    writeln!(out, "The data:  {} conversations, such as", lesson.train.examples.len())?;
    for message in lesson.sample.iter().flat_map(|sample| &sample.messages) {
        let speaker = if message.role == Role::Assistant { "assistant" } else { "user" };
        writeln!(out, "             {speaker}: {}", on_one_line(&message.content))?;
    }
    writeln!(out)
}

fn compare(out: &mut impl Write, lesson: &Lesson, before: &Answers, after: &Answers) -> io::Result<()> {
    for ((asked, before), after) in lesson.questions.iter().zip(&before.shown).zip(&after.shown) {
        writeln!(out, "  {}", on_one_line(question(asked)))?;
        writeln!(out, "      before  {}", on_one_line(before))?;
        writeln!(out, "      after   {}", on_one_line(after))?;
        writeln!(out)?;
    }
    let new = lesson.questions.iter().filter(|asked| !lesson.taught.contains(question(asked))).count();
    if new == lesson.questions.len() {
        writeln!(out, "None of these questions is in the training data.")?;
    } else {
        writeln!(out, "{new} of these {} questions are not in the training data.", lesson.questions.len())?;
    }
    writeln!(
        out,
        "valid.jsonl has {} questions that are not in it. Answers that equal the ones there, word for word:\n\
         {} before training, {} after.\n",
        lesson.exam.len(),
        before.right,
        after.right
    )
}

/// Answers greedily.
fn answer(session: &mut Session, base: &BaseModel, question: &Conversation) -> Result<String> {
    let prompt = base.format.encode_prompt(question, None)?.tokens;
    let request = Request {
        prompt: &prompt,
        pictures: None,
        stop: &base.format.stop_ids()?,
        max_tokens: LONGEST_ANSWER,
        sampling: SamplingOptions::default(),
    };
    let generation =
        generate(session, &base.model, &base.config, base.dtype, &request, |_| Ok::<(), anyhow::Error>(()))?;
    Ok(base.format.tokenizer().decode(&generation.tokens, false)?.trim().to_owned())
}

fn read(file: &Path) -> Result<Vec<Conversation>> {
    let mut conversations = Vec::new();
    lines::read_rows(file, lines::DEFAULT_MAX_LINE_BYTES, &mut |_, row| {
        conversations.push(row.into_conversation().map_err(|error| error.to_string())?);
        Ok(())
    })?;
    Ok(conversations)
}

/// Returns the question that a conversation ends with.
fn question(conversation: &Conversation) -> &str {
    conversation.messages.last().map_or("", |message| &message.content)
}

fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A word as a shell takes it: in quotation marks where it has a blank or another character with a meaning of its own.
fn shell_word(word: &str) -> String {
    let plain = |char: char| char.is_alphanumeric() || "/._-+:@%".contains(char);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted_whatever_its_paths_are() {
        for (word, expected) in [
            ("target/release/cotangent", "target/release/cotangent"),
            ("/opt/my folder", "'/opt/my folder'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(word), expected);
        }
    }
}
