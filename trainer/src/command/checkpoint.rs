//! The steps that all commands take with a checkpoint before they begin.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use cotangent::Session;
use cotangent_models::config::TextConfig;
use cotangent_models::quoting::{quoted, quoted_path};
use cotangent_models::qwen35::Findings;
use cotangent_trainer::adapter::AdapterConfig;
use cotangent_trainer::base_model::BaseModel;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The longest sequences where none are asked for, as in mlx-lm.
const LONGEST_SEQUENCE: usize = 2048;

/// The most unknown keys of a file that a warning names.
const MOST_KEYS: usize = 12;

/// Loads the checkpoint in `dir` under a progress bar, and says what a person should know of it.
pub fn load_checkpoint(session: &Session, dir: &Path) -> Result<BaseModel> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    let style = ProgressStyle::with_template("{bar:24} {pos}/{len} parameters loaded  {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let loaded = BaseModel::load(session, dir, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let base = loaded?;
    if base.dir != dir {
        eprintln!("Taking the snapshot in `{}`", quoted_path(&base.dir));
    }
    if base.findings.own_head {
        eprintln!(
            "warning: `{}`: `config.json` ties the head to the embedding, but a head is stored that differs from it: the \
             stored one is used",
            quoted_path(&base.dir)
        );
    }
    warn_of_unknown_keys(&base.dir)?;
    Ok(base)
}

/// Adds the adapter in the folder `dir`, and says what a person should know of it.
pub fn attach(base: &mut BaseModel, dir: &Path) -> Result<()> {
    let config = base.attach(dir)?;
    warn_of_other_norms(&config, &base.findings, dir);
    Ok(())
}

/// Says if the adapter at `path` was trained on a model with other norms.
pub fn warn_of_other_norms(config: &AdapterConfig, findings: &Findings, path: &Path) {
    if let Some(doubt) = config.doubt(findings.norms) {
        eprintln!("warning: `{}`: {doubt}", quoted_path(path));
    }
}

/// Names the keys of `config.json` in the checkpoint folder `dir` that nothing here reads.
pub fn warn_of_unknown_keys(dir: &Path) -> Result<()> {
    let unknown = TextConfig::unknown_keys(dir)?;
    if unknown.is_empty() {
        return Ok(());
    }
    let mut names: Vec<String> = unknown.iter().take(MOST_KEYS).map(|key| format!("`{}`", quoted(key))).collect();
    if unknown.len() > MOST_KEYS {
        names.push(format!("and {} more", unknown.len() - MOST_KEYS));
    }
    eprintln!(
        "warning: `{}`: nothing here reads {}: what the model computes may depend on it",
        quoted_path(&dir.join("config.json")),
        names.join(", ")
    );
    Ok(())
}

/// Does `work` under a sign that time passes.
pub fn under_a_spinner<T>(message: String, work: impl FnOnce() -> T) -> T {
    let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed}");
    spinner.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    spinner.set_message(message);
    spinner.enable_steady_tick(Duration::from_millis(200));
    let result = work();
    spinner.finish_and_clear();
    result
}

/// The number of tokens at which conversations are cut: as `asked`, at most `limit`, for which the model was made.
pub fn sequence_limit(asked: Option<usize>, limit: usize) -> Result<usize> {
    match asked {
        Some(asked) if asked > limit => {
            bail!("`--max-seq-length {asked}`: the model was made for {limit} tokens\nhelp: give at most {limit}")
        }
        Some(asked) => Ok(asked),
        None => Ok(LONGEST_SEQUENCE.min(limit)),
    }
}

/// Refuses a model whose `loss` is not a number, and names the parameter that is at fault, if one is.
pub fn check_finite(base: &BaseModel, loss: f64) -> Result<()> {
    if loss.is_finite() {
        return Ok(());
    }
    match base.first_not_finite()? {
        Some(name) => bail!(
            "the loss of the model is {loss}: its parameter `{name}` holds numbers that are not finite\nhelp: get the \
             checkpoint or the adapter again"
        ),
        None => bail!(
            "the loss of the model is {loss}, although all its parameters are finite: a computation overflows in {}\nhelp: \
             look at the data, and at the scale of the adapter",
            base.dtype
        ),
    }
}
