//! `cotangent audit`.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use cotangent::random::Key;
use cotangent::{Session, Stored, Trainable, audit_stack};
use cotangent_models::checkpoint::checkpoint_folder;
use cotangent_models::config::TextConfig;
use cotangent_models::qwen35::{LoraOptions, Model};
use cotangent_trainer::adapter::Adapter;
use cotangent_trainer::audit::{AuditReport, spread_batch};
use cotangent_trainer::base_model::{attach, compute_dtype, load_parts};

use super::checkpoint::{warn_of_other_norms, warn_of_unknown_keys};
use super::values::positive_count;

/// Tokens of the pass that gradients are looked for in.
const MOST_TOKENS: usize = 1 << 24;

/// Options of `cotangent audit`.
#[derive(Args, Debug)]
pub struct Audit {
    /// Folder of a Qwen3.5 checkpoint: config.json and safetensors
    #[arg(value_name = "CHECKPOINT")]
    model: PathBuf,
    /// Audit the adapters in this folder instead of the model's own parameters
    #[arg(long, value_name = "DIR")]
    adapter_path: Option<PathBuf>,
    /// Audit new adapters on every linear layer instead
    ///
    /// Both factors are random: while the second is zero, as in a new adapter, the first has no gradient.
    #[arg(long, conflicts_with = "adapter_path")]
    lora: bool,
    /// Rows of the batch
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "2")]
    batch_size: usize,
    /// Tokens of a row; one alone has nothing to attend to
    #[arg(long, value_name = "N", value_parser = positive_count, default_value = "32")]
    tokens: usize,
    /// Print every parameter on its own line
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "all")]
    json: bool,
}

impl Audit {
    /// Audits. Fails if something that should train does not.
    pub fn run(self) -> Result<u8> {
        if self.tokens < 2 {
            bail!("`--tokens {}` leaves nothing to predict\nhelp: give at least 2", self.tokens);
        }
        if self.batch_size.saturating_mul(self.tokens) > MOST_TOKENS {
            bail!(
                "`--batch-size {}` rows of {} tokens are more than a pass can take, expected at most {MOST_TOKENS} tokens",
                self.batch_size,
                self.tokens
            );
        }
        let mut session = Session::new()?;
        let dtype = compute_dtype(&session);
        let dir = checkpoint_folder(&self.model)?;
        let adapter = self.adapter_path.as_deref().map(Adapter::load).transpose()?;
        let (mut model, mut config, mut findings) = Model::load_with_vision(&dir, dtype, &mut |_, _| {})?;
        warn_of_unknown_keys(&dir)?;
        if let Some(adapter) = &adapter {
            load_parts(&mut model, &mut config, &mut findings, dtype, &dir, adapter.parts())?;
            warn_of_other_norms(&adapter.config, &findings, &adapter.file);
        }
        let limit = config.max_position_embeddings;
        if self.tokens > limit {
            bail!("`--tokens {}`: the model was made for {limit}", self.tokens);
        }
        let (trainable, view) = self.select(&mut model, &config, adapter.as_ref())?;
        let batch = spread_batch(&config, self.batch_size, self.tokens)?;
        let report = AuditReport {
            model: self.model.display().to_string(),
            view,
            backend: session.backend().name(),
            dtype: dtype.to_string(),
            rows: self.batch_size,
            tokens: self.tokens,
            pictures: config.vision.as_ref().map_or(0, |_| self.batch_size),
            audit: audit_stack(&mut session, &model, &trainable, &batch)?,
        };
        let text = if self.json { format!("{:#}\n", report.to_json()) } else { report.to_text(self.all) };
        io::stdout().write_all(text.as_bytes())?;
        Ok(u8::from(!report.audit.passed()))
    }

    /// Returns the selection that should train: the adapters where some are asked for, else every parameter.
    fn select(
        &self,
        model: &mut Model<Stored>,
        config: &TextConfig,
        adapter: Option<&Adapter>,
    ) -> Result<(Trainable, &'static str)> {
        if let Some(adapter) = adapter {
            attach(model, config, adapter)?;
            if adapter.layers().is_empty() {
                return Ok((model.multi_token_head_trainable()?, "the head that it holds should train"));
            }
            return Ok((model.adapters_trainable()?, "its adapters should train"));
        }
        if self.lora {
            let (first, mut key) = Key::new(0)?.split()?;
            model.add_adapters(&LoraOptions::default(), &first)?;
            let mut factors = model.adapters();
            for (name, factor) in &mut factors {
                if name.ends_with(".lora_b") {
                    let (draw, next) = key.split()?;
                    key = next;
                    *factor = draw.uniform(-0.02, 0.02, factor.shape())?;
                }
            }
            model.set_adapters(&factors)?;
            return Ok((model.adapters_trainable()?, "new adapters on every linear layer should train"));
        }
        let everything = Trainable::new(model, |_| true).context("the checkpoint")?;
        Ok((everything, "every parameter should train"))
    }
}
