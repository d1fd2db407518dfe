//! One case of a kernel with its inputs: the same in every run and on every machine.

use mlx_rs::Array;

use super::cases::Setting;
use super::random::Random;
use crate::error::Context as _;
use crate::kernel::binding::bind;
use crate::kernel::declaration::{Body, Declaration, Fallback};
use crate::kernel::dispatch::Request;
use crate::kernel::launch;
use crate::kernel::signature::{Port, PortDtype, PortRole, Sample, ScalarKind, Signature};
use crate::kernel::value::{ConstantValue, Content, PortValue, ScalarValue};
use crate::tensor::{Origin, TraceId};
use crate::transform::vjp_arrays;
use crate::{Constant, Dtype, Error, Indices, Infer, Mask, Result, Stored, Tensor, Train};

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

/// What one way computed, on the host.
pub(super) struct Computed {
    pub(super) way: Way,
    /// Every visible output.
    pub(super) outputs: Vec<(&'static Port, Vec<f32>)>,
    /// For each of [`Experiment::places`], the gradient of the outputs' weighted sum.
    pub(super) gradients: Vec<Vec<f32>>,
}

pub(super) struct Experiment {
    declaration: &'static Declaration,
    computed_in: Dtype,
    pub(super) inputs: Vec<PortValue>,
    pub(super) scalars: Vec<ScalarValue>,
    pub(super) constants: Vec<(&'static str, ConstantValue)>,
    /// The differentiable inputs.
    pub(super) places: Vec<usize>,
    /// One for each visible float output, whose weighted sum is what is differentiated.
    weights: Vec<Array>,
}

impl Experiment {
    /// Inputs and weights that are rounded to `rounded_to` and then held in `computed_in`, wherever a dtype parameter
    /// allows these.
    pub(super) fn new(
        declaration: &'static Declaration,
        setting: &Setting,
        rounded_to: Dtype,
        computed_in: Dtype,
    ) -> Result<Self> {
        let signature = declaration.signature;
        let mut random = Random::INPUTS;
        let value_of = |name: &str| setting.value(name);
        let float = |values: &[f32], shape: &[i32], port: &Port| -> Result<Constant> {
            let rounded = Constant::from_slice(values, shape)?.cast(dtype_of(signature, port.dtype, rounded_to))?;
            rounded.cast(dtype_of(signature, port.dtype, computed_in))
        };
        let mut inputs = Vec::new();
        let mut places = Vec::new();
        for (place, port) in signature.inputs.iter().enumerate() {
            if setting.absent.contains(&port.name) {
                inputs.push(PortValue::absent());
                continue;
            }
            let fail = |message: String| Error::Kernel { kernel: signature.name, port: Some(port.name), message };
            let shape = shape_of(port, setting)
                .ok_or_else(|| fail(format!("{} has no value at {setting}", port.shape_text)))?;
            let count = count(&shape);
            inputs.push(match port.role {
                PortRole::Differentiable | PortRole::Constant => {
                    let (low, high) = match port.sample {
                        Sample::Floats(low, high) => (low as f32, high as f32),
                        _ => (-1.0, 1.0),
                    };
                    let values: Vec<f32> = (0..count).map(|_| random.between(low, high)).collect();
                    let constant = float(&values, &shape, port)?;
                    if port.role == PortRole::Differentiable {
                        places.push(place);
                        PortValue::float(constant.array().clone())
                    } else {
                        PortValue::from(constant)
                    }
                }
                PortRole::Index => {
                    let (low, high) = match &port.sample {
                        Sample::Integers(low, high) => (low.evaluate(&value_of), high.evaluate(&value_of)),
                        _ => (Some(0), Some(8)),
                    };
                    let (Some(low), Some(high)) = (low, high) else {
                        return Err(fail(format!("its range has no value at {setting}")));
                    };
                    let values: Vec<i64> = (0..count).map(|_| random.integer(low, high)).collect();
                    let dtype = dtype_of(signature, port.dtype, Dtype::I32);
                    PortValue::from(Indices::from_integers(&values, dtype, &shape)?)
                }
                _ => {
                    let values: Vec<bool> = (0..count).map(|_| random.integer(0, 2) == 1).collect();
                    PortValue::from(Mask::from_slice(&values, &shape)?)
                }
            });
        }
        let scalars = signature.scalars.iter().map(|scalar| match scalar.kind {
            ScalarKind::F32 => ScalarValue::F32(0.5),
            ScalarKind::I32 => ScalarValue::I32(1),
            ScalarKind::U32 => ScalarValue::U32(1),
            ScalarKind::Bool => ScalarValue::Bool(true),
        });
        let free = signature.constants.iter().filter(|constant| constant.bound.is_none());
        let constants =
            free.filter_map(|constant| Some((constant.name, ConstantValue(value_of(constant.name)?)))).collect();
        let mut random = Random::WEIGHTS;
        let mut weights = Vec::new();
        for port in signature.visible_outputs().filter(|port| dtype_of(signature, port.dtype, computed_in).is_float()) {
            let shape = shape_of(port, setting).unwrap_or_default();
            let values: Vec<f32> = (0..count(&shape)).map(|_| random.between(-1.0, 1.0)).collect();
            weights.push(float(&values, &shape, port)?.array().clone());
        }
        Ok(Self { declaration, computed_in, inputs, scalars: scalars.collect(), constants, places, weights })
    }

