//! Values and gradients over named, ordered parameters.

use std::collections::{BTreeMap, BTreeSet};

use mlx_rs::Array;

use crate::dtype::Dtype;
use crate::error::{Context as _, Error, Result};
use crate::ffi::{self, ScopedClosure};
use crate::flat::{Casts, Place};
use crate::mode::{Stored, Train};
use crate::parameters::{Parameters, Path};
use crate::session::Session;
use crate::tensor::{Origin, Tensor, TraceId};

/// The names of the parameters that train; all others are frozen, and cost nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trainable {
    names: BTreeSet<String>,
}

impl Trainable {
    /// Every float parameter of `parameters` whose name `select` picks.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a picked one holds integers: MLX would "differentiate" it.
    pub fn of<P: Parameters<Mode = Stored>>(parameters: &P, select: impl Fn(&str) -> bool) -> Result<Self> {
        let mut names = BTreeSet::new();
        let mut refused = None;
        parameters.visit(&mut Path::root(), &mut |path, tensor| {
            if select(path.as_str()) {
                if !tensor.dtype().is_float() {
                    refused = Some(Error::Parameter {
                        name: path.to_string(),
                        message: format!("found {}, expected a float type: integers cannot train", tensor.dtype()),
                    });
                }
                names.insert(path.to_string());
            }
        });
        refused.map_or(Ok(Trainable { names }), Err)
    }

    /// The parameters of these full names, whatever tree they are in.
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
#[derive(Debug, Clone, Default)]
pub struct Gradients {
    by_name: BTreeMap<String, Tensor<Stored>>,
}

impl Gradients {
    /// No gradients yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The gradient of the parameter of this name: in the parameter's dtype, but for a block's, which may be in the narrower
    /// one that [`Stack::dtype_of_use`](crate::Stack::dtype_of_use) gives.
    pub fn get(&self, name: &str) -> Option<&Tensor<Stored>> {
        self.by_name.get(name)
    }

    /// Names and gradients, in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor<Stored>)> {
        self.by_name.iter().map(|(name, gradient)| (name.as_str(), gradient))
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
        self.by_name.values().map(Tensor::bytes).sum()
    }

    /// Adds to what is there: of tied weights, of micro-batches. A sum is in `dtype`, the parameter's; one gradient alone
    /// stays as it is. What it is now is returned, not evaluated.
    ///
    /// # Errors
    /// [`Error::Mlx`] if the shapes differ.
    pub(crate) fn accumulate(&mut self, name: String, dtype: Dtype, gradient: Array) -> Result<Array> {
        let sum = match self.by_name.get(&name) {
            Some(before) => {
                let [before, gradient] = [before.array(), &gradient].map(|array| array.as_dtype(dtype.to_mlx()));
                before.and_then(|before| before.add(gradient?)).during("accumulate")?
            }
            None => gradient,
        };
        self.by_name.insert(name, Tensor::from_parts(sum.clone(), Origin::HOST));
        Ok(sum)
    }

    pub(crate) fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.by_name.values().map(Tensor::array)
    }
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
    /// Where the parameters lie.
    places: Vec<Option<Place>>,
}

impl TrainableLeaves {
    pub(crate) fn of<P: Parameters<Mode = Stored>>(parameters: &P, prefix: &Path, trainable: &Trainable) -> Self {
        let mut leaves = TrainableLeaves::default();
        parameters.visit(&mut prefix.clone(), &mut |path, tensor| {
            if trainable.contains(path.as_str()) {
                leaves.names.push(path.to_string());
                leaves.dtypes.push(tensor.dtype());
                leaves.primals.push(tensor.array().clone());
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

    /// Adds the gradients of these leaves to `gradients`; returns what they are now, in order.
    pub(crate) fn accumulate(self, found: Vec<Array>, gradients: &mut Gradients) -> Result<Vec<Array>> {
        let named = self.names.into_iter().zip(self.dtypes).zip(found);
        named.map(|((name, dtype), gradient)| gradients.accumulate(name, dtype, gradient)).collect()
    }
}

/// The tree as training tensors, its trainable leaves replaced by `primals` (in visiting order), which are
/// `differentiated` or only read.
pub(crate) fn with_primals<P: Parameters<Mode = Stored>>(
    parameters: &P,
    prefix: &Path,
    trainable: &Trainable,
    (trace, differentiated): (TraceId, bool),
    primals: &[Array],
) -> Result<P::In<Train>> {
    let mut primals = primals.iter();
    parameters.convert(&mut prefix.clone(), &mut |path, tensor| {
        if !trainable.contains(path.as_str()) {
            return Ok(tensor.in_mode(Origin::of(trace, false)));
        }
        let primal = primals.next().ok_or_else(|| Error::Parameter {
            name: path.to_string(),
            message: "the tree visits and converts its leaves differently".into(),
        })?;
        Ok(Tensor::from_parts(primal.clone(), Origin::of(trace, differentiated)))
    })
}

/// A scalar f32 loss, and its gradient with respect to the `trainable` leaves of `parameters`.
///
/// `loss` is a `fn` item: what it reads are its arguments. Both results are evaluated.
///
/// # Errors
/// What `loss` returns; [`Error::Shape`] unless its result is a scalar; [`Error::Mlx`].
pub fn value_and_grad<P: Parameters<Mode = Stored>, B>(
    session: &mut Session,
    parameters: &P,
    trainable: &Trainable,
    batch: &B,
    loss: fn(&P::In<Train>, &B) -> Result<Tensor<Train>>,
) -> Result<(Tensor<Stored>, Gradients)> {
    let operation = "value_and_grad";
    let _running = session.run();
    let root = Path::root();
    let leaves = TrainableLeaves::of(parameters, &root, trainable);
    let trace = TraceId::fresh();
    let function = |primals: &[Array]| {
        let value = loss(&with_primals(parameters, &root, trainable, (trace, true), primals)?, batch)?;
        Ok(vec![scalar_loss(operation, value)?])
    };
    let (value, gradients) = if leaves.is_empty() {
        (function(&[])?, Vec::new())
    } else {
        vjp_arrays(operation, function, &leaves.primals, &[Array::from_f32(1.0)])?
    };
    let mut result = Gradients::new();
    leaves.accumulate(gradients, &mut result)?;
    ffi::evaluate(operation, value.iter().chain(result.arrays()))?;
    Ok((Tensor::from_parts(value[0].clone(), Origin::HOST), result))
}

/// A loss as the array MLX differentiates.
pub(crate) fn scalar_loss(operation: &'static str, value: Tensor<Train>) -> Result<Array> {
    if !value.shape().is_empty() || value.dtype() != Dtype::F32 {
        return Err(Error::Shape {
            operation,
            found: format!("a loss of {} {:?}", value.dtype(), value.shape()),
            expected: "a scalar of float32: sum it, and cast it".into(),
        });
    }
    Ok(value.into_array())
}
