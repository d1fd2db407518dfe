//! `cotangent generate`.

use std::io::{self, IsTerminal, Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use cotangent::Session;
use cotangent_models::quoting::{WithoutControls, quoted};
use cotangent_models::reading;
use cotangent_trainer::adapter::Parts;
use cotangent_trainer::data::{Conversation, Json, Message, PICTURE, Role};
use cotangent_trainer::generation::{Generation, Request, generate};
use cotangent_trainer::pictures::{PictureSource, VisualSource};
use cotangent_trainer::sampling::SamplingOptions;

use super::checkpoint::{attach, load_checkpoint};
use super::data_arguments::{PictureArguments, TemplateArguments};
use super::values::{count, number_from_zero, positive_count, probability};

/// Options of `cotangent generate`.
#[derive(Args, Debug)]
pub struct Generate {
    /// Folder of a Qwen3.5 checkpoint: config.json, safetensors, tokenizer, chat template
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Folder of adapters, as `cotangent train` or mlx-lm writes it
    #[arg(long, value_name = "DIR")]
    adapter_path: Option<PathBuf>,

    /// What the user says; - for what standard input holds
    #[arg(
        long,
        value_name = "TEXT",
        required_unless_present = "messages",
        conflicts_with = "messages",
        help_heading = "Prompt"
    )]
    prompt: Option<String>,
    /// A JSON file: {"messages": [..]} as in a line of training data, or the list of messages alone
    #[arg(long, value_name = "FILE", help_heading = "Prompt")]
    messages: Option<PathBuf>,
    /// A picture that the user shows before the prompt, for a model that sees; may be given several times
    #[arg(long, value_name = "FILE", conflicts_with = "messages", help_heading = "Prompt")]
    image: Vec<String>,
    /// What the system says before
    #[arg(long, value_name = "TEXT", conflicts_with = "messages", help_heading = "Prompt")]
    system: Option<String>,
    /// Whether the model may think first [default: as the chat template has it]
    #[arg(long, value_name = "BOOL", help_heading = "Prompt")]
    enable_thinking: Option<bool>,
    #[command(flatten)]
    template: TemplateArguments,
    #[command(flatten)]
    limits: PictureArguments,

    /// The longest answer, in tokens
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "256", help_heading = "Answer")]
    max_tokens: usize,
    /// Temperature; 0 takes the most probable token always
    #[arg(long, value_name = "X", value_parser = number_from_zero, default_value = "0", help_heading = "Answer")]
    temp: f64,
    /// Choose only among the most probable tokens that together have this probability
    #[arg(long, value_name = "P", value_parser = probability, default_value = "1", help_heading = "Answer")]
    top_p: f64,
    /// Choose only among this many of the most probable tokens; 0 for all
    #[arg(long, value_name = "N", value_parser = count, default_value = "0", help_heading = "Answer")]
    top_k: usize,
    /// Choose only among tokens at least this times as probable as the most probable
    #[arg(long, value_name = "P", value_parser = probability, default_value = "0", help_heading = "Answer")]
    min_p: f64,
    /// Seed of the random choices
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Answer")]
    seed: u64,
}

impl Generate {
    /// Runs the command, and returns its exit code.
    pub fn run(self) -> Result<u8> {
        let conversation = self.conversation()?;
        let mut session = Session::new()?;
        let mut base = load_checkpoint(&session, &self.model)?;
        if let Some(dir) = &self.adapter_path {
            attach(&mut base, dir)?;
        }
        self.template.apply(&mut base.format)?;
        self.limits.apply(&mut base.format)?;
        let example = base.format.encode_prompt(&conversation, self.enable_thinking)?;
        base.load_parts(Parts { tower: !example.pictures.is_empty(), ..Parts::default() })?;
        let pictures = base.vision().filter(|_| !example.pictures.is_empty());
        let pictures = pictures.map(|vision| vision.of_prompt(&example)).transpose()?;
        let prompt = example.tokens;
        let limit = base.config.max_position_embeddings;
        if prompt.len() >= limit {
            bail!("the prompt has {} tokens, but the model was made for {limit}; shorten it", prompt.len());
        }
        let request = Request {
            prompt: &prompt,
            pictures,
            stop: &base.format.stop_ids()?,
            max_tokens: self.max_tokens.min(limit - prompt.len()),
            sampling: SamplingOptions {
                temperature: self.temp,
                top_p: self.top_p,
                top_k: self.top_k,
                min_p: self.min_p,
                seed: self.seed,
            },
        };
        let mut out = io::stdout().lock();
        let mut text = base.format.tokenizer().stream();
        // A model's answer must not control a terminal; it is written to a file unchanged.
        let mut filter = out.is_terminal().then(WithoutControls::default);
        let mut shown = |text: String| match &mut filter {
            Some(filter) => filter.filter(&text),
            None => text,
        };
        let generation =
            generate(&mut session, &base.model, &base.config, base.dtype, &request, |token| -> Result<()> {
                write!(out, "{}", shown(text.push(token)?))?;
                Ok(out.flush()?)
            })?;
        writeln!(out, "{}", shown(text.finish()?))?;
        report(prompt.len(), &generation);
        Ok(0)
    }

