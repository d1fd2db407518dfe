//! AdamW.

use std::collections::BTreeMap;

use mlx_rs::{Array, Dtype as MlxDtype};

use crate::error::{Context as _, Error, Result};
use crate::ffi;
use crate::mode::Stored;
use crate::parameters::{Parameters, Path};
use crate::tensor::{Origin, Tensor};
use crate::transform::Gradients;

use super::clip::global_norm_array;

const OPERATION: &str = "AdamW::update";

/// The constants of [`AdamW`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWOptions {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the mean of squares.
    pub epsilon: f32,
    /// Decoupled: a parameter shrinks by `learning_rate * weight_decay` of itself each step.
    pub weight_decay: f32,
    /// Gradients are scaled down to this global norm; `None` leaves them.
    pub max_norm: Option<f32>,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        AdamWOptions { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, max_norm: None }
    }
}

/// AdamW with bias correction and decoupled weight decay (Loshchilov and Hutter, 2019, algorithm 2).
///
/// State is float32 whatever the parameters are, and parameters keep their dtype. A step whose gradients are not
/// finite changes nothing; the choice is made on the device, so that no step waits for it.
#[derive(Debug, Clone)]
pub struct AdamW {
    options: AdamWOptions,
    /// Steps taken, a float32 scalar on the device.
    steps: Array,
    moments: BTreeMap<String, Moments>,
}

#[derive(Debug, Clone)]
struct Moments {
    first: Array,
    second: Array,
}

/// What a step reports, evaluated.
#[derive(Debug)]
pub struct Update {
    /// The global norm of the gradients before clipping.
    pub gradient_norm: f32,
    /// Whether the parameters changed: false if a gradient was infinite or NaN.
    pub applied: bool,
}

impl AdamW {
    /// An optimizer that has taken no step.
    pub fn new(options: AdamWOptions) -> Self {
        ffi::initialise();
        AdamW { options, steps: Array::from_f32(0.0), moments: BTreeMap::new() }
    }

    /// The constants.
    pub fn options(&self) -> &AdamWOptions {
        &self.options
    }

