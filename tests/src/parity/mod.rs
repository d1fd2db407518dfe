//! Compares a model with the results another implementation stored beside its checkpoint.
//!
//! A folder holds `config.json` and safetensors; the same folder, or another, holds `reference.safetensors`, and may hold
//! `lora.safetensors` and `tolerances.json`; `tests/reference/README.md` says what is in them.

mod adapters;
mod decoded;
mod generation;
mod multi_token;
mod reference;
mod router;
mod table;
mod whole_model;

use std::path::Path;

use anyhow::{Context, Result};
use cotangent::{Dtype, Session, Stored};
use cotangent_models::config::TextConfig;
use cotangent_models::qwen35::Model;

pub use table::{Comparison, Kind, Table};

use reference::Reference;

/// The data that all comparisons of one folder share.
struct Subject<'a> {
    dir: &'a Path,
    references: &'a Path,
    config: TextConfig,
    /// The model in float32: every stored weight is representable, so nothing is lost.
    model: Model<Stored>,
    reference: Reference,
}

/// The model of a checkpoint in float32: with its vision tower, if the reference has pictures.
fn load(dir: &Path, reference: &Reference) -> Result<(Model<Stored>, TextConfig)> {
    let has_pictures = ["plain", multi_token::CASE].iter().any(|case| reference.has(&format!("{case}.pixel_values")));
    let (model, config, _) = if has_pictures {
        Model::load_with_vision(dir, Dtype::F32, &mut |_, _| {})?
    } else {
        Model::load(dir, Dtype::F32)?
    };
    Ok((model, config))
}

/// Runs every comparison of the checkpoint in `dir` that the folder `references` has references for.
///
/// # Errors
/// If a file is missing or wrong, or the model cannot be run; a deviation is no error but a row of the table.
pub fn run(dir: &Path, references: &Path) -> Result<Table> {
    let reference = Reference::open(&references.join("reference.safetensors"))?;
    let (mut model, config) = load(dir, &reference)?;
    let mut session = Session::new()?;
    let mut table = Table::default();
    decoded::compare(&mut session, &mut model, &reference, &mut table).context("decoded matrices")?;
    let subject = Subject { dir, references, config, model, reference };
    for case in ["plain", "padded"] {
        if subject.reference.has(&format!("{case}.input_ids")) {
            whole_model::compare(&mut session, &subject, case, &mut table).with_context(|| format!("case `{case}`"))?;
        }
    }
    if subject.reference.has(&format!("{}.input_ids", multi_token::CASE)) {
        multi_token::compare(&mut session, &subject, &mut table).context("multi-token prediction")?;
    }
    if subject.reference.has("generate.prompt") {
        generation::compare(&mut session, &subject, &mut table).context("generation")?;
    }
    let of_routers = references.join("router.safetensors");
    if of_routers.exists() {
        router::compare(&mut session, &subject, &of_routers, &mut table).context("load-balancing loss")?;
    }
    let adapters = references.join("lora.safetensors");
    if adapters.exists() {
        adapters::compare(&mut session, &subject, &adapters, &mut table).context("adapters")?;
    }
    Ok(table)
}