    fn conversation(&self) -> Result<Conversation> {
        let Some(file) = &self.messages else {
            let mut messages = Vec::new();
            messages.extend(self.system.as_ref().map(|system| Message::new(Role::System, system)));
            if let Some(prompt) = &self.prompt {
                let prompt = if prompt == "-" { read_standard_input()? } else { prompt.clone() };
                let places = PICTURE.to_string().repeat(self.image.len());
                let pictures = self.image.iter().map(|image| match PictureSource::parse(image) {
                    Ok(source) => Ok(Some(VisualSource::Picture(source))),
                    Err(reason) => bail!("`--image {}`: {reason}", quoted(image)),
                });
                let pictures = pictures.collect::<Result<_>>()?;
                messages.push(Message { pictures, ..Message::new(Role::User, places + &prompt) });
            }
            return Ok(Conversation { messages, tools: Vec::new() });
        };
        let mut conversation = read_conversation(file)?;
        conversation.look_for_pictures_in(file.parent().unwrap_or(Path::new("")));
        Ok(conversation)
    }
}

/// The whole of standard input, without the end of its last line.
fn read_standard_input() -> Result<String> {
    let limit = reading::CONFIGURATION_BYTES;
    let mut text = String::new();
    io::stdin().lock().take(limit + 1).read_to_string(&mut text).context("standard input")?;
    if text.len() as u64 > limit {
        bail!("standard input: found more than {limit} bytes, expected a prompt");
    }
    let prompt = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if prompt.trim().is_empty() {
        bail!("standard input: found nothing, expected a prompt, because of `--prompt -`");
    }
    Ok(prompt.to_owned())
}

fn read_conversation(file: &Path) -> Result<Conversation> {
    let here = || format!("`{}`", file.display());
    let text = reading::read_text(file, reading::CONFIGURATION_BYTES).with_context(here)?;
    let json = Json::parse(&text)
        .with_context(|| format!("{}: not valid JSON, expected one object with `messages`", here()))?;
    let json = if json.as_array().is_some() { Json::object([("messages", json)]) } else { json };
    let conversation = Conversation::from_json(&json).with_context(here)?;
    if conversation.messages.last().is_some_and(|message| message.role == Role::Assistant) {
        bail!("{}: the last message is the assistant's, expected one to answer; remove it", here());
    }
    Ok(conversation)
}

/// Speeds, on standard error. A token is chosen after the one before was read, the first after the prompt.
fn report(prompt: usize, generation: &Generation) {
    let rate = |tokens: usize, seconds: f64| if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };
    let generated = generation.tokens.len();
    let read = if generation.stopped { generated } else { generated.saturating_sub(1) };
    eprintln!("Prompt: {prompt} tokens, {:.3} tokens-per-sec", rate(prompt, generation.prompt_time.as_secs_f64()));
    eprintln!(
        "Generation: {generated} tokens, {:.3} tokens-per-sec{}",
        rate(read, generation.generation_time.as_secs_f64()),
        if generation.stopped { "" } else { " (cut at the longest answer)" }
    );
    if let Ok(peak) = cotangent::memory::peak() {
        eprintln!("Peak memory: {:.3} GB", peak as f64 / 1e9);
    }
}
