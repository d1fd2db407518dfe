//! The part that all optimizers share.

use std::collections::{BTreeMap, BTreeSet};

use mlx_rs::{Array, Dtype as MlxDtype};

use crate::error::{Context as _, Error, Result};
use crate::ffi;
use crate::flat::{Flat, FlatLayout};
use crate::identity::Identity;
use crate::in_flight::InFlight;
use crate::mode::{Infer, Stored};
use crate::parameters::{Parameters, Path};
use crate::tensor::{Origin, Tensor};
use crate::transform::{Gradients, check_one_tensor_a_name};

use super::clip::norm_and_last;
use super::layouts::{Kind, flat_gradient, layouts};
use super::rule::{New, Old, Rule};
use super::state::State;

/// An optimizer: a [`Rule`], and what it keeps of the parameters.
///
/// State is float32 for parameters of every dtype, and parameters keep their dtype. A step whose gradients are not
/// finite changes nothing; the device decides this, so that no step waits for it.
///
/// If the rule goes by element, parameters of one dtype are updated side by side in flat arrays. On a GPU such an array
/// has at most 16 Mi elements, unless a single parameter has more. A step copies each gradient into its flat array, and
/// runs the rule's operations once for each flat array (some 35 for [`AdamW`](super::AdamW)), not once for each
/// parameter. The new parameters share the memory of the flat array, and the next step does not copy them. In addition
/// to old and new parameters, gradients and state, a step needs memory for the intermediate results of two flat arrays,
/// each at most the size of the array in float32.
#[derive(Debug, Clone)]
pub struct Optimizer<R> {
    /// The rule of all parameters that are in no group of their own comes first.
    groups: Vec<Group<R>>,
    /// Steps taken, a float32 scalar on the device.
    steps: Array,
    state: State,
    /// The parameters that it has updated: what it keeps is of them.
    updated: BTreeMap<String, Identity>,
}

/// The names of parameters, and their rule.
#[derive(Debug, Clone)]
struct Group<R> {
    rule: R,
    names: BTreeSet<String>,
}

/// The report of a step, which may still be computing: reading it waits for the gradients.
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

    /// Returns whether the parameters changed: false if a gradient was infinite or NaN.
    ///
    /// # Errors
    /// [`Error::Mlx`] if it cannot be computed.
    pub fn applied(&self) -> Result<bool> {
        self.finite.item()
    }
}

impl<R: Rule> Optimizer<R> {
    /// An optimizer that has taken no step.
    pub fn new(rule: R) -> Self {
        ffi::initialise();
        let groups = vec![Group { rule, names: BTreeSet::new() }];
        Optimizer { groups, steps: Array::from_f32(0.0), state: State::default(), updated: BTreeMap::new() }
    }

    /// Has the parameters called `names` follow `rule`: norms and biases without weight decay, say. A name that was in
    /// another group leaves it.
    pub fn with_group(mut self, rule: R, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let names: BTreeSet<String> = names.into_iter().map(Into::into).collect();
        self.groups.iter_mut().for_each(|group| group.names.retain(|name| !names.contains(name)));
        self.groups.push(Group { rule, names });
        self
    }

    /// The rule of all parameters that are in no group of their own.
    pub fn options(&self) -> &R {
        &self.groups[0].rule
    }

    fn group_of(&self, name: &str) -> usize {
        self.groups.iter().position(|group| group.names.contains(name)).unwrap_or(0)
    }

