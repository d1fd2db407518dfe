//! The audit: whether every parameter that should train does.

use std::collections::{BTreeMap, BTreeSet};

use mlx_rs::Array;

use crate::cut::{Cut, CutKind};
use crate::dtype::Dtype;
use crate::error::{Context as _, Error, Result};
use crate::ffi;
use crate::identity::Identity;
use crate::mode::Stored;
use crate::parameters::{Parameters, Path};
use crate::session::Session;
use crate::tensor::{Origin, Tensor};

use super::gradient::{Trainable, TrainableLeaves};
use super::gradients::Gradients;
use super::names::{self, Leaf};
use super::stack::{Stack, leaves_of_parts, train_stack_compared};

/// The gradient that one training step gave each parameter that should train, and the places at which gradients were
/// stopped on purpose.
#[derive(Debug, Clone)]
pub struct Audit {
    /// The loss of the batch.
    pub loss: f32,
    /// The parameters that should train, in the order of the tree.
    pub parameters: Vec<AuditedParameter>,
    /// The number of frozen parameters.
    pub frozen: usize,
    /// The cuts that the graph met, each once for each part of the model, in the order in which they were met.
    pub cuts: Vec<Cut>,
}

/// One parameter that should train.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditedParameter {
    /// The full name of the parameter.
    pub name: String,
    /// The shape of the parameter.
    pub shape: Vec<i32>,
    /// The dtype of the parameter.
    pub dtype: Dtype,
    /// The gradient that the parameter got.
    pub gradient: GradientState,
}

/// The gradient that a parameter got.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum GradientState {
    /// All elements are finite, and some are not zero.
    Finite {
        /// The square root of the sum of squares.
        norm: f64,
        /// The share of elements that are zero: natural in an embedding whose tokens were not met, elsewhere a sign that
        /// a part of the parameter is cut off.
        zeros: f64,
    },
    /// All elements are zero: the loss does not depend on the parameter, or the path was cut.
    Zero,
    /// Some elements are infinite or not a number.
    NotFinite,
    /// No gradient: no part of the model that the driver walks holds this parameter.
    Missing,
}

impl GradientState {
    /// Returns whether the parameter trains.
    pub fn trains(self) -> bool {
        matches!(self, GradientState::Finite { .. })
    }
}

impl Audit {
    /// The parameters that should train and do not.
    pub fn failures(&self) -> impl Iterator<Item = &AuditedParameter> {
        self.parameters.iter().filter(|parameter| !parameter.gradient.trains())
    }

    /// Returns whether every parameter that should train does, and there is one.
    pub fn passed(&self) -> bool {
        !self.parameters.is_empty() && self.failures().next().is_none()
    }
}

/// Runs one training step of `model`, as [`train_stack`](super::train_stack) runs it, and looks at every gradient.
///
/// Parameters are those of the whole tree, not only of the parts that the driver asks for: one that no part holds is
/// reported as [`GradientState::Missing`].
///
/// # Errors
/// As [`train_stack`](super::train_stack); [`Error::Refused`] if a part calls a parameter as the tree does not, or shows
/// another tensor under its name.
pub fn audit_stack<S>(session: &mut Session, model: &S, trainable: &Trainable, batch: &S::Batch) -> Result<Audit>
where
    S: Stack + Parameters<Mode = Stored>,
{
    let operation = "audit_stack";
    let (tree, parts) = (names::leaves(model, &Path::root()), leaves_of_parts(model));
    check_parts(operation, &tree, &parts)?;
    names::check(operation, &[&TrainableLeaves::new(model, &Path::root(), trainable)], trainable, || {
        names::leaf_names(model)
    })?;
    // A parameter that no part has is missing, which the audit reports.
    let held: BTreeSet<&str> = parts.iter().map(|leaf| leaf.name.as_str()).collect();
    let walked = Trainable::named(trainable.names().filter(|name| held.contains(name)).map(str::to_owned));
    let mut gradients = Gradients::new();
    let (loss, cuts) =
        session.record_cuts(|session| train_stack_compared(session, model, &walked, batch, &mut gradients));
    let loss = loss?.to_vec::<f32>()?.iter().zip(S::weights(batch)).map(|(part, weight)| part * weight).sum();

    let mut parameters = Vec::new();
    let mut frozen = 0;
    let mut failed = None;
    model.visit(&mut Path::root(), &mut |path, tensor| {
        let name = path.as_str();
        if !trainable.contains(name) {
            frozen += 1;
            return;
        }
        let gradient = gradients.get(name).map_or(Ok(GradientState::Missing), |gradient| state(gradient.array()));
        match gradient {
            Ok(gradient) => parameters.push(AuditedParameter {
                name: name.to_owned(),
                shape: tensor.shape().to_vec(),
                dtype: tensor.dtype(),
                gradient,
            }),
            Err(error) => failed = Some(error),
        }
    });
    failed.map_or(Ok(Audit { loss, parameters, frozen, cuts: merge(cuts) }), Err)
}

