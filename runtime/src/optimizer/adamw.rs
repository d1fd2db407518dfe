//! AdamW.

use std::collections::BTreeMap;

use mlx_rs::{Array, Dtype as MlxDtype};

use crate::error::{Context as _, Error, Result};
use crate::ffi;
use crate::flat::Flat;
use crate::in_flight::InFlight;
use crate::mode::Stored;
use crate::parameters::{Parameters, Path};
use crate::tensor::{Origin, Tensor};
use crate::transform::{Gradients, check_one_tensor_a_name};

use super::clip::norm_and_last;
use super::layouts::{flat_gradient, layouts};
use super::moments::{Moments, MomentsByLayout};

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
///
/// Parameters of one dtype are updated side by side in flat arrays, of 16 Mi elements at most on a GPU unless a parameter
/// alone has more: a step computes a copy of each gradient into its flat array, and some 35 operations on each flat array,
/// whatever the number of parameters in it. The new parameters share its memory, and the next step does not copy them.
/// Beside parameters, gradients and state, old and new, a step needs memory for the intermediate results of two flat arrays,
/// each the size of the array in float32 at most.
#[derive(Debug, Clone)]
pub struct AdamW {
    options: AdamWOptions,
    /// Steps taken, a float32 scalar on the device.
    steps: Array,
    moments: MomentsByLayout,
}

/// What a step reports, which may still be under way: to read it is to wait for the gradients.
#[derive(Debug)]
pub struct Update {
    norm: Tensor<Stored>,
    finite: Tensor<Stored>,
}

impl Update {
    /// The global norm of the gradients before clipping.
    ///
    /// # Errors
    /// [`Error::Mlx`] if it cannot be computed.
    pub fn gradient_norm(&self) -> Result<f32> {
        self.norm.item()
    }

    /// Whether the parameters changed: false if a gradient was infinite or NaN.
    ///
    /// # Errors
    /// [`Error::Mlx`] if it cannot be computed.
    pub fn applied(&self) -> Result<bool> {
        self.finite.item()
    }
}

impl AdamW {
    /// An optimizer that has taken no step.
    pub fn new(options: AdamWOptions) -> Self {
        ffi::initialise();
        AdamW { options, steps: Array::from_f32(0.0), moments: MomentsByLayout::default() }
    }

    /// The constants.
    pub fn options(&self) -> &AdamWOptions {
        &self.options
    }

    /// One step: `parameters` are replaced where `gradients` names them.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a gradient names no parameter or has another shape; [`Error::Refused`] if there are none,
    /// if one is another model's, or if two parameters have one name; [`Error::Mlx`].
    pub fn update<P>(&mut self, parameters: &mut P, gradients: &Gradients, learning_rate: f32) -> Result<Update>
    where
        P: Parameters<Mode = Stored, In<Stored> = P>,
    {
        let targets = targets(parameters, gradients)?;
        let layouts = layouts(gradients, |name| targets[name].dtype())?;
        let (norm, mut last_gradient) = norm_and_last(&layouts, gradients)?;
        let finite = norm.is_finite().during(OPERATION)?;
        let step = Step::new(self, &norm, &finite, learning_rate)?;
        let mut moments = self.moments.without(&layouts)?;

        let mut in_flight = InFlight::new(OPERATION);
        // With the first parameters, not before them: the device shall not wait while their update is put together.
        let mut shared: Vec<Array> =
            [&step.norm, &step.finite, &step.steps].into_iter().chain(moments.arrays()).cloned().collect();
        let mut updated = BTreeMap::new();
        // Backwards: the last gradients are still there as the norm was taken of them.
        for (layout, before) in layouts.iter().zip(self.moments.of(&layouts)?).rev() {
            let (parameter, after) = {
                let gradient = last_gradient.take().map_or_else(|| flat_gradient(layout, gradients), Ok)?;
                let parameter = match Flat::whole(layout, |piece| targets[&piece.name].place()) {
                    Some(flat) => flat.clone(),
                    None => layout.join(|piece| Ok(targets[&piece.name].array().clone()))?,
                };
                step.apply(&parameter, &gradient, &before).during(OPERATION)?
            };
            let parts = Flat::new(parameter, layout.clone()).parts()?;
            shared.extend(parts.iter().map(|(array, _)| array).chain(after.arrays()).cloned());
            in_flight.start(std::mem::take(&mut shared))?;
            updated.extend(layout.pieces().iter().map(|piece| piece.name.as_str()).zip(parts));
            moments.push(layout.clone(), after);
        }
        if layouts.is_empty() {
            in_flight.start(shared)?;
        }
        // Nothing is waited for: the next step is put together meanwhile.
        let [norm, finite] = [&step.norm, &step.finite].map(|array| Tensor::from_parts(array.clone(), Origin::HOST));
        // Once a name, so that a tied weight stays one.
        let stepped =
            |(name, (array, place)): (&str, (Array, _))| (name.to_owned(), targets[name].stepped(array, place));
        let updated: BTreeMap<String, Tensor<Stored>> = updated.into_iter().map(stepped).collect();
        let updated = parameters.convert(&mut Path::root(), &mut |path, parameter| {
            Ok(updated.get(path.as_str()).unwrap_or(parameter).clone())
        })?;
        self.steps = step.steps.clone();
        self.moments = moments;
        *parameters = updated;
        Ok(Update { norm, finite })
    }

