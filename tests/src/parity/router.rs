//! The load-balancing loss of routers, and its gradients: alone, and beside the loss of the tokens.

use std::path::Path;

use anyhow::{Context, Result};
use cotangent::{Gradients, Keep, Session, Trainable, train_stack};
use cotangent_models::checkpoint::{TensorRole, classify};
use cotangent_models::qwen35::{Balance, Batch};

use super::Subject;
use super::reference::Reference;
use super::table::{Kind, Table};

pub(super) fn compare(session: &mut Session, subject: &Subject<'_>, file: &Path, table: &mut Table) -> Result<()> {
    let stored = Reference::open(file)?;
    let coefficient: f32 =
        stored.metadata("coefficient").context("the metadata entry `coefficient` is missing")?.parse()?;
    for (prefix, weight, of_tokens) in [("aux_grad.", 1.0, 0.0), ("grad.", coefficient, 1.0)] {
        let case = subject.reference.case("padded", &subject.config)?;
        let balance = Some(Balance::new(&subject.model, &case.real, weight)?);
        let batch = Batch { balance, scale: case.batch.scale * of_tokens, ..case.batch };
        let trainable = Trainable::new(&subject.model, |_| true)?;
        let mut gradients = Gradients::new();
        let parts = train_stack(session, &subject.model, &trainable, &batch, Keep::BlockInputs, &mut gradients)?;
        let parts: Vec<f32> = parts.to_vec()?;
        for (name, found) in [("aux_loss", &parts[1..2]), ("share", &parts[2..])] {
            table.compare(Kind::RouterLoss, name, found, &stored.floats(name)?.0, |_| true);
        }
        for name in stored.below(prefix) {
            let TensorRole::Parameter(parameter) = classify(name) else { continue };
            let found = gradients.get(&parameter).with_context(|| format!("`{parameter}` got no gradient"))?;
            let tensor = format!("{prefix}{name}");
            table.compare(Kind::RouterGradients, &tensor, &found.to_vec()?, &stored.floats(&tensor)?.0, |_| true);
        }
    }
    Ok(())
}
