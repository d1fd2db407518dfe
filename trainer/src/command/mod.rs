//! The subcommands.

mod audit;
mod checkpoint;
mod data_arguments;
mod demo;
mod evaluate;
mod generate;
mod show;
mod train;
mod values;

use clap::{Parser, Subcommand};
use cotangent_models::quoting::visible;

/// Fine-tunes Qwen3.5, and shows what it learned.
#[derive(Parser)]
#[command(name = "cotangent", version, arg_required_else_help = true, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train LoRA adapters on conversations
    ///
    /// Reads `train.jsonl` and, if it is there, `valid.jsonl` of the data folder; learns what the assistant says. Ctrl-C
    /// finishes the iteration in flight, saves and ends; a second one ends at once.
    Train(Box<train::Train>),
    /// Measure loss and perplexity on a file of conversations, with or without adapters
    Evaluate(evaluate::Evaluate),
    /// Let a model answer, with or without adapters
    ///
    /// The answer goes to standard output as it is made, speeds to standard error.
    Generate(generate::Generate),
    /// Show what a model would learn from data: the text of examples with the learned tokens marked, and a summary
    ///
    /// Reads the tokenizer and the chat template of the checkpoint, not its weights.
    Show(show::Show),
    /// Check that every parameter of a checkpoint gets a gradient, and list where gradients are cut
    ///
    /// Runs one forward and backward pass on a few tokens. Fails if something that should train does not.
    Audit(audit::Audit),
    /// Train on the small model and data that come with the project, and show answers before and after
    Demo(demo::Demo),
}

/// Runs the command and returns the program's exit code.
pub fn run(arguments: Arguments) -> anyhow::Result<u8> {
    match arguments.command {
        Command::Train(train) => train.run(),
        Command::Evaluate(evaluate) => evaluate.run(),
        Command::Generate(generate) => generate.run(),
        Command::Show(show) => show.run(),
        Command::Audit(audit) => audit.run(),
        Command::Demo(demo) => demo.run(),
    }
}

/// Says what a person should know, on standard error.
fn warn(message: &str) {
    eprintln!("warning: {}", visible(message));
}
