//! One call of a kernel with its inputs: the same in every run and on every machine.

use std::cell::RefCell;

use mlx_rs::Array;

use super::cases::Setting;
use super::draw::{Draw, MemoryLayout};
use super::fill::{self, array, count, lay_out, numbers};
use super::plan::plain;
use super::random::Random;
use crate::dtype::{in_double, is_in_double};
use crate::kernel::binding::bind;
use crate::kernel::declaration::{Body, Declaration, Fallback};
use crate::kernel::dispatch::BoundCall;
use crate::kernel::launch;
use crate::kernel::signature::{Port, PortRole, Signature};
use crate::kernel::value::{ConstantValue, Content, PortValue, ScalarValue};
use crate::tensor::{Origin, TraceId};
use crate::transform::vjp_arrays;
use crate::{Constant, Dtype, Error, Indices, Infer, Mask, Result, Train};

/// One of the ways to compute the same function.
#[derive(Clone, Copy)]
pub(super) enum Way {
    Kernel,
    Fallback(Fallback),
}

impl Way {
    pub(super) fn name(self) -> &'static str {
        match self {
            Way::Kernel => "kernel",
            Way::Fallback(_) => "fallback",
        }
    }
}

/// The type in which float32 is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precision {
    Single,
    Double,
}

impl Precision {
    pub(super) fn within<R>(self, function: impl FnOnce() -> R) -> R {
        match self {
            Precision::Single => function(),
            Precision::Double => in_double(function),
        }
    }
}

