//! What the codes of quantized matrices stand for.

use anyhow::{Context, Result};
use cotangent::parameters::Path;
use cotangent::{Indices, Infer, Parameters as _, Session, Stored, Tensor};
use cotangent_models::checkpoint::{TensorRole, classify};
use cotangent_models::qwen35::Model;
use cotangent_models::weight::Weight;

use super::reference::Reference;
use super::table::{Kind, Table};

/// The names in the reference: the first and the last row of each quantized matrix, by its module's stored name.
const PREFIX: &str = "decode.";

fn rows(weight: &Weight<Infer>, _: &Tensor<Infer>, rows: &Indices) -> cotangent::Result<Tensor<Infer>> {
    weight.take_rows(rows)
}

/// Compares the first and the last row of every quantized matrix; one that only the model or only the reference has deviates
/// without bound.
pub(super) fn compare(
    session: &mut Session,
    model: &mut Model<Stored>,
    reference: &Reference,
    table: &mut Table,
) -> Result<()> {
    let mut weights: Vec<(String, Weight<Stored>)> = Vec::new();
    model.nodes(&mut Path::root(), &mut |path, node| {
        if let Some(weight @ Weight::Quantized(_)) = node.downcast_ref::<Weight<Stored>>() {
            weights.push((path.to_string(), weight.clone()));
        }
    });
    let names: Vec<&str> =
        reference.below(PREFIX).filter(|name| matches!(classify(name), TensorRole::Parameter(_))).collect();
    if names.len() != weights.len() {
        table.add(Kind::DecodedRows, "quantized matrices without a reference", f64::INFINITY);
    }
    let nothing = Tensor::zeros(&[1], cotangent::Dtype::F32)?;
    for name in names {
        let TensorRole::Parameter(module) = classify(name) else { continue };
        let weight = weights.iter().find(|(path, _)| *path == module).map(|(_, weight)| weight);
        let weight = weight.with_context(|| format!("`{module}` is not quantized"))?;
        let rows_of_all = weight.outputs() * weight.matrices().unwrap_or(1);
        let ends = Indices::from_slice(&[0, rows_of_all - 1], &[2])?;
        let found = session.infer(weight, &nothing, &ends, rows)?;
        let tensor = format!("{PREFIX}{name}");
        table.compare(Kind::DecodedRows, &tensor, &found.to_vec()?, &reference.floats(&tensor)?.0, |_| true);
    }
    Ok(())
}