    /// One step: `parameters` are replaced where `gradients` names them.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a gradient names no parameter or has another shape; [`Error::Mlx`].
    pub fn update<P>(&mut self, parameters: &mut P, gradients: &Gradients, learning_rate: f32) -> Result<Update>
    where
        P: Parameters<Mode = Stored, In<Stored> = P>,
    {
        let norm = global_norm_array(gradients)?;
        let finite = norm.is_finite().during(OPERATION)?;
        let step = Step::new(self, &norm, &finite, learning_rate)?;

        let mut moments = BTreeMap::new();
        let mut failure = None;
        let updated = parameters.convert(&mut Path::root(), &mut |path, parameter| {
            let Some(gradient) = gradients.get(path.as_str()) else { return Ok(parameter.clone()) };
            check_shape(path, parameter, gradient)?;
            let before = self.moments.get(path.as_str());
            match step.apply(parameter.array(), gradient.array(), before) {
                Ok((parameter, after)) => {
                    moments.insert(path.to_string(), after);
                    Ok(Tensor::from_parts(parameter, Origin::HOST))
                }
                Err(exception) => {
                    failure.get_or_insert_with(|| crate::error::mlx_error(OPERATION, exception.what()));
                    Ok(parameter.clone())
                }
            }
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        if let Some((name, _)) = gradients.iter().find(|(name, _)| !moments.contains_key(*name)) {
            return Err(Error::Parameter {
                name: name.to_owned(),
                message: "found a gradient, expected a parameter of that name".into(),
            });
        }

        let mut arrays = vec![&step.norm, &step.finite, &step.steps];
        updated.visit(&mut Path::root(), &mut |path, tensor| {
            if moments.contains_key(path.as_str()) {
                arrays.push(tensor.array());
            }
        });
        arrays.extend(moments.values().flat_map(|moments| [&moments.first, &moments.second]));
        ffi::evaluate(OPERATION, arrays)?;

        let report = Update {
            gradient_norm: Tensor::<Stored>::from_parts(step.norm.clone(), Origin::HOST).item()?,
            applied: Tensor::<Stored>::from_parts(step.finite.clone(), Origin::HOST).item()?,
        };
        self.steps = step.steps.clone();
        self.moments.extend(moments);
        *parameters = updated;
        Ok(report)
    }

    /// The state by name, to be saved: `step`, and `<parameter>.m`, `<parameter>.v`.
    pub fn state(&self) -> BTreeMap<String, Tensor<Stored>> {
        let stored = |array: &Array| Tensor::from_parts(array.clone(), Origin::HOST);
        let mut state = BTreeMap::from([("step".to_owned(), stored(&self.steps))]);
        for (name, moments) in &self.moments {
            state.insert(format!("{name}.m"), stored(&moments.first));
            state.insert(format!("{name}.v"), stored(&moments.second));
        }
        state
    }

    /// An optimizer that goes on from a saved [`state`](Self::state).
    ///
    /// # Errors
    /// [`Error::Parameter`] if `step` is missing, or one moment of a parameter is.
    pub fn resume(options: AdamWOptions, state: &BTreeMap<String, Tensor<Stored>>) -> Result<Self> {
        let find = |name: &str| {
            state.get(name).map(|tensor| tensor.array().clone()).ok_or_else(|| Error::Parameter {
                name: name.to_owned(),
                message: "missing in the saved optimizer state".into(),
            })
        };
        let mut resumed = AdamW::new(options);
        resumed.steps = find("step")?;
        for name in state.keys().filter(|name| *name != "step") {
            let parameter =
                name.strip_suffix(".m").or_else(|| name.strip_suffix(".v")).ok_or_else(|| Error::Parameter {
                    name: name.clone(),
                    message: "found in the optimizer state, expected `.m` or `.v`".into(),
                })?;
            let moments = Moments { first: find(&format!("{parameter}.m"))?, second: find(&format!("{parameter}.v"))? };
            resumed.moments.insert(parameter.to_owned(), moments);
        }
        Ok(resumed)
    }
}

fn check_shape(path: &Path, parameter: &Tensor<Stored>, gradient: &Tensor<Stored>) -> Result<()> {
    if parameter.shape() == gradient.shape() {
        return Ok(());
    }
    Err(Error::Parameter {
        name: path.to_string(),
        message: format!("found a gradient of shape {:?}, expected {:?}", gradient.shape(), parameter.shape()),
    })
}

/// What all parameters of one step share, as device scalars.
struct Step {
    options: AdamWOptions,
    norm: Array,
    finite: Array,
    steps: Array,
    /// What gradients are multiplied by to clip them.
    scale: Array,
    learning_rate: Array,
    correction1: Array,
    correction2_root: Array,
}

impl Step {
    fn new(optimizer: &AdamW, norm: &Array, finite: &Array, learning_rate: f32) -> Result<Self> {
        let options = optimizer.options;
        let shared = || -> mlx_rs::error::Result<Step> {
            let steps = optimizer.steps.add(finite.as_dtype(MlxDtype::Float32)?)?;
            // 1 - beta^t by expm1: the difference would cost the digits that the first steps need.
            let correction = |beta: f64| {
                mlx_rs::ops::negative(mlx_rs::ops::expm1(steps.multiply(Array::from_f32(beta.ln() as f32))?)?)
            };
            let scale = match options.max_norm {
                Some(max_norm) => mlx_rs::ops::minimum(
                    Array::from_f32(1.0),
                    Array::from_f32(max_norm).divide(norm.add(Array::from_f32(1e-6))?)?,
                )?,
                None => Array::from_f32(1.0),
            };
            Ok(Step {
                options,
                norm: norm.clone(),
                finite: finite.clone(),
                scale,
                learning_rate: Array::from_f32(learning_rate),
                correction1: correction(options.beta1)?,
                correction2_root: correction(options.beta2)?.sqrt()?,
                steps,
            })
        };
        shared().during(OPERATION)
    }

    fn apply(
        &self,
        parameter: &Array,
        gradient: &Array,
        before: Option<&Moments>,
    ) -> mlx_rs::error::Result<(Array, Moments)> {
        let number = |value: f64| Array::from_f32(value as f32);
        let AdamWOptions { beta1, beta2, epsilon, weight_decay, .. } = self.options;
        let zeros = || mlx_rs::ops::zeros_dtype(gradient.shape(), MlxDtype::Float32);
        let (first, second) = match before {
            Some(moments) => (moments.first.clone(), moments.second.clone()),
            None => (zeros()?, zeros()?),
        };
        let old = parameter.as_dtype(MlxDtype::Float32)?;
        let gradient = gradient.as_dtype(MlxDtype::Float32)?.multiply(&self.scale)?;
        let new_first = first.multiply(number(beta1))?.add(gradient.multiply(number(1.0 - beta1))?)?;
        let new_second = second.multiply(number(beta2))?.add(gradient.square()?.multiply(number(1.0 - beta2))?)?;
        let denominator = new_second.sqrt()?.divide(&self.correction2_root)?.add(Array::from_f32(epsilon))?;
        let direction = new_first.divide(&self.correction1)?.divide(denominator)?;
        let decayed = old.subtract(old.multiply(self.learning_rate.multiply(Array::from_f32(weight_decay))?)?)?;
        let new = decayed.subtract(direction.multiply(&self.learning_rate)?)?.as_dtype(parameter.dtype())?;
        let keep = |new: Array, old: &Array| mlx_rs::ops::select(&self.finite, new, old);
        let moments = Moments { first: keep(new_first, &first)?, second: keep(new_second, &second)? };
        Ok((keep(new, parameter)?, moments))
    }
}
