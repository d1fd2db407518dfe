//! Logits, hidden states, losses and the gradient of every parameter.

use anyhow::{Context, Result};
use cotangent::{Gradients, Infer, Keep, Session, Tensor, Trainable, train_stack};
use cotangent_models::checkpoint::{Role, classify};
use cotangent_models::qwen35::{Batch, Model};

use super::Subject;
use super::reference::Case;
use super::table::{Kind, Table};

/// Hidden states of all layers, logits, the loss of every place, and the merged patches.
type Outputs = (Vec<Tensor<Infer>>, (Tensor<Infer>, Tensor<Infer>), Option<Tensor<Infer>>);

fn forward(model: &Model<Infer>, _: &Tensor<Infer>, batch: &Batch) -> cotangent::Result<Outputs> {
    let states = model.hidden_states(&batch.tokens, &batch.rotary, batch.pictures.as_ref(), None)?;
    let last = &states[states.len() - 1];
    let logits = model.logits(last)?;
    let rows = last.reshape(&[-1, last.dimension(-1)])?;
    let losses = model.token_losses(&rows, &batch.labels)?;
    let merged = match (&model.visual, &batch.pictures) {
        (Some(tower), Some(pictures)) => Some(tower.forward(&pictures.input)?.merged),
        _ => None,
    };
    Ok((states, (logits, losses), merged))
}

/// Whether an element of a `[rows, tokens, width]` tensor is at a real token.
pub(super) fn at_real_tokens(case: &Case, width: usize) -> impl Fn(usize) -> bool + '_ {
    move |index| case.real[index / width]
}

pub(super) fn compare(session: &mut Session, subject: &Subject<'_>, name: &str, table: &mut Table) -> Result<()> {
    let Subject { config, model, reference, .. } = subject;
    let case = reference.case(name, config)?;
    let nothing = cotangent::Tensor::zeros(&[1], cotangent::Dtype::F32)?;
    let (states, (logits, losses), merged) = session.infer(model, &nothing, &case.batch, forward)?;

    let (expected, _) = reference.floats(&format!("{name}.logits"))?;
    let vocabulary = config.vocab_size;
    table.compare(
        Kind::Logits,
        &format!("{name}.logits"),
        &logits.to_vec()?,
        &expected,
        at_real_tokens(&case, vocabulary),
    );
    let tensor = format!("{name}.visual.merged");
    if let (Some(merged), true) = (merged, reference.has(&tensor)) {
        table.compare(Kind::VisionFeatures, &tensor, &merged.to_vec()?, &reference.floats(&tensor)?.0, |_| true);
    }
    for index in 0..=config.layers.len() {
        let stored = if index == config.layers.len() { "norm".to_owned() } else { index.to_string() };
        let tensor = format!("{name}.hidden.{stored}");
        if reference.has(&tensor) {
            let (expected, _) = reference.floats(&tensor)?;
            let found = states[index + 1].to_vec()?;
            // The reference's are from before features are added, which changes the pictures' places in the first layers.
            let added_to = config.vision.as_ref().is_some_and(|vision| index < vision.deepstack.len());
            let (real, width) = (at_real_tokens(&case, config.hidden_size), config.hidden_size);
            let counts = |element: usize| real(element) && !(added_to && case.is_slot[element / width]);
            table.compare(Kind::HiddenStates, &tensor, &found, &expected, counts);
        }
    }
    let tensor = format!("{name}.token_loss");
    if reference.has(&tensor) {
        // `[b, t]` there predicts the label of `t + 1`, as here.
        table.compare(Kind::TokenLoss, &tensor, &losses.to_vec()?, &reference.floats(&tensor)?.0, |_| true);
    }

    let trainable = Trainable::of(model, |_| true)?;
    let mut gradients = Gradients::new();
    let loss = train_stack(session, model, &trainable, &case.batch, Keep::BlockInputs, &mut gradients)?;
    let tensor = format!("{name}.loss");
    table.compare(Kind::MeanLoss, &tensor, &[loss.item()?], &reference.floats(&tensor)?.0, |_| true);

    let prefix = format!("{name}.grad.");
    for stored in reference.below(&prefix) {
        let (Role::Parameter(parameter) | Role::Vision(parameter)) = classify(stored) else { continue };
        let tensor = format!("{prefix}{stored}");
        let found = gradients.get(&parameter).with_context(|| format!("`{parameter}` got no gradient"))?;
        table.compare(Kind::ParameterGradients, &tensor, &found.to_vec()?, &reference.floats(&tensor)?.0, |_| true);
    }
    if reference.below(&prefix).next().is_some() {
        // A parameter that the reference does not know would go unseen.
        let is_parameter = |stored: &&str| matches!(classify(stored), Role::Parameter(_) | Role::Vision(_));
        let known = reference.below(&prefix).filter(is_parameter).count();
        table.add(
            Kind::ParameterGradients,
            &format!("{name}: parameters without a reference"),
            if known == gradients.len() { 0.0 } else { f64::INFINITY },
        );
    }
    Ok(())
}
