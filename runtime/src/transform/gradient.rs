//! Values and gradients over named, ordered parameters.

use std::collections::{BTreeMap, BTreeSet};

use mlx_rs::Array;

use crate::dtype::Dtype;
use crate::error::{Context as _, Error, Result};
use crate::ffi::{self, ScopedClosure};
use crate::flat::{Casts, Place};
use crate::identity::Identity;
use crate::mode::{Stored, Train};
use crate::parameters::{Parameters, Path};
use crate::repeat::Repetition;
use crate::running;
use crate::session::Session;
use crate::tensor::{Origin, Tensor, TraceId};

use super::names;

/// The names of the parameters that train; all others are frozen, and cost nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trainable {
    names: BTreeSet<String>,
}

impl Trainable {
    /// Every float parameter of `parameters` whose name `select` picks.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a picked one holds integers: MLX would "differentiate" it. [`Error::Refused`] if none is
    /// picked, if two parameters have one name, or if one tensor is picked under two.
    pub fn of<P: Parameters<Mode = Stored>>(parameters: &P, select: impl Fn(&str) -> bool) -> Result<Self> {
        let operation = "Trainable::of";
        let leaves = names::leaves(parameters, &Path::root());
        let picked: Vec<_> = leaves.iter().filter(|leaf| select(&leaf.name)).collect();
        if let Some(leaf) = picked.iter().find(|leaf| !leaf.dtype.is_float()) {
            return Err(Error::Parameter {
                name: leaf.name.clone(),
                message: format!("found {}, expected a float type: integers cannot train", leaf.dtype),
            });
        }
        names::check_one_tensor_a_name(operation, leaves.iter().map(|leaf| (leaf.name.as_str(), leaf.identity)))?;
        names::check_one_name_a_tensor(operation, picked.iter().map(|leaf| (leaf.name.as_str(), leaf.identity)))?;
        if picked.is_empty() {
            return Err(names::nothing_trains(operation, leaves.iter().map(|leaf| leaf.name.as_str())));
        }
        Ok(Trainable { names: picked.into_iter().map(|leaf| leaf.name.clone()).collect() })
    }

    /// The parameters of these full names. The driver that they are used with refuses one that none of its parameters has.
    pub fn named(names: impl IntoIterator<Item = String>) -> Self {
        Trainable { names: names.into_iter().collect() }
    }

    /// Whether the parameter of this full name trains.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// How many parameters train.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether nothing trains.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// Gradients by parameter name, in name order: the same order in every run.
///
/// Drivers that are given gradients *add* to what is there, which is how the gradients of micro-batches become one step's.
/// So begin each step with [`Gradients::new`]: those of the weights before a step of the optimizer, or of another model,
/// are refused.
#[derive(Debug, Clone, Default)]
pub struct Gradients {
    by_name: BTreeMap<String, Gradient>,
    /// How often something was added.
    additions: u64,
    /// Whether a driver failed after it had added some of its gradients.
    incomplete: bool,
}

/// The gradient of one parameter.
#[derive(Debug, Clone)]
struct Gradient {
    tensor: Tensor<Stored>,
    /// What it was taken with respect to.
    of: Identity,
}

impl Gradients {
    /// No gradients yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The gradient of the parameter of this name: in the parameter's dtype, but for a block's, which may be in the narrower
    /// one that [`Stack::dtype_of_use`](crate::Stack::dtype_of_use) gives.
    pub fn get(&self, name: &str) -> Option<&Tensor<Stored>> {
        self.by_name.get(name).map(|gradient| &gradient.tensor)
    }

    /// Names and gradients, in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor<Stored>)> {
        self.by_name.iter().map(|(name, gradient)| (name.as_str(), &gradient.tensor))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The bytes of all gradients.
    pub fn bytes(&self) -> usize {
        self.by_name.values().map(|gradient| gradient.tensor.bytes()).sum()
    }

    /// The same gradients, for the parameters of the same names in `parameters`: where they were taken at other weights
    /// than those that are to be changed, such as a copy in another place or one that was moved on purpose.
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

    /// Adds to what is there: of tied weights, of micro-batches. A sum is in `dtype`, the parameter's; one gradient alone
    /// stays as it is. What it is now is returned, not evaluated.
    ///
    /// # Errors
    /// [`Error::Mlx`] if the shapes differ.
    pub(crate) fn accumulate(&mut self, name: String, dtype: Dtype, of: Identity, gradient: Array) -> Result<Array> {
        let sum = match self.by_name.get(&name) {
            Some(before) => {
                let [before, gradient] =
                    [before.tensor.array(), &gradient].map(|array| array.as_dtype(dtype.to_mlx()));
                before.and_then(|before| before.add(gradient?)).during("accumulate")?
            }
            None => gradient,
        };
        self.by_name.insert(name, Gradient { tensor: Tensor::from_parts(sum.clone(), Origin::HOST), of });
        self.additions += 1;
        Ok(sum)
    }

