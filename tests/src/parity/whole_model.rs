//! Logits, hidden states, losses and the gradient of every parameter.

use anyhow::{Context, Result};
use cotangent::{Gradients, Infer, Keep, Session, Tensor, Trainable, train_stack};
use cotangent_models::checkpoint::{TensorRole, classify};
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

/// The reference's name for two parameters of experts together, the gates before the others.
const GATE_UP: &str = ".experts.gate_up_proj";
/// One that it calls otherwise.
const DOWN: &str = ".experts.down_proj";

/// The gradient of a parameter of the reference, by canonical name.
fn gradient(gradients: &Gradients, parameter: &str) -> Result<Vec<f32>> {
    let get = |name: &str| gradients.get(name).with_context(|| format!("`{name}` got no gradient"));
    if parameter.ends_with(DOWN) {
        return Ok(get(&format!("{parameter}.weight"))?.to_vec()?);
    }
    let Some(layer) = parameter.strip_suffix(GATE_UP) else { return Ok(get(parameter)?.to_vec()?) };
    let [gates, others] =
        ["gate_proj", "up_proj"].map(|projection| get(&format!("{layer}.experts.{projection}.weight")));
    let (gates, others) = (gates?, others?);
    let of_expert = gates.size() / gates.dimension(0).unsigned_abs() as usize;
    let (gates, others): (Vec<f32>, Vec<f32>) = (gates.to_vec()?, others.to_vec()?);
    let pairs = gates.chunks(of_expert).zip(others.chunks(of_expert));
    Ok(pairs.flat_map(|(gates, others)| [gates, others].concat()).collect())
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
            // The reference stores states from before features are added, which differ at pictures in the first layers.
            let added_to = config.vision.as_ref().is_some_and(|vision| index < vision.deepstack.len());
            let (real, width) = (at_real_tokens(&case, config.hidden_size), config.hidden_size);
            let counts = |element: usize| real(element) && !(added_to && case.is_slot[element / width]);
            table.compare(Kind::HiddenStates, &tensor, &found, &expected, counts);
        }
    }
    let tensor = format!("{name}.token_loss");
    if reference.has(&tensor) {
        // The loss at `[b, t]` predicts the label of `t + 1`, in the reference and here.
        table.compare(Kind::TokenLoss, &tensor, &losses.to_vec()?, &reference.floats(&tensor)?.0, |_| true);
    }

    let trainable = Trainable::new(model, |_| true)?;
    let mut gradients = Gradients::new();
    let loss = train_stack(session, model, &trainable, &case.batch, Keep::BlockInputs, &mut gradients)?;
    let tensor = format!("{name}.loss");
    table.compare(Kind::MeanLoss, &tensor, &[loss.item()?], &reference.floats(&tensor)?.0, |_| true);

    let prefix = format!("{name}.grad.");
    for stored in reference.below(&prefix) {
        let (TensorRole::Parameter(parameter) | TensorRole::Vision(parameter)) = classify(stored) else { continue };
        let tensor = format!("{prefix}{stored}");
        let found = gradient(&gradients, &parameter)?;
        table.compare(Kind::ParameterGradients, &tensor, &found, &reference.floats(&tensor)?.0, |_| true);
    }
    if reference.below(&prefix).next().is_some() {
        // Otherwise a parameter that the reference does not have would not be noticed.
        let is_parameter = |stored: &&str| matches!(classify(stored), TensorRole::Parameter(_) | TensorRole::Vision(_));
        let known: usize =
            reference.below(&prefix).filter(is_parameter).map(|name| if name.ends_with(GATE_UP) { 2 } else { 1 }).sum();
        table.add(
            Kind::ParameterGradients,
            &format!("{name}: parameters without a reference"),
            if known == gradients.len() { 0.0 } else { f64::INFINITY },
        );
    }
    Ok(())
}