/// Checks the parts of a stack against its tree.
fn check_parts(operation: &'static str, tree: &[Leaf], parts: &[Leaf]) -> Result<()> {
    let by_name: BTreeMap<&str, Identity> = tree.iter().map(|leaf| (leaf.name.as_str(), leaf.identity)).collect();
    for Leaf { name, identity, .. } in parts {
        let message = match by_name.get(name.as_str()) {
            Some(known) if known == identity => continue,
            Some(_) => {
                format!("a part of the stack shows another tensor as `{name}` than the tree: clone that of the tree")
            }
            None => format!(
                "a part of the stack has a parameter `{name}`, which the tree has not ({}): call it there as here",
                names::list(tree.iter().map(|leaf| leaf.name.as_str()))
            ),
        };
        return Err(Error::Refused { operation, message, code: "C21" });
    }
    Ok(())
}

fn state(gradient: &Array) -> Result<GradientState> {
    let operation = "audit_stack";
    if gradient.size() == 0 {
        return Ok(GradientState::Zero);
    }
    let gradient = gradient.as_dtype(mlx_rs::Dtype::Float32).during(operation)?;
    let finite = gradient.is_finite().during(operation)?.all(false).during(operation)?;
    let largest = gradient.abs().during(operation)?.max(false).during(operation)?;
    // Values of at most one have squares that neither overflow nor vanish.
    let scaled = gradient.divide(&largest).during(operation)?;
    let length = scaled.square().during(operation)?.sum(false).during(operation)?.sqrt().during(operation)?;
    let is_zero = mlx_rs::ops::eq(&gradient, Array::from_f32(0.0)).during(operation)?;
    let zeros = is_zero.as_dtype(mlx_rs::Dtype::Float32).during(operation)?.mean(false).during(operation)?;
    ffi::evaluate(operation, [&finite, &largest, &length, &zeros])?;
    let read = |array: Array| Tensor::<Stored>::from_parts(array, Origin::HOST);
    if !read(finite).item::<bool>()? {
        return Ok(GradientState::NotFinite);
    }
    let largest = f64::from(read(largest).item::<f32>()?);
    if largest == 0.0 {
        return Ok(GradientState::Zero);
    }
    let norm = largest * f64::from(read(length).item::<f32>()?);
    Ok(GradientState::Finite { norm, zeros: f64::from(read(zeros).item::<f32>()?) })
}

/// Returns each cut of a part once: the driver runs a block's forward pass before it asks for its gradient,
/// and a cut counts if either of the two needed one.
fn merge(cuts: Vec<Cut>) -> Vec<Cut> {
    let mut merged: Vec<Cut> = Vec::new();
    let identity = |cut: &Cut| -> (CutKind, (&'static str, u32), String, String) {
        (cut.kind, cut.place, cut.part.clone(), cut.reason.clone())
    };
    for cut in cuts {
        match merged.iter_mut().find(|known| identity(known) == identity(&cut)) {
            Some(known) => known.needed_gradient |= cut.needed_gradient,
            None => merged.push(cut),
        }
    }
    merged
}