    /// Holds that the gradients of `leaves` may be added to these, on behalf of a driver.
    ///
    /// # Errors
    /// [`Error::Refused`] if these are of other weights, or of a step that failed.
    pub(crate) fn check(&self, operation: &'static str, leaves: &[&TrainableLeaves]) -> Result<()> {
        self.check_complete(operation)?;
        let added = leaves.iter().flat_map(|leaves| leaves.identified());
        let mut others =
            added.filter(|(name, of)| self.by_name.get(*name).is_some_and(|gradient| gradient.of != *of));
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

    /// Holds the gradients against the parameter of one of them, on behalf of an optimizer.
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

    /// Holds that all gradients of a step are there, on behalf of `operation`.
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

/// Outputs, and the gradients of their inner product with `cotangents`, of a function of arrays.
pub(crate) fn vjp_arrays<'a>(
    operation: &'static str,
    function: impl Fn(&[Array]) -> Result<Vec<Array>> + 'a,
    primals: &[Array],
    cotangents: &[Array],
) -> Result<(Vec<Array>, Vec<Array>)> {
    ScopedClosure::new(function).vjp(operation, primals, cotangents)
}

/// The trainable leaves of a tree, in visiting order.
#[derive(Default)]
pub(crate) struct TrainableLeaves {
    /// Full names.
    pub(crate) names: Vec<String>,
    /// Those of the parameters, whatever the primals are cast to.
    pub(crate) dtypes: Vec<Dtype>,
    /// What gradients are taken with respect to.
    pub(crate) primals: Vec<Array>,
    /// Which tensors they are.
    pub(crate) identities: Vec<Identity>,
    /// Where the parameters lie.
    places: Vec<Option<Place>>,
    /// How many leaves the tree has, those that do not train included.
    of_tree: usize,
}

impl TrainableLeaves {
    pub(crate) fn of<P: Parameters<Mode = Stored>>(parameters: &P, prefix: &Path, trainable: &Trainable) -> Self {
        let mut leaves = TrainableLeaves::default();
        parameters.visit(&mut prefix.clone(), &mut |path, tensor| {
            leaves.of_tree += 1;
            if trainable.contains(path.as_str()) {
                leaves.names.push(path.to_string());
                leaves.dtypes.push(tensor.dtype());
                leaves.primals.push(tensor.array().clone());
                leaves.identities.push(tensor.identity());
                leaves.places.push(tensor.place().cloned());
            }
        });
        leaves
    }