    /// Shows the launch that the kernel's body is, as if residuals and all gradients were wanted.
    pub(super) fn with_launch<R>(&self, ask: impl FnOnce(&launch::Request<'_>) -> Result<R>) -> Result<R> {
        let signature = self.declaration.signature;
        let Body::Launch(launch) = &self.declaration.body else {
            let message = "its body is no launch".to_owned();
            return Err(Error::Kernel { kernel: signature.name, port: None, message });
        };
        let constants: Vec<_> = self.constants.iter().map(|(name, value)| (*name, value.0)).collect();
        let symbols = bind(signature, &self.inputs, &constants)?;
        let mut inputs = self.inputs.clone();
        launch::hold_places(signature, &symbols, &mut inputs);
        let absent: Vec<bool> = inputs.iter().map(PortValue::is_absent).collect();
        let inputs: Vec<&Array> = inputs.iter().map(PortValue::array).collect();
        let wants = vec![self.declaration.is_backward(); signature.outputs.len()];
        ask(&launch::Request {
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

    /// Elements of all float outputs.
    pub(super) fn float_elements(&self) -> usize {
        self.weights.iter().map(Array::size).sum()
    }

    pub(super) fn is_float(&self, port: &Port) -> bool {
        dtype_of(self.declaration.signature, port.dtype, self.computed_in).is_float()
    }

    pub(super) fn primals(&self) -> Vec<Array> {
        self.places.iter().map(|place| self.inputs[*place].array().clone()).collect()
    }

    /// The visible outputs at `primals`, without gradients.
    pub(super) fn run(&self, way: Way, primals: &[Array]) -> Result<Vec<Array>> {
        let request = self.request(primals, Origin::HOST)?;
        let values = match way {
            Way::Kernel => request.run_kernel::<Infer>()?.values,
            Way::Fallback(fallback) => request.run_fallback::<Infer>(fallback)?.values,
        };
        Ok(values.into_iter().flatten().map(|value| value.array().clone()).collect())
    }

    /// The weights' inner product with the float outputs at `primals`.
    pub(super) fn weighted_sum(&self, way: Way, primals: &[Array]) -> Result<f64> {
        let mut sum = 0.0;
        for (weights, output) in self.weights.iter().zip(self.floats(self.run(way, primals)?)) {
            let (weights, output) = (read(weights.clone())?, read(output)?);
            sum += weights.iter().zip(&output).map(|(w, y)| f64::from(*w) * f64::from(*y)).sum::<f64>();
        }
        Ok(sum)
    }

    /// The float outputs among all visible ones.
    pub(super) fn floats(&self, outputs: Vec<Array>) -> Vec<Array> {
        let ports = self.declaration.signature.visible_outputs();
        ports.zip(outputs).filter(|(port, _)| self.is_float(port)).map(|(_, output)| output).collect()
    }

    /// Outputs and gradients.
    pub(super) fn compute(&self, way: Way) -> Result<Computed> {
        let outputs = self.run(way, &self.primals())?.into_iter().map(read);
        let ports = self.declaration.signature.visible_outputs();
        let outputs = ports.zip(outputs).map(|(port, values)| Ok((port, values?))).collect::<Result<Vec<_>>>()?;
        Ok(Computed { way, outputs, gradients: self.gradients(way, &self.weights)? })
    }

    /// The gradient of the float outputs' inner product with `cotangents`, for each of [`Self::places`].
    pub(super) fn gradients(&self, way: Way, cotangents: &[Array]) -> Result<Vec<Vec<f32>>> {
        if self.places.is_empty() || cotangents.is_empty() {
            return Ok(Vec::new());
        }
        let trace = TraceId::fresh();
        let function = |primals: &[Array]| {
            let request = self.request(primals, Origin::of(trace, true))?;
            let values = match way {
                Way::Kernel => request.run_kernel::<Train>()?.values,
                Way::Fallback(fallback) => request.run_fallback::<Train>(fallback)?.values,
            };
            Ok(self.floats(values.into_iter().flatten().map(|value| value.array().clone()).collect()))
        };
        let (_, gradients) = vjp_arrays(self.declaration.signature.name, function, &self.primals(), cotangents)?;
        gradients.into_iter().map(read).collect()
    }

    /// Zeros in the shape of each float output, with a one at element `element` of all of them in a row.
    pub(super) fn one_hot(&self, element: usize) -> Result<Vec<Array>> {
        let mut before = 0;
        let mut cotangents = Vec::new();
        for weights in &self.weights {
            let mut values = vec![0.0_f32; weights.size()];
            if let Some(value) = element.checked_sub(before).and_then(|element| values.get_mut(element)) {
                *value = 1.0;
            }
            before += values.len();
            let array = Constant::from_slice(&values, weights.shape())?.cast(Dtype::from_mlx(weights.dtype()))?;
            cotangents.push(array.array().clone());
        }
        Ok(cotangents)
    }

    /// The primals with `change` added to those at `position` of [`Self::places`].
    pub(super) fn moved(&self, position: usize, change: impl Fn(usize) -> f32) -> Result<Vec<Array>> {
        let mut primals = self.primals();
        let primal = &primals[position];
        let (shape, dtype) = (primal.shape().to_vec(), Dtype::from_mlx(primal.dtype()));
        let values = read(primal.clone())?.into_iter().enumerate().map(|(index, value)| value + change(index));
        let values: Vec<f32> = values.collect();
        primals[position] = Constant::from_slice(&values, &shape)?.cast(dtype)?.array().clone();
        Ok(primals)
    }

    fn request(&self, primals: &[Array], origin: Origin) -> Result<Request> {
        let mut inputs = self.inputs.clone();
        for (place, primal) in self.places.iter().zip(primals) {
            inputs[*place] = PortValue(Content::Tensor(primal.clone(), origin));
        }
        Request::new(self.declaration, inputs, &self.scalars, &self.constants)
    }
}

/// The shape of a port, if every extent has a value there.
pub(super) fn shape_of(port: &Port, setting: &Setting) -> Option<Vec<i32>> {
    let value_of = |name: &str| setting.value(name);
    let extents = port.shape.iter().map(|extent| extent.value.evaluate(&value_of));
    extents.map(|extent| i32::try_from(extent?).ok().filter(|extent| *extent >= 0)).collect()
}

fn count(shape: &[i32]) -> usize {
    shape.iter().map(|extent| *extent as usize).product()
}

/// The elements in float32, whatever they are.
pub(super) fn read(array: Array) -> Result<Vec<f32>> {
    let array = array.as_dtype(mlx_rs::Dtype::Float32).during("check")?;
    Tensor::<Stored>::from_parts(array, Origin::HOST).to_vec::<f32>()
}

/// What a port's dtype is where parameters are `wanted` as far as they can be.
pub(super) fn dtype_of(signature: &Signature, dtype: PortDtype, wanted: Dtype) -> Dtype {
    match dtype {
        PortDtype::Fixed(dtype) => dtype,
        PortDtype::Parameter(name) => {
            let class = signature.dtypes.iter().find(|parameter| parameter.name == name);
            let class = class.map_or(&[][..], |parameter| parameter.class);
            let known = [wanted, Dtype::F32].into_iter().find(|dtype| class.contains(dtype));
            known.or(class.first().copied()).unwrap_or(Dtype::F32)
        }
    }
}

/// The float dtypes a kernel is checked in, float32 first: it has a class with each of them, or no class at all.
pub(super) fn dtypes(signature: &Signature) -> Vec<Dtype> {
    let declared = |dtype: &Dtype| signature.dtypes.iter().any(|parameter| parameter.class.contains(dtype));
    let floats = [Dtype::F32, Dtype::BF16, Dtype::F16];
    let mut dtypes: Vec<Dtype> = floats.into_iter().filter(declared).collect();
    if dtypes.is_empty() {
        dtypes.push(Dtype::F32);
    }
    dtypes
}
