//! Values and gradients over named parameters: what trains, and the driver of a whole loss.

use std::collections::BTreeSet;

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

use super::gradients::Gradients;
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
    pub fn new<P: Parameters<Mode = Stored>>(parameters: &P, select: impl Fn(&str) -> bool) -> Result<Self> {
        let operation = "Trainable::new";
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

    /// Returns whether the parameter of this full name trains.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Returns the number of parameters that train.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Returns whether no parameter trains.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// Outputs, and the gradients of their inner product with `cotangents`, of a function of arrays.
pub(crate) fn vjp_arrays<'a>(
    operation: &'static str,
    function: impl Fn(&[Array]) -> Result<Vec<Array>> + 'a,
    primals: &[Array],
    cotangents: &[Array],
) -> Result<(Vec<Array>, Vec<Array>)> {
    let distinct = move |primals: &[Array]| distinct(operation, function(primals)?);
    ScopedClosure::new(distinct).vjp(operation, primals, cotangents)
}

/// Returns the same outputs, no two of which are one array: MLX would drop the cotangent of the second without an
/// error.
fn distinct(operation: &'static str, mut outputs: Vec<Array>) -> Result<Vec<Array>> {
    for output in outputs.iter_mut().skip(1) {
        // This shares the memory of an array that is contiguous already.
        *output = output.contiguous().during(operation)?;
    }
    Ok(outputs)
}

/// The trainable leaves of a tree, in visiting order.
#[derive(Default)]
pub(crate) struct TrainableLeaves {
    /// The full names of the parameters.
    pub(crate) names: Vec<String>,
    /// The dtypes of the parameters, whatever the primals are cast to.
    pub(crate) dtypes: Vec<Dtype>,
    /// The arrays with respect to which gradients are taken.
    pub(crate) primals: Vec<Array>,
    /// The identities of the parameters' tensors.
    pub(crate) identities: Vec<Identity>,
    /// The places of the parameters in flat arrays.
    places: Vec<Option<Place>>,
    /// The number of leaves of the tree, including those that do not train.
    of_tree: usize,
}

impl TrainableLeaves {
    pub(crate) fn new<P: Parameters<Mode = Stored>>(parameters: &P, prefix: &Path, trainable: &Trainable) -> Self {
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

    /// Casts the primals to the dtypes that `dtype` gives by name and dtype. Nothing is evaluated.
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
            return Ok(tensor.in_mode(frozen.named(path.as_str())));
        }
        let primal = primals.get(trained).ok_or_else(|| differs(path.as_str()))?;
        trained += 1;
        Ok(Tensor::from_parts(primal.clone(), origin.named(path.as_str())))
    })?;
    match leaves.names.get(trained) {
        Some(name) => Err(differs(name)),
        None if converted != leaves.of_tree => Err(differs(prefix.as_str())),
        None => Ok(tree),
    }
}

/// Returns a scalar f32 loss, and its gradient with respect to the `trainable` leaves of `parameters`.
///
/// `loss` is a `fn` item, so it reads only its arguments. Both results are evaluated.
///
/// # Errors
/// What `loss` returns; [`Error::Shape`] unless its result is a scalar; [`Error::Mlx`]; [`Error::Refused`] for a step that would
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
    let leaves = TrainableLeaves::new(parameters, &root, trainable);
    names::check(operation, &[&leaves], trainable, || names::leaf_names(parameters))?;
    running.train([&leaves]);
    let trace = TraceId::fresh();
    let function = |primals: &[Array]| {
        let value = loss(&with_primals(parameters, &root, &leaves, Origin::new(trace, true), primals)?, batch)?;
        Ok(vec![trained_loss(operation, value, trace, 1, &|| names::list(leaves.names.iter().map(String::as_str)))?])
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

/// Returns a scalar f32 loss, evaluated without a gradient.
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
    let leaves = TrainableLeaves::new(parameters, &root, &Trainable::default());
    let result = with_primals(parameters, &root, &leaves, Origin::new(trace, false), &[]).and_then(|parameters| {
        let value = loss_parts(operation, loss(&parameters, batch)?, trace, 1)?;
        ffi::evaluate(operation, [&value])?;
        Ok(Tensor::from_parts(value, Origin::HOST))
    });
    running.finish(result)
}

/// A loss of `parts` as the array MLX differentiates with respect to the parameters that `names` lists.
///
/// # Errors
/// As [`loss_parts`]; [`Error::Refused`] if none of them has a part in it.
pub(crate) fn trained_loss(
    operation: &'static str,
    loss: Tensor<Train>,
    trace: TraceId,
    parts: usize,
    names: &dyn Fn() -> String,
) -> Result<Array> {
    let reached = loss.origin().trains;
    let name = || format!("the loss, of which the gradient of {} is asked,", names());
    let loss = checked(operation, loss, trace, parts, name)?;
    if reached {
        return Ok(loss);
    }
    Err(Error::Refused {
        operation,
        message: format!(
            "the loss depends on no parameter that trains ({}), so every gradient would be zero: compute it from the \
             parameters, without a cut on every way",
            names()
        ),
        code: "C20",
    })
}

/// A loss of `parts` of which no gradient is asked: a scalar of one part, a vector of several.
///
/// # Errors
/// [`Error::Shape`] unless it is float32 and of that shape, [`Error::Refused`] if another graph computed it.
pub(crate) fn loss_parts(operation: &'static str, loss: Tensor<Train>, trace: TraceId, parts: usize) -> Result<Array> {
    checked(operation, loss, trace, parts, || "the loss".to_owned())
}

fn checked(
    operation: &'static str,
    loss: Tensor<Train>,
    trace: TraceId,
    parts: usize,
    name: impl FnOnce() -> String,
) -> Result<Array> {
    let shape = if parts == 1 { Vec::new() } else { vec![parts as i32] };
    if loss.shape() != shape || loss.dtype() != Dtype::F32 {
        let expected = match parts {
            1 => "a scalar of float32: sum it, and cast it".into(),
            parts => format!("a vector of float32 of {parts} parts, as many as have a weight"),
        };
        return Err(Error::Shape {
            operation,
            found: format!("a loss of {} {:?}", loss.dtype(), loss.shape()),
            expected,
        });
    }
    loss.leave(trace, operation, name)
}
