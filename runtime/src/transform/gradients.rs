//! Gradients by name, with the identities of their parameters.

use std::collections::BTreeMap;

use mlx_rs::Array;

use crate::dtype::Dtype;
use crate::error::{Context as _, Error, Result};
use crate::identity::Identity;
use crate::mode::Stored;
use crate::parameters::{Parameters, Path};
use crate::tensor::{Origin, Tensor};

use super::gradient::TrainableLeaves;

/// Gradients by parameter name, in name order: the same order in every run.
///
/// Drivers *add* to the gradients that they are given, so that the gradients of micro-batches become those of one step. So begin
/// each step with [`Gradients::new`]: gradients of the weights before a step of the optimizer, or of another model, are refused.
#[derive(Debug, Clone, Default)]
pub struct Gradients {
    by_name: BTreeMap<String, Gradient>,
    /// The number of additions.
    additions: u64,
    /// Whether a driver failed after it had added some of its gradients.
    incomplete: bool,
}

/// The gradient of one parameter.
#[derive(Debug, Clone)]
struct Gradient {
    tensor: Tensor<Stored>,
    /// The identity of the parameter with respect to which the gradient was taken.
    of: Identity,
}

impl Gradients {
    /// Returns a collection without gradients.
    pub fn new() -> Self {
        Self::default()
    }

    /// The gradient of the parameter of this name: in the parameter's dtype, except for a block's, which may be in the narrower
    /// one that [`Stack::dtype_of_use`](crate::Stack::dtype_of_use) gives.
    pub fn get(&self, name: &str) -> Option<&Tensor<Stored>> {
        self.by_name.get(name).map(|gradient| &gradient.tensor)
    }

    /// Names and gradients, in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor<Stored>)> {
        self.by_name.iter().map(|(name, gradient)| (name.as_str(), &gradient.tensor))
    }

    /// Returns the number of gradients.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Returns whether there are no gradients.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The bytes of all gradients.
    pub fn bytes(&self) -> usize {
        self.by_name.values().map(|gradient| gradient.tensor.bytes()).sum()
    }

    /// The same gradients, for the parameters of the same names in `parameters`: where they were taken at other weights
    /// than those that will be changed, such as a copy in another place or one that was moved on purpose.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a gradient's parameter is missing, or has another shape.
    pub fn moved_to<P: Parameters<Mode = Stored>>(&self, parameters: &P) -> Result<Self> {
        let mut moved = self.clone();
        for (name, gradient) in &mut moved.by_name {
            let mut found = None;
            parameters.visit(&mut Path::root(), &mut |path, tensor| {
                if path.as_str() == name {
                    found = Some((tensor.identity(), tensor.shape().to_vec()));
                }
            });
            match found {
                Some((identity, shape)) if shape == gradient.tensor.shape() => gradient.of = identity,
                found => {
                    let message = match found {
                        Some((_, shape)) => {
                            format!("found a gradient of shape {:?}, expected {shape:?}", gradient.tensor.shape())
                        }
                        None => "found a gradient, expected a parameter of that name".to_owned(),
                    };
                    return Err(Error::Parameter { name: name.clone(), message });
                }
            }
        }
        Ok(moved)
    }

    /// Adds to the gradient that is there, for tied weights and micro-batches. A sum has the parameter's `dtype`; a
    /// single gradient keeps its own. Returns the new gradient, not evaluated.
    ///
    /// # Errors
    /// [`Error::Mlx`] if the shapes differ.
    pub(crate) fn accumulate(&mut self, name: String, dtype: Dtype, of: Identity, gradient: Array) -> Result<Array> {
        let sum = match self.by_name.get(&name) {
            Some(before) => {
                let [before, gradient] = [before.tensor.array(), &gradient].map(|array| array.as_dtype(dtype.to_mlx()));
                before.and_then(|before| before.add(gradient?)).during("accumulate")?
            }
            None => gradient,
        };
        self.by_name.insert(name, Gradient { tensor: Tensor::from_parts(sum.clone(), Origin::HOST), of });
        self.additions += 1;
        Ok(sum)
    }

    /// Checks that the gradients of `leaves` may be added to these, on behalf of a driver.
    ///
    /// # Errors
    /// [`Error::Refused`] if these are of other weights, or of a step that failed.
    pub(crate) fn check(&self, operation: &'static str, leaves: &[&TrainableLeaves]) -> Result<()> {
        self.check_complete(operation)?;
        let added = leaves.iter().flat_map(|leaves| leaves.identified());
        let mut others = added.filter(|(name, of)| self.by_name.get(*name).is_some_and(|gradient| gradient.of != *of));
        match others.next() {
            None => Ok(()),
            Some((name, _)) => Err(refused(
                operation,
                format!(
                    "the gradient of `{name}` that is there already is of other weights, before a step of the optimizer or \
                     of another model: begin with `Gradients::new()` after each step, and for each model"
                ),
            )),
        }
    }

    /// Runs a driver that adds to these gradients.
    ///
    /// # Errors
    /// What the driver returns.
    pub(crate) fn adding<T>(&mut self, drive: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = self.additions;
        let result = drive(self);
        self.incomplete |= result.is_err() && self.additions > before;
        result
    }

    /// Returns the tensor with respect to which the gradient of this name was taken.
    pub(crate) fn taken_at(&self, name: &str) -> Option<Identity> {
        self.by_name.get(name).map(|gradient| gradient.of)
    }

    /// Checks the gradients against the parameter of one of them, on behalf of an optimizer.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is another model's.
    pub(crate) fn check_parameter(&self, operation: &'static str, name: &str, parameter: Identity) -> Result<()> {
        match self.by_name.get(name) {
            Some(gradient) if !gradient.of.is_of_same_parameter(parameter) => Err(refused(
                operation,
                format!(
                    "the gradient of `{name}` is of another model's parameter of this name: take it of this model, or say \
                     that it is meant with `Gradients::moved_to`"
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Checks that all gradients of a step are there, on behalf of `operation`.
    ///
    /// # Errors
    /// [`Error::Refused`] if a driver failed before it had added all.
    pub(crate) fn check_complete(&self, operation: &'static str) -> Result<()> {
        if !self.incomplete {
            return Ok(());
        }
        let message = "a driver failed after it had added some of its gradients to these, so they belong to no step: begin \
                       again with `Gradients::new()`";
        Err(refused(operation, message.to_owned()))
    }

    pub(crate) fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.by_name.values().map(|gradient| gradient.tensor.array())
    }
}

fn refused(operation: &'static str, message: String) -> Error {
    Error::Refused { operation, message, code: "C21" }
}
