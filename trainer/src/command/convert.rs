//! `cotangent convert`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use clap::builder::PossibleValuesParser;
use cotangent::{CodeMode, Session};
use cotangent_models::checkpoint::{MULTI_TOKEN_FILE, checkpoint_folder};
use cotangent_models::conversion::{Recipe, Scheme, convert};
use cotangent_models::quoting::quoted_path;
use cotangent_trainer::interrupt;
use cotangent_trainer::training::check_writable;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::checkpoint::warn_of_unknown_keys;
use super::values::positive_count;

/// Options of `cotangent convert`.
#[derive(Args, Debug)]
pub struct Convert {
    /// Folder of a checkpoint in floats: config.json and safetensors
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Folder to write, which must not be there yet, or be empty
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// What a code stands for
    #[arg(long, value_name = "MODE", value_parser = PossibleValuesParser::new(CodeMode::ALL.map(CodeMode::name)),
          default_value = CodeMode::Affine.name())]
    q_mode: String,
    /// Bits of a code: 2, 3, 4, 5, 6 or 8; 4 if not given (of mxfp8: 8)
    #[arg(long, value_name = "N", value_parser = positive_count)]
    q_bits: Option<usize>,
    /// Columns that share a scale: 32, 64 or 128; 64 if not given (of mxfp4 and mxfp8: 32, of nvfp4: 16)
    #[arg(long, value_name = "N", value_parser = positive_count)]
    q_group_size: Option<usize>,
    /// Mix two widths, as the recipe of this name in mlx-lm does
    #[arg(long, value_name = "RECIPE", value_parser = PossibleValuesParser::new(Recipe::ALL.map(|recipe| recipe.name)),
          conflicts_with = "q_bits")]
    quant_predicate: Option<String>,
}

impl Convert {
    /// Runs the command, and returns its exit code.
    pub fn run(self) -> Result<u8> {
        let mode = CodeMode::ALL.into_iter().find(|mode| mode.name() == self.q_mode).unwrap_or(CodeMode::Affine);
        let recipe = Recipe::ALL.into_iter().find(|recipe| Some(recipe.name) == self.quant_predicate.as_deref());
        let scheme = Scheme::new(mode, self.q_group_size, self.q_bits, recipe)?;
        check_writable(&self.output)?;
        // The session chooses the device.
        let _session = Session::new()?;
        let source = checkpoint_folder(&self.model)?;
        interrupt::install().context("cannot listen for signals")?;

        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} parameters written  {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let converted = {
            // An interrupt waits until the half-written folder is removed.
            let _whole = interrupt::hold();
            convert(&source, &self.output, &scheme, &mut |done, total| {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
                !interrupt::asked()
            })
        };
        bar.finish_and_clear();
        let Some(converted) = converted? else {
            // The terminal may be closed.
            let _ = writeln!(io::stderr(), "Interrupted: nothing was written.");
            return Ok(interrupt::exit_code().unwrap_or(0));
        };
        warn_of_unknown_keys(&source)?;
        let how = match recipe {
            Some(recipe) => format!("codes mixed by {} in groups of {}", recipe.name, scheme.format().group_size()),
            None => scheme.format().to_string(),
        };
        let dense = match converted.dense {
            0 => String::new(),
            dense => format!(" ({dense} more in floats, whose columns are no multiple of a group)"),
        };
        let head = match converted.multi_token_head {
            true => format!("; the head of multi-token prediction as it is, in `{MULTI_TOKEN_FILE}`"),
            false => String::new(),
        };
        writeln!(
            io::stdout(),
            "Wrote `{}`: {} matrices in {how}{dense}{head}; {} in {}.",
            quoted_path(&self.output),
            converted.quantized,
            HumanBytes(converted.bytes),
            if converted.files == 1 { "1 file".to_owned() } else { format!("{} files", converted.files) },
        )?;
        Ok(0)
    }
}
