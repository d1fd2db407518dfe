//! The head of multi-token prediction: its loss beside that of the next token, and the gradients of both together; for rows
//! of one document, and for all of them packed into one row.

use anyhow::{Context, Result};
use cotangent::{Dtype, Gradients, Indices, Keep, Session, Stored, Trainable, train_stack};
use cotangent_kernels::{Documents, IGNORED, Labels, labels_after};
use cotangent_models::checkpoint::{TensorRole, classify};
use cotangent_models::config::TextConfig;
use cotangent_models::qwen35::{Ahead, AheadLoss, Batch, Model};
use cotangent_models::rope::{Positions, Rotary};

use super::Subject;
use super::reference::Reference;
use super::table::{Kind, Table};

/// The case of the reference.
pub(super) const CASE: &str = "ahead";

pub(super) fn compare(session: &mut Session, subject: &Subject<'_>, table: &mut Table) -> Result<()> {
    let Subject { dir, config, reference, .. } = subject;
    // This model is separate, because the others are compared without the head.
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
    for (batch, form) in [(batch, ""), (packed(reference, config, weight)?, ", packed")] {
        hold(session, &model, &batch, (reference, form), table)?;
    }
    Ok(())
}

/// Compares the losses of a batch and the gradients of every parameter with the reference.
fn hold(
    session: &mut Session,
    model: &Model<Stored>,
    batch: &Batch,
    (reference, form): (&Reference, &str),
    table: &mut Table,
) -> Result<()> {
    let mut gradients = Gradients::new();
    let trainable = Trainable::new(model, |_| true)?;
    let parts = train_stack(session, model, &trainable, batch, Keep::BlockInputs, &mut gradients)?.to_vec::<f32>()?;
    for (name, part) in ["loss", "mtp_loss"].into_iter().zip(parts) {
        let tensor = format!("{CASE}.{name}");
        let expected = reference.floats(&tensor)?.0;
        table.compare(Kind::MeanLoss, &format!("{tensor}{form}"), &[part], &expected, |_| true);
    }
    let prefix = format!("{CASE}.grad.");
    for stored in reference.below(&prefix) {
        let (TensorRole::Parameter(name) | TensorRole::Vision(name) | TensorRole::MultiTokenPrediction(name)) =
            classify(stored)
        else {
            continue;
        };
        let tensor = format!("{prefix}{stored}");
        let found = gradients.get(&name).with_context(|| format!("`{name}` got no gradient"))?.to_vec()?;
        let expected = reference.floats(&tensor)?.0;
        table.compare(Kind::ParameterGradients, &format!("{tensor}{form}"), &found, &expected, |_| true);
    }
    let without = if reference.below(&prefix).count() == gradients.len() { 0.0 } else { f64::INFINITY };
    table.add(Kind::ParameterGradients, &format!("{CASE}{form}: parameters without a reference"), without);
    Ok(())
}

/// The rows of the case as documents of one row, before some padding: each learns what it learns as a row of its own.
fn packed(reference: &Reference, config: &TextConfig, weight: f32) -> Result<Batch> {
    const PADDING: usize = 3;
    let integers = |name: &str| reference.integers(&format!("{CASE}.{name}"));
    let ((mask, shape), (positions, _)) = (integers("attention_mask")?, integers("position_ids")?);
    let tokens = shape[1];
    let real: Vec<usize> = (0..mask.len()).filter(|place| mask[*place] != 0).collect();
    let lengths = mask.chunks(tokens).map(|row| row.iter().filter(|real| **real != 0).count());
    let lengths: Vec<Vec<usize>> = vec![lengths.collect()];
    let width = real.len() + PADDING;
    let in_one_row = |name: &str, padding: i32| -> Result<Vec<i32>> {
        let (values, _) = integers(name)?;
        Ok(real.iter().map(|place| values[*place]).chain(std::iter::repeat_n(padding, PADDING)).collect())
    };
    let rotary = |ahead: usize| -> Result<Rotary> {
        // That of the token after the last of a row is read by nothing that counts.
        let of =
            |place: &usize| [0, 1, 2].map(|axis| positions[axis * mask.len() + (place + ahead).min(mask.len() - 1)]);
        let row: Vec<[i32; 3]> = real.iter().map(of).collect();
        Ok(Rotary::new(&config.rope, &Positions::from_rows(&[&row], width))?)
    };
    let (ids, labels) = (in_one_row("input_ids", 0)?, in_one_row("labels", IGNORED)?);
    let [next, after_next] = [1, 2].map(|places| Labels::in_documents(&labels, &lengths, places));
    let (next, after_next) = (next?, after_next?);
    let pictures = config.vision.as_ref().map(|vision| reference.pictures(CASE, vision, &ids, [1, width]));
    let documents = vec![lengths[0].iter().map(|length| *length as i32).collect()];
    Ok(Batch {
        tokens: Indices::from_slice(&ids, &[1, width as i32])?,
        rotary: rotary(0)?,
        documents: Some(Documents::new(&documents, width as i32, width as i32)?),
        pictures: pictures.transpose()?,
        scale: 1.0 / next.count() as f32,
        labels: next,
        ahead: Some(Ahead {
            rotary: rotary(1)?,
            scale: 1.0 / after_next.count() as f32,
            labels: after_next,
            loss: AheadLoss::Beside { weight, detached: false },
        }),
        balance: None,
    })
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
