//! Every gradient of one step on one backend against those on another: no independent reference, but one at a model's full
//! width, where no file holds one.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use cotangent::random::Key;
use cotangent::{Gradients, Keep, Stored, Tensor, Trainable, train_stack};
use cotangent_models::checkpoint::{HostTensor, SafetensorsFile, write_safetensors};
use cotangent_models::transfer::to_host;

use super::Training;
use crate::parity::{Kind, Table};

/// The name of the loss in a record.
const LOSS: &str = "loss";

/// Writes the loss and all gradients of one step of the described model to the safetensors file `to`.
///
/// # Errors
/// If the description is wrong, the model cannot be run, or the file cannot be written.
pub fn record(description: &Path, to: &Path) -> Result<()> {
    Ok(write_safetensors(to, &found(description)?, &BTreeMap::new())?)
}

/// The same against those in the file `record`.
///
/// # Errors
/// As [`record`]; or if the file cannot be read. A deviation is no error but a row of the table.
pub fn compare(description: &Path, record: &Path) -> Result<Table> {
    let (file, mut table) = (SafetensorsFile::open(record)?, Table::default());
    let mut found = found(description)?;
    for name in file.names() {
        let kind = match name.rsplit('.').next() {
            Some(LOSS) => Kind::MeanLoss,
            Some("lora_a" | "lora_b") => Kind::AdapterGradients,
            _ => Kind::ParameterGradients,
        };
        let [found, expected] =
            [found.remove(name).with_context(|| format!("`{name}` got no gradient"))?, file.read(name)?]
                .map(|tensor| tensor.to_f32().unwrap_or_default());
        table.compare(kind, name, &found, &expected, |_| true);
    }
    match found.keys().next() {
        Some(name) => bail!("`{}` has no gradient of `{name}`: it is of another model", record.display()),
        None => Ok(table),
    }
}

/// The loss of the described batch, and the gradient of every float. Adapters are drawn, as those of their first matrices
/// would be zero.
fn found(description: &Path) -> Result<BTreeMap<String, HostTensor>> {
    let Training { mut session, mut model, description, config, .. } = Training::described(description)?;
    let batch = super::random::batch(&description, description.tokens, &config)?;
    let key = Key::new(description.seed)?;
    let adapters = (0..).zip(model.adapters()).map(|(number, (name, adapter))| {
        let width = (description.lora.rank as f32).powf(-0.5) * 0.1;
        Ok((name, key.fold(number)?.uniform(-width, width, adapter.shape())?))
    });
    model.set_adapters(&adapters.collect::<cotangent::Result<BTreeMap<String, Tensor<Stored>>>>()?)?;
    let trainable = Trainable::new(&model, |_| true)?;
    let mut gradients = Gradients::new();
    let loss = train_stack(&mut session, &model, &trainable, &batch, Keep::BlockInputs, &mut gradients)?;
    let mut found = BTreeMap::from([(LOSS.to_owned(), to_host(&loss)?)]);
    for (name, gradient) in gradients.iter() {
        found.insert(name.to_owned(), to_host(gradient)?);
    }
    Ok(found)
}
