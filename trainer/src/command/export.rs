//! `cotangent export`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use cotangent_models::checkpoint::checkpoint_folder;
use cotangent_models::config::TextConfig;
use cotangent_models::quoting::quoted_path;
use cotangent_trainer::adapter::{Adapter, export_to_peft};
use cotangent_trainer::training::check_writable;

use super::warn;

/// Options of `cotangent export`.
#[derive(Args, Debug)]
pub struct Export {
    /// Folder of the checkpoint that was adapted; only its config.json is read
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Folder of adapters, as `cotangent train` or mlx-lm writes it
    #[arg(long, value_name = "DIR")]
    adapter_path: PathBuf,
    /// Folder to write, which must not be there yet, or be empty
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Write for the class AutoModelForCausalLM, even if the checkpoint has a vision tower
    #[arg(long)]
    text_only: bool,
}

impl Export {
    /// Runs the command, and returns its exit code.
    pub fn run(self) -> Result<u8> {
        check_writable(&self.output)?;
        let adapter = Adapter::load(&self.adapter_path)?;
        let folder = checkpoint_folder(&self.model)?;
        if self.text_only && adapter.parts().tower {
            bail!("`--text-only`: the adapter adapts the vision tower\nhelp: leave `--text-only` out");
        }
        let model = if self.text_only { TextConfig::load(&folder)? } else { TextConfig::load_with_vision(&folder)? };
        let exported = export_to_peft(adapter, &self.model, &model, &self.output)?;
        if exported.left_out > 0 {
            warn(&format!(
                "left out {} tensors of the head of multi-token prediction: transformers has no such head",
                exported.left_out
            ));
        }
        let parameters = match exported.parameters {
            0 => String::new(),
            parameters => format!(" and {parameters} parameters of experts and routers"),
        };
        writeln!(
            io::stdout(),
            "Wrote `{}` for PEFT: adapters of {} linear layers{parameters}.",
            quoted_path(&self.output),
            exported.modules
        )?;
        Ok(0)
    }
}