    /// Makes one step: `parameters` are replaced where `gradients` names them. An optimizer is of one model; one that goes on with
    /// what another keeps is made by [`resume`](Self::resume).
    ///
    /// # Errors
    /// [`Error::Parameter`] if a gradient or a group names no parameter, or a gradient or the state has another shape than
    /// its parameter; [`Error::Refused`] if there are no gradients, if one is another model's or was used in the last step,
    /// if two parameters have one name, or if earlier steps were of another model; [`Error::Other`] unless the learning rate
    /// is a number from 0 on and the rule has [no mistake](Rule::mistake) in its constants; [`Error::Mlx`].
    pub fn update<P>(&mut self, parameters: &mut P, gradients: &Gradients, learning_rate: f32) -> Result<Update>
    where
        P: Parameters<Mode = Stored, In<Stored> = P>,
    {
        let operation = R::OPERATION;
        if !(learning_rate.is_finite() && learning_rate >= 0.0) {
            return Err(Error::Other(format!(
                "`{operation}`: found a learning rate of {learning_rate}, expected a finite number from 0 on"
            )));
        }
        if let Some(mistake) = self.groups.iter().find_map(|group| group.rule.mistake()) {
            return Err(Error::Other(format!("`{operation}`: found {mistake}")));
        }
        let targets = targets(operation, parameters, gradients)?;
        self.check_groups(parameters)?;
        self.check_model(&targets)?;
        self.check_step(&targets, gradients)?;
        let kind = |name: &str| {
            let group = self.group_of(name);
            Kind { dtype: targets[name].dtype(), group, alone: !self.groups[group].rule.by_element() }
        };
        let layouts = layouts(gradients, kind)?;
        let only_layouts = || layouts.iter().map(|(_, layout)| layout);
        let (norm, mut last_gradient) = norm_and_last(only_layouts(), gradients)?;
        let step = SharedValues::new(self, norm, learning_rate)?;
        let mut state = self.state.without(only_layouts())?;
        let before = self.state.of(layouts.iter().map(|(group, layout)| (&self.groups[*group].rule, layout)))?;

        let mut in_flight = InFlight::new(operation);
        // These are evaluated with the first parameters, not before them: the device would wait while that update is
        // built.
        let mut shared: Vec<Array> =
            [&step.norm, &step.finite, &step.steps].into_iter().chain(state.arrays()).cloned().collect();
        let mut updated = BTreeMap::new();
        // The order is reversed, because the last gradients are still in memory from the norm.
        for ((group, layout), before) in layouts.iter().zip(before).rev() {
            let rule = &self.groups[*group].rule;
            let gradient = last_gradient.take().map_or_else(|| flat_gradient(layout, gradients), Ok)?;
            let parameter = match Flat::whole(layout, |piece| targets[&piece.name].place()) {
                Some(flat) => flat.clone(),
                None => layout.join(|piece| Ok(targets[&piece.name].array().clone()))?,
            };
            let (parameter, after) = step.apply((*group, rule), layout, (parameter, gradient, before))?;
            let parts = Flat::new(parameter, layout.clone()).parts()?;
            shared.extend(parts.iter().map(|(array, _)| array).chain(&after).cloned());
            in_flight.start(std::mem::take(&mut shared))?;
            updated.extend(layout.pieces().iter().map(|piece| piece.name.as_str()).zip(parts));
            state.push(rule, layout.clone(), after);
        }
        if layouts.is_empty() {
            in_flight.start(shared)?;
        }
        // Nothing is waited for, so that the next step can be built meanwhile.
        let [norm, finite] = [&step.norm, &step.finite].map(|array| Tensor::from_parts(array.clone(), Origin::HOST));
        // A value is taken once a name, so that a tied weight stays one tensor.
        let stepped =
            |(name, (array, place)): (&str, (Array, _))| (name.to_owned(), targets[name].stepped(array, place));
        let updated: BTreeMap<String, Tensor<Stored>> = updated.into_iter().map(stepped).collect();
        let updated = parameters.convert(&mut Path::root(), &mut |path, parameter| {
            Ok(updated.get(path.as_str()).unwrap_or(parameter).clone())
        })?;
        for (name, parameter) in targets {
            self.updated.insert(name, parameter.identity());
        }
        self.steps = step.steps;
        self.state = state;
        *parameters = updated;
        Ok(Update { norm, finite })
    }

    /// Checks that the parameters are those of earlier steps, except for some that were replaced or renamed.
    fn check_model(&self, targets: &BTreeMap<String, &Tensor<Stored>>) -> Result<()> {
        let is_known = |parameter: &&Tensor<Stored>| {
            self.updated.values().any(|known| known.is_of_same_parameter(parameter.identity()))
        };
        let name = targets.keys().find(|name| self.updated.contains_key(*name));
        match name {
            Some(name) if !targets.values().any(is_known) => Err(Error::Refused {
                operation: R::OPERATION,
                message: format!(
                    "what the optimizer keeps of `{name}` is of another model's parameter of this name: make an optimizer for \
                     each model, or one that goes on from this one's state with `Optimizer::resume`"
                ),
                code: "C21",
            }),
            _ => Ok(()),
        }
    }

