//! The subcommands.

mod audit;
mod checkpoint;
mod convert;
mod data_arguments;
mod demo;
mod evaluate;
mod export;
mod foreign_options;
mod generate;
mod show;
mod train;
mod values;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};
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
    /// Reads `train.jsonl` and, if it is there, `valid.jsonl` of the data folder; learns what the assistant says. Ctrl-C,
    /// `kill` and a closed terminal finish the iteration in flight, save and end; a second signal ends at once.
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
    /// Quantize a checkpoint, in the layout of mlx-lm and mlx-vlm
    ///
    /// Works through one tensor at a time. The folder is there only once it is complete.
    Convert(convert::Convert),
    /// Write an adapter in PEFT's format, for transformers
    Export(export::Export),
    /// Train on the small model and data that come with the project, and show answers before and after
    Demo(demo::Demo),
}

/// Says what is wrong with the command line, and what options of other programs are called here.
pub fn refuse(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.kind() == ErrorKind::UnknownArgument {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let all = Arguments::command();
        let command = arguments.iter().find_map(|name| all.find_subcommand(name));
        let accepts = |name: &str| {
            command.is_some_and(|command| {
                let names = command.get_arguments().filter_map(clap::Arg::get_long_and_visible_aliases);
                names.flatten().any(|own| own == name)
            })
        };
        let answers = foreign_options::answers(arguments.iter().cloned(), accepts);
        if !answers.is_empty() {
            let _ = writeln!(io::stderr(), "\nOptions of other programs:\n  {}", answers.join("\n  "));
        }
    }
    ExitCode::from(error.exit_code() as u8)
}

/// Runs the command and returns the program's exit code.
pub fn run(arguments: Arguments) -> anyhow::Result<u8> {
    match arguments.command {
        Command::Train(train) => train.run(),
        Command::Evaluate(evaluate) => evaluate.run(),
        Command::Generate(generate) => generate.run(),
        Command::Show(show) => show.run(),
        Command::Audit(audit) => audit.run(),
        Command::Convert(convert) => convert.run(),
        Command::Export(export) => export.run(),
        Command::Demo(demo) => demo.run(),
    }
}

/// Says what a person should know, on standard error.
fn warn(message: &str) {
    eprintln!("warning: {}", visible(message));
}