    /// The state by name, to be saved: `step`, and `<parameter>.m`, `<parameter>.v`.
    ///
    /// # Errors
    /// [`Error::Mlx`].
    pub fn state(&self) -> Result<BTreeMap<String, Tensor<Stored>>> {
        let stored = |array: &Array| Tensor::from_parts(array.clone(), Origin::HOST);
        let mut state = BTreeMap::from([("step".to_owned(), stored(&self.steps))]);
        for (name, moments) in self.moments.by_name()? {
            state.insert(format!("{name}.m"), stored(&moments.first));
            state.insert(format!("{name}.v"), stored(&moments.second));
        }
        Ok(state)
    }

    /// An optimizer that goes on from a saved [`state`](Self::state).
    ///
    /// # Errors
    /// [`Error::Parameter`] if `step` is missing, or one moment of a parameter is, or their shapes differ.
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
            if name.ends_with(".m") {
                resumed.moments.push_one(parameter, &moments)?;
            }
        }
        Ok(resumed)
    }
}

/// The parameters that have a gradient.
///
/// # Errors
/// If a gradient has no parameter, or another shape than its parameter.
fn targets<'a, P>(parameters: &'a P, gradients: &Gradients) -> Result<BTreeMap<String, &'a Tensor<Stored>>>
where
    P: Parameters<Mode = Stored>,
{
    gradients.check_complete(OPERATION)?;
    if gradients.is_empty() {
        let message = "found no gradients, so nothing would change: run a driver with `Gradients` first".to_owned();
        return Err(Error::Refused { operation: OPERATION, message, code: "C20" });
    }
    let mut targets = BTreeMap::new();
    let mut named = Vec::new();
    let mut refused = None;
    parameters.visit(&mut Path::root(), &mut |path, parameter| {
        let Some(gradient) = gradients.get(path.as_str()) else { return };
        if parameter.shape() != gradient.shape() {
            refused.get_or_insert_with(|| Error::Parameter {
                name: path.to_string(),
                message: format!("found a gradient of shape {:?}, expected {:?}", gradient.shape(), parameter.shape()),
            });
        }
        targets.insert(path.to_string(), parameter);
        named.push((path.to_string(), parameter.identity()));
    });
    if let Some(error) = refused {
        return Err(error);
    }
    check_one_tensor_a_name(OPERATION, named.iter().map(|(name, identity)| (name.as_str(), *identity)))?;
    named.iter().try_for_each(|(name, identity)| gradients.check_parameter(OPERATION, name, *identity))?;
    match gradients.iter().find(|(name, _)| !targets.contains_key(*name)) {
        Some((name, _)) => Err(Error::Parameter {
            name: name.to_owned(),
            message: "found a gradient, expected a parameter of that name".into(),
        }),
        None => Ok(targets),
    }
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

    /// New parameters and moments: of one parameter, or of a flat array.
    fn apply(
        &self,
        parameter: &Array,
        gradient: &Array,
        Moments { first, second }: &Moments,
    ) -> mlx_rs::error::Result<(Array, Moments)> {
        let number = |value: f64| Array::from_f32(value as f32);
        let AdamWOptions { beta1, beta2, epsilon, weight_decay, .. } = self.options;
        let old = parameter.as_dtype(MlxDtype::Float32)?;
        let gradient = gradient.multiply(&self.scale)?;
        let new_first = first.multiply(number(beta1))?.add(gradient.multiply(number(1.0 - beta1))?)?;
        let new_second = second.multiply(number(beta2))?.add(gradient.square()?.multiply(number(1.0 - beta2))?)?;
        let denominator = new_second.sqrt()?.divide(&self.correction2_root)?.add(Array::from_f32(epsilon))?;
        let direction = new_first.divide(&self.correction1)?.divide(denominator)?;
        let decayed = old.subtract(old.multiply(self.learning_rate.multiply(Array::from_f32(weight_decay))?)?)?;
        let new = decayed.subtract(direction.multiply(&self.learning_rate)?)?.as_dtype(parameter.dtype())?;
        let keep = |new: Array, old: &Array| mlx_rs::ops::select(&self.finite, new, old);
        let moments = Moments { first: keep(new_first, first)?, second: keep(new_second, second)? };
        Ok((keep(new, parameter)?, moments))
    }
}