    /// Checks that no gradient was used in the last step, because such a gradient belongs to the weights before that step.
    fn check_step(&self, targets: &BTreeMap<String, &Tensor<Stored>>, gradients: &Gradients) -> Result<()> {
        let is_used = |(name, parameter): &(&String, &&Tensor<Stored>)| {
            let taken_at = gradients.taken_at(name).filter(|taken_at| *taken_at != parameter.identity());
            taken_at.is_some_and(|taken_at| self.updated.get(*name) == Some(&taken_at))
        };
        match targets.iter().find(is_used) {
            None => Ok(()),
            Some((name, _)) => Err(Error::Refused {
                operation: R::OPERATION,
                message: format!(
                    "the gradient of `{name}` was used in the last step, and is of the weights before it: take gradients again \
                     after each step, or say that it is meant with `Gradients::moved_to`"
                ),
                code: "C21",
            }),
        }
    }

    /// Checks that groups name only parameters that exist.
    fn check_groups<P: Parameters<Mode = Stored>>(&self, parameters: &P) -> Result<()> {
        let mut missing: BTreeSet<&str> =
            self.groups.iter().flat_map(|group| &group.names).map(String::as_str).collect();
        if !missing.is_empty() {
            parameters.visit(&mut Path::root(), &mut |path, _| {
                missing.remove(path.as_str());
            });
        }
        match missing.first() {
            None => Ok(()),
            Some(name) => Err(Error::Parameter {
                name: (*name).to_owned(),
                message: "named by a group of the optimizer, expected a parameter of that name".into(),
            }),
        }
    }

    /// The state by name, to be saved: `step`, and what the rule keeps of each parameter, such as `<parameter>.m`.
    ///
    /// # Errors
    /// [`Error::Mlx`].
    pub fn state(&self) -> Result<BTreeMap<String, Tensor<Stored>>> {
        let stored = |array: &Array| Tensor::from_parts(array.clone(), Origin::HOST);
        let mut state = BTreeMap::from([(STEP.to_owned(), stored(&self.steps))]);
        for (parameter, arrays) in self.state.by_name()? {
            let names = self.groups[self.group_of(parameter)].rule.state_names();
            state.extend(names.iter().zip(&arrays).map(|(name, array)| (format!("{parameter}.{name}"), stored(array))));
        }
        Ok(state)
    }

    /// Goes on from a saved [`state`](Self::state), as if this optimizer had taken its steps.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `step` is missing, or part of what the rule keeps of a parameter is, or their shapes differ.
    pub fn resumed(mut self, state: &BTreeMap<String, Tensor<Stored>>) -> Result<Self> {
        let find = |name: &str| {
            state.get(name).map(|tensor| tensor.array().clone()).ok_or_else(|| Error::Parameter {
                name: name.to_owned(),
                message: "missing in the saved optimizer state".into(),
            })
        };
        self.steps = find(STEP)?;
        let mut parameters = BTreeSet::new();
        for name in state.keys().filter(|name| *name != STEP) {
            let parameter = name.rsplit_once('.').and_then(|(parameter, suffix)| {
                let known = self.groups[self.group_of(parameter)].rule.state_names();
                known.contains(&suffix).then_some(parameter)
            });
            let Some(parameter) = parameter else {
                let known = self.options().state_names().iter().map(|name| format!("`.{name}`"));
                let message = format!(
                    "found in the optimizer state, expected a name that ends in {}",
                    known.collect::<Vec<_>>().join(" or ")
                );
                return Err(Error::Parameter { name: name.clone(), message });
            };
            parameters.insert(parameter);
        }
        for parameter in parameters {
            let rule = &self.groups[self.group_of(parameter)].rule;
            let find = |name: &&str| find(&format!("{parameter}.{name}"));
            let arrays = rule.state_names().iter().map(find).collect::<Result<_>>()?;
            self.state.push_one(rule, parameter, arrays)?;
        }
        Ok(self)
    }

    /// An optimizer without groups that goes on from a saved [`state`](Self::state).
    ///
    /// # Errors
    /// As [`resumed`](Self::resumed).
    pub fn resume(rule: R, state: &BTreeMap<String, Tensor<Stored>>) -> Result<Self> {
        Optimizer::new(rule).resumed(state)
    }
}

/// The name of the number of steps in a saved state.
const STEP: &str = "step";