    /// With primals of the dtypes that `dtype` gives by name and dtype. Nothing is evaluated.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless they are float types: MLX would "differentiate" integers.
    pub(crate) fn cast(mut self, casts: &mut Casts, dtype: impl Fn(&str, Dtype) -> Dtype) -> Result<Self> {
        let leaves = self.names.iter().zip(&self.dtypes).zip(&self.places);
        for (((name, stored), place), primal) in leaves.zip(&mut self.primals) {
            let used = dtype(name, *stored);
            if !used.is_float() {
                return Err(Error::Parameter {
                    name: name.clone(),
                    message: format!("found {used} as its `dtype_of_use`, expected a float type"),
                });
            }
            *primal = casts.cast(primal, place.as_ref(), used)?;
        }
        Ok(self)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Names and tensors.
    pub(crate) fn identified(&self) -> impl Iterator<Item = (&str, Identity)> {
        self.names.iter().map(String::as_str).zip(self.identities.iter().copied())
    }

    /// Adds the gradients of these leaves to `gradients`; returns what they are now, in order.
    pub(crate) fn accumulate(self, found: Vec<Array>, gradients: &mut Gradients) -> Result<Vec<Array>> {
        let named = self.names.into_iter().zip(self.dtypes).zip(self.identities).zip(found);
        named.map(|(((name, dtype), of), gradient)| gradients.accumulate(name, dtype, of, gradient)).collect()
    }
}

/// The tree as training tensors, its trainable `leaves` replaced by `primals` (in visiting order), which come from
/// `origin`.
///
/// # Errors
/// [`Error::Parameter`] if the tree converts other leaves than it shows, one of which could then not train.
pub(crate) fn with_primals<P: Parameters<Mode = Stored>>(
    parameters: &P,
    prefix: &Path,
    leaves: &TrainableLeaves,
    origin: Origin,
    primals: &[Array],
) -> Result<P::In<Train>> {
    let differs = |name: &str| Error::Parameter {
        name: name.to_owned(),
        message: "the tree shows other leaves than it converts, or in another order".into(),
    };
    let frozen = Origin { needs_gradient: false, trains: false, ..origin };
    let (mut converted, mut trained) = (0, 0);
    let tree = parameters.convert(&mut prefix.clone(), &mut |path, tensor| {
        converted += 1;
        if leaves.names.get(trained).is_none_or(|name| name != path.as_str()) {
            return Ok(tensor.in_mode(frozen));
        }
        let primal = primals.get(trained).ok_or_else(|| differs(path.as_str()))?;
        trained += 1;
        Ok(Tensor::from_parts(primal.clone(), origin))
    })?;
    match leaves.names.get(trained) {
        Some(name) => Err(differs(name)),
        None if converted != leaves.of_tree => Err(differs(prefix.as_str())),
        None => Ok(tree),
    }
}

/// A scalar f32 loss, and its gradient with respect to the `trainable` leaves of `parameters`.
///
/// `loss` is a `fn` item: what it reads are its arguments. Both results are evaluated.
///
/// # Errors
/// What `loss` returns; [`Error::Shape`] unless its result is a scalar; [`Error::Mlx`]; [`Error::Refused`] for what would
/// train wrong: a loss that no trainable parameter reaches or that another graph computed, a selection of nothing or of
/// names that `parameters` lacks, two parameters of one name, one under two names.
pub fn value_and_grad<P: Parameters<Mode = Stored>, B>(
    session: &mut Session,
    parameters: &P,
    trainable: &Trainable,
    batch: &B,
    loss: fn(&P::In<Train>, &B) -> Result<Tensor<Train>>,
) -> Result<(Tensor<Stored>, Gradients)> {
    let operation = "value_and_grad";
    let running = session.run(operation)?;
    let root = Path::root();
    let leaves = TrainableLeaves::of(parameters, &root, trainable);
    names::check(operation, &[&leaves], trainable, || names::of(parameters))?;
    running.train([&leaves]);
    let trace = TraceId::fresh();
    let function = |primals: &[Array]| {
        let value = loss(&with_primals(parameters, &root, &leaves, Origin::of(trace, true), primals)?, batch)?;
        Ok(vec![scalar_loss(operation, value, trace, &mut leaves.names.iter())?])
    };
    let found = vjp_arrays(operation, function, &leaves.primals, &[Array::from_f32(1.0)]);
    let result = found.and_then(|(value, gradients)| {
        let mut result = Gradients::new();
        leaves.accumulate(gradients, &mut result)?;
        let repetitions = running::take_repetitions();
        let compared = repetitions.iter().map(Repetition::array);
        ffi::evaluate(operation, value.iter().chain(result.arrays()).chain(compared))?;
        running.compare(&repetitions)?;
        Ok((Tensor::from_parts(value[0].clone(), Origin::HOST), result))
    });
    running.finish(result)
}

/// A scalar f32 loss, evaluated, with no gradient.
///
/// # Errors
/// What `loss` returns; [`Error::Shape`] unless its result is a scalar; [`Error::Mlx`]; [`Error::Refused`] if another
/// graph computed it.
pub fn evaluate<P: Parameters<Mode = Stored>, B>(
    session: &mut Session,
    parameters: &P,
    batch: &B,
    loss: fn(&P::In<Train>, &B) -> Result<Tensor<Train>>,
) -> Result<Tensor<Stored>> {
    let operation = "evaluate";
    let running = session.run(operation)?;
    let (root, trace) = (Path::root(), TraceId::fresh());
    let leaves = TrainableLeaves::of(parameters, &root, &Trainable::default());
    let result = with_primals(parameters, &root, &leaves, Origin::of(trace, false), &[]).and_then(|parameters| {
        let value = scalar(operation, loss(&parameters, batch)?, trace)?;
        ffi::evaluate(operation, [&value])?;
        Ok(Tensor::from_parts(value, Origin::HOST))
    });
    running.finish(result)
}

/// A loss as the array MLX differentiates with respect to the parameters of these names.
///
/// # Errors
/// As [`scalar`]; [`Error::Refused`] if none of them has a part in it.
pub(crate) fn scalar_loss(
    operation: &'static str,
    loss: Tensor<Train>,
    trace: TraceId,
    trained: &mut dyn Iterator<Item = &String>,
) -> Result<Array> {
    let reached = loss.origin().trains;
    let loss = scalar(operation, loss, trace)?;
    if reached {
        return Ok(loss);
    }
    Err(Error::Refused {
        operation,
        message: format!(
            "the loss depends on no parameter that trains ({}), so every gradient would be zero: compute it from the \
             parameters, without a cut on every way",
            names::list(trained.map(String::as_str))
        ),
        code: "C20",
    })
}

/// A loss of which no gradient is asked.
///
/// # Errors
/// [`Error::Shape`] unless it is a scalar of float32, [`Error::Refused`] if another graph computed it.
pub(crate) fn scalar(operation: &'static str, loss: Tensor<Train>, trace: TraceId) -> Result<Array> {
    if !loss.shape().is_empty() || loss.dtype() != Dtype::F32 {
        return Err(Error::Shape {
            operation,
            found: format!("a loss of {} {:?}", loss.dtype(), loss.shape()),
            expected: "a scalar of float32: sum it, and cast it".into(),
        });
    }
    loss.leave(trace, operation, || "the loss".to_owned())
}
