//! The head of multi-token prediction: its loss beside that of the next token, and the gradients of both together.

use anyhow::{Context, Result};
use cotangent::{Dtype, Gradients, Keep, Session, Trainable, train_stack};
use cotangent_kernels::{Labels, labels_after};
use cotangent_models::checkpoint::{TensorRole, classify};
use cotangent_models::qwen35::{Ahead, AheadLoss, Model};
use cotangent_models::rope::{Positions, Rotary};

use super::Subject;
use super::reference::Reference;
use super::table::{Kind, Table};

/// The case of the reference.
pub(super) const CASE: &str = "ahead";

pub(super) fn compare(session: &mut Session, subject: &Subject<'_>, table: &mut Table) -> Result<()> {
    let Subject { dir, config, reference, .. } = subject;
    // Its own, because the others are compared without the head.
    let (mut model, mut described, mut findings) = Model::load_with_vision(dir, Dtype::F32, &mut |_, _| {})?;
    model.load_multi_token_head(dir, &mut described, Dtype::F32, &mut findings)?;
    let weight: f32 = reference.metadata("weight").context("the metadata entry `weight` is missing")?.parse()?;
    let mut batch = reference.case(CASE, config)?.batch;
    let (labels, shape) = reference.integers(&format!("{CASE}.labels"))?;
    let labels = Labels::from_slice(&labels_after(&labels, shape[1], 2))?;
    batch.ahead = Some(Ahead {
        rotary: Rotary::new(&config.rope, &positions_after(reference)?)?,
        scale: 1.0 / labels.count() as f32,
        labels,
        loss: AheadLoss::Beside { weight, detached: false },
    });

    let mut gradients = Gradients::new();
    let trainable = Trainable::new(&model, |_| true)?;
    let parts = train_stack(session, &model, &trainable, &batch, Keep::BlockInputs, &mut gradients)?.to_vec::<f32>()?;
    for (name, part) in ["loss", "mtp_loss"].into_iter().zip(parts) {
        let tensor = format!("{CASE}.{name}");
        table.compare(Kind::MeanLoss, &tensor, &[part], &reference.floats(&tensor)?.0, |_| true);
    }
    let prefix = format!("{CASE}.grad.");
    for stored in reference.below(&prefix) {
        let (TensorRole::Parameter(name) | TensorRole::Vision(name) | TensorRole::MultiTokenPrediction(name)) =
            classify(stored)
        else {
            continue;
        };
        let tensor = format!("{prefix}{stored}");
        let found = gradients.get(&name).with_context(|| format!("`{name}` got no gradient"))?;
        table.compare(Kind::ParameterGradients, &tensor, &found.to_vec()?, &reference.floats(&tensor)?.0, |_| true);
    }
    let without = if reference.below(&prefix).count() == gradients.len() { 0.0 } else { f64::INFINITY };
    table.add(Kind::ParameterGradients, &format!("{CASE}: parameters without a reference"), without);
    Ok(())
}

/// The stored positions of the token after each place.
fn positions_after(reference: &Reference) -> Result<Positions> {
    let (stored, shape) = reference.integers(&format!("{CASE}.position_ids"))?;
    let (axis, tokens) = (shape[1] * shape[2], shape[2]);
    let of_row = |row: usize| -> Vec<[i32; 3]> {
        let after = row * tokens + 1..(row + 1) * tokens;
        after.map(|place| [0, 1, 2].map(|index| stored[index * axis + place])).collect()
    };
    let rows: Vec<Vec<[i32; 3]>> = (0..shape[1]).map(of_row).collect();
    Ok(Positions::from_rows(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), tokens))
}