/// The parameters that have a gradient.
///
/// # Errors
/// If a gradient has no parameter, or another shape than its parameter.
fn targets<'a, P>(
    operation: &'static str,
    parameters: &'a P,
    gradients: &Gradients,
) -> Result<BTreeMap<String, &'a Tensor<Stored>>>
where
    P: Parameters<Mode = Stored>,
{
    gradients.check_complete(operation)?;
    if gradients.is_empty() {
        let message = "found no gradients, so nothing would change: run a driver with `Gradients` first".to_owned();
        return Err(Error::Refused { operation, message, code: "C20" });
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
    check_one_tensor_a_name(operation, named.iter().map(|(name, identity)| (name.as_str(), *identity)))?;
    named.iter().try_for_each(|(name, identity)| gradients.check_parameter(operation, name, *identity))?;
    match gradients.iter().find(|(name, _)| !targets.contains_key(*name)) {
        Some((name, _)) => Err(Error::Parameter {
            name: name.to_owned(),
            message: "found a gradient, expected a parameter of that name".into(),
        }),
        None => Ok(targets),
    }
}

/// The values that all parameters of one step share, on the device.
struct SharedValues<R: Rule> {
    norm: Array,
    finite: Array,
    steps: Array,
    /// The factor that clips the gradients.
    scale: Array,
    learning_rate: Tensor<Infer>,
    /// The values that all parameters of a group share, for each group.
    shared: Vec<R::Shared>,
}

impl<R: Rule> SharedValues<R> {
    fn new(optimizer: &Optimizer<R>, norm: Array, learning_rate: f32) -> Result<Self> {
        let finite = norm.is_finite().during(R::OPERATION)?;
        let steps = finite.as_dtype(MlxDtype::Float32).and_then(|step| optimizer.steps.add(step));
        let steps = steps.during(R::OPERATION)?;
        let clipped = |max_norm: f32| {
            let factor = Array::from_f32(max_norm).divide(norm.add(Array::from_f32(1e-6))?)?;
            mlx_rs::ops::minimum(Array::from_f32(1.0), factor)
        };
        let scale = optimizer.options().max_norm().map_or_else(|| Ok(Array::from_f32(1.0)), clipped);
        let scale = scale.during(R::OPERATION)?;
        let counted = in_graph(steps.clone());
        let shared = optimizer.groups.iter().map(|group| group.rule.share(&counted)).collect::<Result<_>>()?;
        let learning_rate = in_graph(Array::from_f32(learning_rate));
        Ok(SharedValues { norm, finite, steps, scale, learning_rate, shared })
    }

    /// New parameters and state of one layout.
    fn apply(
        &self,
        (group, rule): (usize, &R),
        layout: &FlatLayout,
        (parameter, gradient, before): (Array, Array, Vec<Array>),
    ) -> Result<(Array, Vec<Array>)> {
        // A rule that does not go by element sees the shape of its one parameter.
        let shape = layout.pieces().first().filter(|_| !rule.by_element()).map(|piece| piece.shape.as_slice());
        let seen = |array: Array| shape.map_or(Ok(array.clone()), |shape| array.reshape(shape)).during(R::OPERATION);
        let gradient = gradient.multiply(&self.scale).during(R::OPERATION)?;
        let float = parameter.as_dtype(MlxDtype::Float32).during(R::OPERATION)?;
        let state: Vec<Tensor<Infer>> = before.iter().cloned().map(in_graph).collect();
        let old = Old {
            parameter: &in_graph(seen(float)?),
            gradient: &in_graph(seen(gradient)?),
            state: &state,
            learning_rate: &self.learning_rate,
        };
        let New { parameter: new, state } = rule.apply(&self.shared[group], &old)?;
        let shapes_hold = old.parameter.shape() == new.shape()
            && state.len() == before.len()
            && state.iter().zip(&before).all(|(after, before)| after.shape() == before.shape());
        if !shapes_hold {
            return Err(Error::Shape {
                operation: R::OPERATION,
                found: format!("{new:?} and {state:?} of the rule"),
                expected: "a parameter and a state of the shapes that they had".into(),
            });
        }
        let keep = |new: &Array, old: &Array| mlx_rs::ops::select(&self.finite, new, old).during(R::OPERATION);
        let new = new.array().as_dtype(parameter.dtype()).and_then(|new| new.reshape(parameter.shape()));
        let new = keep(&new.during(R::OPERATION)?, &parameter)?;
        let state = state.iter().zip(&before).map(|(after, before)| keep(after.array(), before));
        Ok((new, state.collect::<Result<_>>()?))
    }
}

/// The array in a graph without gradients.
fn in_graph(array: Array) -> Tensor<Infer> {
    Tensor::from_parts(array, Origin::HOST)
}