/// The results of one way, on the host.
#[derive(Clone)]
pub(super) struct Computed {
    pub(super) way: Way,
    /// Every visible output, as inference computes it.
    pub(super) outputs: Vec<(&'static Port, Vec<f64>)>,
    /// The float ones among them, as training computes them; nothing where no gradient was taken.
    pub(super) trained: Vec<Vec<f64>>,
    /// The gradient of the outputs' weighted sum at each of [`Experiment::places`], where it is wanted.
    pub(super) gradients: Vec<Option<Vec<f64>>>,
}

pub(super) struct Experiment {
    declaration: &'static Declaration,
    computed_in: Dtype,
    inputs: Vec<PortValue>,
    scalars: Vec<ScalarValue>,
    constants: Vec<(&'static str, ConstantValue)>,
    dtypes: Vec<(&'static str, Dtype)>,
    /// The differentiable inputs.
    pub(super) places: Vec<usize>,
    /// The values of each of them.
    pub(super) values: Vec<Vec<f64>>,
    /// Whether its gradient is wanted.
    pub(super) wants: Vec<bool>,
    layout: MemoryLayout,
    /// The weights of the elements of each visible float output in the sum that is differentiated.
    pub(super) weights: Vec<Vec<f64>>,
    weight_ports: Vec<(&'static Port, Vec<i32>)>,
    /// The results that were computed already, by way and precision.
    known: RefCell<Vec<(&'static str, bool, Outputs)>>,
}

/// Every visible output.
type Outputs = Vec<(&'static Port, Vec<f64>)>;

impl Experiment {
    /// Inputs and weights that are rounded to `rounded_to` and then held in `computed_in`, wherever a dtype parameter
    /// allows these.
    pub(super) fn new(
        declaration: &'static Declaration,
        setting: &Setting,
        draw: &Draw,
        rounded_to: Dtype,
        computed_in: Dtype,
    ) -> Result<Self> {
        let signature = declaration.signature;
        let mut random = Random::INPUTS;
        let rounded = |values: &[f32], shape: &[i32], port: &Port| -> Result<Array> {
            let rounded = Constant::from_slice(values, shape)?.cast(signature.dtype_near(port.dtype, rounded_to))?;
            Ok(rounded.cast(signature.dtype_near(port.dtype, computed_in))?.array().clone())
        };
        let (mut inputs, mut places, mut held) = (Vec::new(), Vec::new(), Vec::new());
        for (place, port) in signature.inputs.iter().enumerate() {
            if setting.absent.contains(&port.name) {
                inputs.push(PortValue::absent());
                continue;
            }
            let fail = |message: String| Error::Kernel { kernel: signature.name, port: Some(port.name), message };
            let shape = shape_of(port, setting)
                .ok_or_else(|| fail(format!("{} has no value at {setting}", port.shape_text)))?;
            let layout = draw.layout.of(place);
            inputs.push(match port.role {
                PortRole::Differentiable | PortRole::Constant => {
                    let values = fill::floats(port, draw, count(&shape), &mut random);
                    let array = rounded(&values, &shape, port)?;
                    if port.role == PortRole::Differentiable {
                        places.push(place);
                        held.push(numbers(&array)?);
                        PortValue::float(array)
                    } else {
                        PortValue::from(Constant::from_array(lay_out(array, layout)?))
                    }
                }
                _ => {
                    let values = fill::integers(port, setting, draw, &shape, &mut random)
                        .ok_or_else(|| fail(format!("its range has no value at {setting}")))?;
                    if port.role == PortRole::Index {
                        let dtype = signature.dtype_near(port.dtype, Dtype::I32);
                        let indices = Indices::from_integers(&values, dtype, &shape)?;
                        let array = lay_out(indices.array().clone(), layout)?;
                        PortValue::from(indices.stored_as(array))
                    } else {
                        let values: Vec<bool> = values.iter().map(|value| *value == 1).collect();
                        let array = lay_out(Mask::from_slice(&values, &shape)?.array().clone(), layout)?;
                        PortValue::from(Mask::from_array(array))
                    }
                }
            });
        }
        let scalars = signature.scalars.iter().map(|scalar| {
            let drawn = draw.scalars.iter().find(|(name, _)| *name == scalar.name);
            drawn.map_or_else(|| plain(scalar), |(_, value)| *value)
        });
        let free = signature.constants.iter().filter(|constant| constant.bound.is_none());
        let constants =
            free.filter_map(|constant| Some((constant.name, ConstantValue(setting.value(constant.name)?)))).collect();
        let ignored = declaration.backward().map_or(&[][..], |backward| backward.signature.ignores);
        let mut random = Random::WEIGHTS;
        let (mut weights, mut weight_ports) = (Vec::new(), Vec::new());
        for port in signature.visible_outputs().filter(|port| signature.dtype_near(port.dtype, computed_in).is_float())
        {
            let shape = shape_of(port, setting).unwrap_or_default();
            let values: Vec<f32> = (0..count(&shape)).map(|_| random.between(-1.0, 1.0)).collect();
            let mut values = numbers(&rounded(&values, &shape, port)?)?;
            if ignored.contains(&port.name) {
                values.fill(0.0);
            }
            weights.push(values);
            weight_ports.push((port, shape));
        }
        let wants = places.iter().map(|place| draw.wants(signature.inputs[*place].name)).collect();
        let (scalars, layout) = (scalars.collect(), draw.layout);
        Ok(Self {
            declaration,
            computed_in,
            inputs,
            scalars,
            constants,
            dtypes: setting.dtypes.clone(),
            places,
            values: held,
            wants,
            layout,
            weights,
            weight_ports,
            known: RefCell::default(),
        })
    }

    /// Shows the launch that the kernel's body is, as if residuals and all gradients were wanted.
    pub(super) fn with_launch<R>(&self, ask: impl FnOnce(&launch::LaunchRequest<'_>) -> Result<R>) -> Result<R> {
        let signature = self.declaration.signature;
        let Body::Launch(launch) = &self.declaration.body else {
            let message = "its body is no launch".to_owned();
            return Err(Error::Kernel { kernel: signature.name, port: None, message });
        };
        let constants: Vec<_> = self.constants.iter().map(|(name, value)| (*name, value.0)).collect();
        let symbols = bind(signature, &self.inputs, &constants, &self.dtypes)?;
        let mut inputs = self.inputs.clone();
        launch::hold_places(signature, &symbols, &mut inputs);
        let absent: Vec<bool> = inputs.iter().map(PortValue::is_absent).collect();
        let inputs: Vec<&Array> = inputs.iter().map(PortValue::array).collect();
        let wants = vec![self.declaration.is_backward(); signature.outputs.len()];
        ask(&launch::LaunchRequest {
            declaration: self.declaration,
            launch,
            inputs: &inputs,
            absent: &absent,
            symbols: &symbols,
            scalars: &self.scalars,
            saves: true,
            wants: if self.declaration.is_backward() { &wants } else { &[] },
        })
    }

    /// The input at `position` of [`Self::places`].
    pub(super) fn port(&self, position: usize) -> &'static Port {
        &self.declaration.signature.inputs[self.places[position]]
    }

    /// Returns whether the gradient of the input at `position` is meant not to be the derivative.
    pub(super) fn differs(&self, position: usize) -> bool {
        self.port(position).differs(self.declaration).is_some()
    }

    pub(super) fn is_float(&self, port: &Port) -> bool {
        self.declaration.signature.dtype_near(port.dtype, self.computed_in).is_float()
    }

    /// The differentiable inputs, with `change` added to each element of the one at a position.
    fn primals(&self, change: Option<(usize, &dyn Fn(usize) -> f64)>) -> Result<Vec<Array>> {
        let primal = |(position, values): (usize, &Vec<f64>)| {
            let place = self.places[position];
            let dtype = self.declaration.signature.dtype_near(self.port(position).dtype, self.computed_in);
            let moved: Vec<f64>;
            let values = match change {
                Some((changed, change)) if changed == position => {
                    moved = values.iter().enumerate().map(|(index, value)| value + change(index)).collect();
                    &moved
                }
                _ => values,
            };
            array(values, self.inputs[place].array().shape(), dtype, self.layout.of(place))
        };
        self.values.iter().enumerate().map(primal).collect()
    }

    /// The visible outputs, as inference computes them.
    pub(super) fn run(&self, way: Way) -> Result<Vec<Array>> {
        self.run_at(way, None)
    }

    fn run_at(&self, way: Way, change: Option<(usize, &dyn Fn(usize) -> f64)>) -> Result<Vec<Array>> {
        let request = self.request(&self.primals(change)?, &vec![Origin::HOST; self.places.len()])?;
        let values = match way {
            Way::Kernel => request.run_kernel::<Infer>()?.values,
            Way::Fallback(fallback) => request.run_fallback::<Infer>(fallback)?.values,
        };
        Ok(values.into_iter().flatten().map(|value| value.array().clone()).collect())
    }

    /// All elements of all float outputs, with `change` added to each element of the input at `position`.
    pub(super) fn elements_at(&self, way: Way, position: usize, change: &dyn Fn(usize) -> f64) -> Result<Vec<f64>> {
        let outputs = self.floats(self.run_at(way, Some((position, change)))?);
        Ok(outputs.iter().map(numbers).collect::<Result<Vec<_>>>()?.concat())
    }

    /// The float outputs among all visible ones.
    fn floats(&self, outputs: Vec<Array>) -> Vec<Array> {
        let ports = self.declaration.signature.visible_outputs();
        ports.zip(outputs).filter(|(port, _)| self.is_float(port)).map(|(_, output)| output).collect()
    }

    /// Every visible output, as inference computes it.
    pub(super) fn outputs(&self, way: Way) -> Result<Outputs> {
        let is_known = |(name, in_double, _): &&(_, bool, _)| (*name, *in_double) == (way.name(), is_in_double());
        if let Some((_, _, outputs)) = self.known.borrow().iter().find(is_known) {
            return Ok(outputs.clone());
        }
        let outputs = self.run(way)?;
        let ports = self.declaration.signature.visible_outputs();
        let outputs: Outputs =
            ports.zip(&outputs).map(|(port, values)| Ok((port, numbers(values)?))).collect::<Result<_>>()?;
        self.known.borrow_mut().push((way.name(), is_in_double(), outputs.clone()));
        Ok(outputs)
    }

    /// Outputs and gradients.
    pub(super) fn compute(&self, way: Way) -> Result<Computed> {
        let outputs = self.outputs(way)?;
        let (trained, gradients) = self.gradients(way)?;
        Ok(Computed { way, outputs, trained, gradients })
    }

    /// Outputs and gradients of a training graph alone: without its integer outputs, if a gradient is taken.
    pub(super) fn train(&self, way: Way) -> Result<Computed> {
        let (trained, gradients) = self.gradients(way)?;
        if trained.is_empty() {
            return self.compute(way);
        }
        let ports = self.declaration.signature.visible_outputs().filter(|port| self.is_float(port));
        let outputs = ports.zip(trained.iter().cloned()).collect();
        Ok(Computed { way, outputs, trained, gradients })
    }

    /// The float outputs of a training graph, and the gradient of their weighted sum for each of [`Self::places`].
    #[allow(clippy::type_complexity, reason = "two lists, named in the documentation")]
    pub(super) fn gradients(&self, way: Way) -> Result<(Vec<Vec<f64>>, Vec<Option<Vec<f64>>>)> {
        if self.places.is_empty() || self.weights.is_empty() || !self.wants.contains(&true) {
            return Ok((Vec::new(), vec![None; self.places.len()]));
        }
        let cotangents = self.weights.iter().zip(&self.weight_ports).enumerate();
        let cotangents = cotangents.map(|(number, (values, (port, shape)))| {
            let dtype = self.declaration.signature.dtype_near(port.dtype, self.computed_in);
            array(values, shape, dtype, self.layout.of(self.inputs.len() + number))
        });
        let cotangents = cotangents.collect::<Result<Vec<_>>>()?;
        let trace = TraceId::fresh();
        let origins: Vec<Origin> = self.wants.iter().map(|wanted| Origin::new(trace, *wanted)).collect();
        let function = |primals: &[Array]| {
            let request = self.request(primals, &origins)?;
            let values = match way {
                Way::Kernel => request.run_kernel::<Train>()?.values,
                Way::Fallback(fallback) => request.run_fallback::<Train>(fallback)?.values,
            };
            Ok(self.floats(values.into_iter().flatten().map(|value| value.array().clone()).collect()))
        };
        let name = self.declaration.signature.name;
        let (trained, gradients) = vjp_arrays(name, function, &self.primals(None)?, &cotangents)?;
        let trained = trained.iter().map(numbers).collect::<Result<_>>()?;
        let gradients = gradients.iter().zip(&self.wants);
        let gradients = gradients.map(|(gradient, wanted)| wanted.then(|| numbers(gradient)).transpose());
        Ok((trained, gradients.collect::<Result<_>>()?))
    }

    fn request(&self, primals: &[Array], origins: &[Origin]) -> Result<BoundCall> {
        let mut inputs = self.inputs.clone();
        for ((place, primal), origin) in self.places.iter().zip(primals).zip(origins) {
            inputs[*place] = PortValue(Content::Tensor(primal.clone(), *origin));
        }
        BoundCall::new(self.declaration, inputs, &self.scalars, &self.constants, &self.dtypes)
    }
}

/// The shape of a port, if every extent has a value there.
pub(super) fn shape_of(port: &Port, setting: &Setting) -> Option<Vec<i32>> {
    let value_of = |name: &str| setting.value(name);
    let extents = port.shape.iter().map(|extent| extent.value.evaluate(&value_of));
    extents.map(|extent| i32::try_from(extent?).ok().filter(|extent| *extent >= 0)).collect()
}

/// The float dtypes a kernel is checked in, float32 first: it has a class with each of them, or no class at all. Dtypes that no
/// input settles are not among them, because each case has its own.
pub(super) fn dtypes(signature: &Signature) -> Vec<Dtype> {
    let is_free = |name: &str| signature.free_dtypes().any(|free| free.name == name);
    let settled: Vec<_> = signature.dtypes.iter().filter(|parameter| !is_free(parameter.name)).collect();
    let declared = |dtype: &Dtype| settled.iter().any(|parameter| parameter.class.contains(dtype));
    let floats = [Dtype::F32, Dtype::BF16, Dtype::F16];
    let mut dtypes: Vec<Dtype> = floats.into_iter().filter(declared).collect();
    if dtypes.is_empty() {
        dtypes.push(Dtype::F32);
    }
    dtypes
}
