//! `cotangent show`.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use cotangent_models::quoting::quoted_path;
use cotangent_models::reading;
use cotangent_trainer::base_model::load_format;
use cotangent_trainer::data::{ChatFormat, DataOptions, Dataset, Order};
use cotangent_trainer::show::{BatchOptions, ExampleOptions, Paint, write_example, write_format, write_summary};

use super::checkpoint::warn_of_unknown_keys;
use super::data_arguments::DataArguments;
use super::values::{count, positive_count};

/// Options of `cotangent show`.
#[derive(Args, Debug)]
pub struct Show {
    /// Folder of a checkpoint; its weights are not read
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Folder of train.jsonl and valid.jsonl, or one such file
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Examples to write out; 0 for the summary alone
    #[arg(short = 'n', long = "examples", value_name = "N", value_parser = count, default_value = "3")]
    examples: usize,
    /// Begin with the example in this line
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "1")]
    line: usize,
    /// Write long examples out in full
    #[arg(long)]
    full: bool,
    /// Colours; by default on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: Color,
    /// Conversations in a batch
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "4", help_heading = "As in training")]
    batch_size: usize,
    /// Batches in an iteration
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "1", help_heading = "As in training")]
    grad_accumulation_steps: usize,
    /// Seed of the order of the data
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "As in training")]
    seed: u64,
    #[command(flatten)]
    data_arguments: DataArguments,
}

/// When to colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

impl Color {
    fn paint(self) -> Paint {
        let wanted = || {
            let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
            io::stdout().is_terminal() && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        };
        match self {
            Color::Always => Paint::Colors,
            Color::Auto if wanted() => Paint::Colors,
            Color::Auto | Color::Never => Paint::Marks,
        }
    }
}

impl Show {
    /// Shows. With `--strict-template` it fails if something is lost, after it has shown what.
    pub fn run(self) -> Result<u8> {
        let (dir, config, mut format) = load_format(&self.model)?;
        warn_of_unknown_keys(&dir)?;
        let options = self.data_arguments.prepare_format(&mut format, &config)?;
        let paint = self.color.paint();
        let mut out = BufWriter::new(io::stdout().lock());
        let (first, second) = match self.data.is_dir() {
            true => (self.data.join("train.jsonl"), Some(self.data.join("valid.jsonl")).filter(|file| file.exists())),
            false => (self.data.clone(), None),
        };
        reading::open(&first).with_context(|| format!("`{}`", quoted_path(&first)))?;
        write_format(&mut out, paint, &format)?;
        let shuffled = Order::Shuffled { seed: self.seed, epoch: 0 };
        let mut is_complete = self.show(&mut out, paint, &format, &options, &first, (self.examples, shuffled))?;
        if let Some(file) = second {
            is_complete &= self.show(&mut out, paint, &format, &options, &file, (0, Order::ByLength))?;
        }
        out.flush()?;
        Ok(u8::from(options.strict_template && !is_complete))
    }

    /// Shows the first examples of a file, and its summary with batches in this order. Returns whether the model learns all
    /// of it.
    fn show(
        &self,
        out: &mut impl Write,
        paint: Paint,
        format: &ChatFormat,
        options: &DataOptions,
        file: &Path,
        (examples, order): (usize, Order),
    ) -> Result<bool> {
        // Losses are shown here, not refused.
        let options = DataOptions { strict_template: false, ..*options };
        let (mut lines, mut written, mut failed) = (Vec::new(), 0, None);
        let dataset = Dataset::load_with(file, format, &options, &mut |line, encoded, kept| {
            if kept {
                lines.push(line);
            }
            if written < examples && line >= self.line && failed.is_none() {
                written += 1;
                let title = format!("{}, line {line}", quoted_path(file));
                let options = ExampleOptions { limit: options.max_seq_length, all: self.full };
                failed = write_example(out, paint, &title, encoded, format.tokenizer(), options).err();
            }
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        out.flush()?;
        let dataset = dataset?;
        let batches = BatchOptions { batch_size: self.batch_size, accumulation: self.grad_accumulation_steps, order };
        write_summary(out, paint, &quoted_path(file), &dataset, &lines, batches)?;
        Ok(dataset.report.losses().is_empty())
    }
}
