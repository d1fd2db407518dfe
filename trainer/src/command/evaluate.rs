//! `cotangent evaluate`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use cotangent::Session;
use cotangent_trainer::adapter::Parts;
use cotangent_trainer::data::Dataset;
use cotangent_trainer::training::{BatchMaker, Losses, validate};

use super::checkpoint::{attach, check_finite, load_checkpoint, under_a_spinner};
use super::data_arguments::DataArguments;
use super::values::{Count, count_or_all, positive_count};

/// Options of `cotangent evaluate`.
#[derive(Args, Debug)]
pub struct Evaluate {
    /// Folder of a Qwen3.5 checkpoint: config.json, safetensors, tokenizer, chat template
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Folder of adapters, as `cotangent train` or mlx-lm writes it
    #[arg(long, value_name = "DIR")]
    adapter_path: Option<PathBuf>,
    /// A file of conversations, such as valid.jsonl
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Conversations in a batch
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "4")]
    batch_size: usize,
    /// Batches to look at, spread over all lengths; -1 for all
    #[arg(long, value_name = "N", value_parser = count_or_all, default_value = "-1", allow_hyphen_values = true)]
    test_batches: Count,
    #[command(flatten)]
    data_arguments: DataArguments,
}

impl Evaluate {
    /// Runs the command, and returns its exit code.
    pub fn run(self) -> Result<u8> {
        let mut session = Session::new()?;
        let mut base = load_checkpoint(&session, &self.model)?;
        if let Some(dir) = &self.adapter_path {
            attach(&mut base, dir)?;
        }
        let options = self.data_arguments.prepare(&mut base)?;
        let message = format!("Encoding `{}`", self.data.display());
        let data = under_a_spinner(message, || Dataset::load(&self.data, &base.format, &options))?;
        for warning in data.warnings() {
            super::warn(&warning);
        }
        base.load_parts(Parts { tower: data.pictures() > 0, ..Parts::default() })?;
        let mut maker = BatchMaker::new(base.config.rope.clone(), base.vision().cloned());
        let batches = self.test_batches.limit();
        let losses = validate(&mut session, &base.model, &mut maker, &data, self.batch_size, batches, &|| false)?;
        if let Some(Losses { loss, .. }) = losses {
            writeln!(io::stdout(), "Test loss {loss:.3}, Test ppl {:.3}.", loss.exp())?;
            check_finite(&base, loss)?;
        }
        Ok(0)
    }
}
