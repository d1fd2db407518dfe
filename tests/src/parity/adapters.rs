//! Low-rank adapters: logits, gradients, and five steps of AdamW.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use cotangent::optimizer::{AdamW, AdamWOptions};
use cotangent::random::Key;
use cotangent::{Dtype, Gradients, Infer, Keep, Session, Stored, Tensor, train_stack};
use cotangent_models::checkpoint::{TensorRole, classify};
use cotangent_models::qwen35::{Batch, LoraOptions, LoraTargets, Model};

use super::Subject;
use super::reference::Reference;
use super::table::{Kind, Table};
use super::whole_model::at_real_tokens;

/// The description of the adapters in the file's metadata.
#[derive(serde::Deserialize)]
struct Description {
    rank: i32,
    scale: f32,
    case: String,
}

/// The optimizer's constants in the reference; `tolerances.json` may change them.
#[derive(serde::Deserialize, Clone, Copy)]
struct Steps {
    lr: f32,
    beta1: f64,
    beta2: f64,
    eps: f32,
    weight_decay: f32,
}

const DEFAULT_STEPS: Steps = Steps { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 };

/// The reference's `lora_A [rank, inputs]` and `lora_B [outputs, rank]` under our names and in our layout: transposed, but
/// for those of experts, which have one more axis.
fn transposed(reference: &Reference, prefix: &str) -> Result<BTreeMap<String, (Vec<f32>, Vec<i32>)>> {
    let mut tensors = BTreeMap::new();
    for stored in reference.below(prefix) {
        let (values, shape) = reference.floats(&format!("{prefix}{stored}"))?;
        let tensor = match shape[..] {
            [rows, columns] => {
                let (height, width) = (rows as usize, columns as usize);
                let turned = (0..width).flat_map(|column| (0..height).map(move |row| (row, column)));
                (turned.map(|(row, column)| values[row * width + column]).collect(), vec![columns, rows])
            }
            [_, _, _] => (values, shape),
            _ => anyhow::bail!("`{prefix}{stored}` has the shape {shape:?}, expected two axes or three"),
        };
        tensors.insert(our_name(stored), tensor);
    }
    Ok(tensors)
}

fn our_name(stored: &str) -> String {
    let lower = stored.replace(".lora_A", ".lora_a").replace(".lora_B", ".lora_b");
    match classify(&lower) {
        TensorRole::Parameter(name) | TensorRole::Vision(name) => name,
        _ => lower,
    }
}

fn logits(model: &Model<Infer>, _: &Tensor<Infer>, batch: &Batch) -> cotangent::Result<Tensor<Infer>> {
    let states = model.hidden_states(&batch.tokens, &batch.rotary, batch.pictures.as_ref(), None)?;
    model.logits(&states[states.len() - 1])
}

fn compare_all(
    table: &mut Table,
    kind: Kind,
    label: &str,
    found: impl Fn(&str) -> Option<Tensor<Stored>>,
    expected: &BTreeMap<String, (Vec<f32>, Vec<i32>)>,
) -> Result<()> {
    for (name, (expected, _)) in expected {
        let tensor = found(name).with_context(|| format!("`{name}` is missing"))?;
        table.compare(kind, &format!("{label}{name}"), &tensor.to_vec()?, expected, |_| true);
    }
    Ok(())
}

fn steps_of(dir: &Path) -> Result<Steps> {
    let Ok(text) = std::fs::read_to_string(dir.join("tolerances.json")) else { return Ok(DEFAULT_STEPS) };
    let json: serde_json::Value = serde_json::from_str(&text).context("tolerances.json")?;
    match json.pointer("/lora/adamw") {
        Some(steps) => serde_json::from_value(steps.clone()).context("`lora.adamw` of tolerances.json"),
        None => Ok(DEFAULT_STEPS),
    }
}

pub(super) fn compare(session: &mut Session, subject: &Subject<'_>, file: &Path, table: &mut Table) -> Result<()> {
    let adapters = Reference::open(file)?;
    let description: Description =
        serde_json::from_str(adapters.metadata("lora").context("the metadata entry `lora` is missing")?)?;
    let case = subject.reference.case(&description.case, &subject.config)?;

    let initial = transposed(&adapters, "init.")?;
    let modules: Vec<String> =
        initial.keys().filter_map(|name| name.strip_suffix(".lora_a").map(str::to_owned)).collect();
    // This model is separate, because adapters change it.
    let (mut model, _) = super::load(subject.dir, &subject.reference)?;
    let options = LoraOptions {
        rank: description.rank,
        scale: description.scale,
        targets: LoraTargets::Patterns(modules),
        last_layers: None,
    };
    model.add_adapters(&options, &Key::new(0)?)?;
    let tensors = initial
        .iter()
        .map(|(name, (values, shape))| Ok((name.clone(), Tensor::from_slice(values, shape)?)))
        .collect::<Result<BTreeMap<_, _>>>()?;
    model.set_adapters(&tensors)?;

    let nothing = Tensor::zeros(&[1], Dtype::F32)?;
    let found = session.infer(&model, &nothing, &case.batch, logits)?;
    let counts = at_real_tokens(&case, subject.config.vocab_size);
    table.compare(Kind::AdapterLogits, "lora.logits", &found.to_vec()?, &adapters.floats("logits")?.0, counts);

    let trainable = model.adapters_trainable()?;
    let steps = steps_of(subject.references)?;
    let mut optimizer = AdamW::new(AdamWOptions {
        beta1: steps.beta1,
        beta2: steps.beta2,
        epsilon: steps.eps,
        weight_decay: steps.weight_decay,
        max_norm: None,
    });
    let expected_losses = adapters.floats("adamw.losses")?.0;
    let mut losses = Vec::new();
    for step in 0..expected_losses.len() {
        let mut gradients = Gradients::new();
        let loss = train_stack(session, &model, &trainable, &case.batch, Keep::BlockInputs, &mut gradients)?;
        losses.push(loss.item::<f32>()?);
        if step == 0 {
            let expected = transposed(&adapters, "grad.")?;
            compare_all(table, Kind::AdapterGradients, "lora.grad.", |name| gradients.get(name).cloned(), &expected)?;
        }
        if step + 1 < expected_losses.len() {
            optimizer.update(&mut model, &gradients, steps.lr)?;
        }
    }
    table.compare(Kind::StepLosses, "adamw.losses", &losses, &expected_losses, |_| true);
    let last = model.adapters();
    let expected = transposed(&adapters, "adamw.final.")?;
    compare_all(table, Kind::StepAdapters, "adamw.final.", |name| last.get(name).cloned(), &expected)
}
